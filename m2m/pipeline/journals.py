"""Join journals of scored mixtures: nothing twice, and every line checked before one is added.

The key of a line covers everything that can change its scores: adapters, base, targets, merge, type
and build of llama.cpp. A line is used only if this machine computes the same key itself. A line
with the right key and false numbers cannot be detected without scoring again, so lines of other
machines keep the mark `elsewhere`, and `--rescore` sets them aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.errors import InputError
from m2m.formats.atomic import atomic_file, write_bytes
from m2m.formats.journal import Journal, as_line
from m2m.mix.study import READABLE, SCHEMA
from m2m.mix.trial import Trial

ELSEWHERE = "elsewhere"
_SHOWN = 5  # differences that get a warning of their own
_SAME = 1e-3  # allowed difference of two machines: nats, or a fraction of values above 1

Known = dict[str, dict[str, set[int]]]  # places by key and target


def join_journals(into: Path, sources: Iterable[Path]) -> int:
    """Add the lines of other journals that this one does not have; return how many.

    Raises:
        InputError: a line of any of them is malformed; nothing was added.
    """
    lines = new_lines(into, sources)
    if lines:
        with atomic_file(into) as file:
            file.write(Journal(into).whole())
            file.writelines(lines)
    return len(lines)


def join_checks(into: Path, sources: Iterable[Path]) -> int:
    """Copy checks that this journal lacks from other journals; return how many were added."""
    journal, count = Journal(into), 0
    known = {line.get("key") for line in journal.replay()}
    for source in sources:
        for line in Journal(source).replay():
            if line.get("key") not in known and "trial" in line:
                journal.append(line)
                known.add(line.get("key"))
                count += 1
    return count


def new_lines(into: Path | None, sources: Iterable[Path], elsewhere: str = "") -> list[bytes]:
    """Return the lines of other journals that a journal does not have, as bytes to add to it.

    If some examples of a line were scored already, only the others are taken.

    Args:
        into: the journal, which need not exist; None to only check the others.
        sources: journals of this machine or of other machines.
        elsewhere: the folder that they come from, which marks them as not scored here.

    Raises:
        InputError: a line is malformed; names file and line.
    """
    known: Known = {}
    for _, _, trial, seen in _trials(into, known) if into else ():
        trial.without(seen)
    lines = []
    for source in sources:
        for line, key, trial, seen in _trials(source, known):
            part = trial.without(seen)
            if part is None:
                continue
            mark = elsewhere or line.get(ELSEWHERE)
            new = line if part is trial else {"schema": SCHEMA, "key": key, **part.as_json()}
            lines.append(as_line(new | ({ELSEWHERE: mark} if mark else {})))
    return lines


def _trials(
    path: Path, known: Known
) -> Iterator[tuple[dict[str, Any], str, Trial, dict[str, set[int]]]]:
    """Yield each line that this version reads, with its key, its trial, and its key's places."""
    for where, line in Journal(path).lines():
        if line.get("schema") not in READABLE:
            continue
        key = line.get("key")
        if not isinstance(key, str):
            raise InputError(f"{where}: key is {key!r:.40}, expected a string", _RESTORE)
        yield line, key, Trial.from_json(line, where), known.setdefault(key, {})


_RESTORE = "restore the journal from a copy, or move it away to score again"


def set_aside(journal: Path) -> int:
    """Move the lines of other machines out of a journal; return how many.

    They are kept in a second file, for `contradictions`. A kill loses no line; run it again.
    """
    claims = _claims(journal)
    own: list[bytes] = []
    others: list[bytes] = []
    for _, line in Journal(journal).lines():
        (others if ELSEWHERE in line else own).append(as_line(line))
    if others:
        before = Journal(claims).whole()
        write_bytes(claims, before + b"".join(line for line in others if line not in before))
        write_bytes(journal, b"".join(own))
    return len(others)


def claimed_warnings(trials: Sequence[Trial], journal: Path, command: str) -> list[str]:
    """Warn how many of the scores come from other machines, and which of their claims were wrong.

    Args:
        trials: the trials behind the results.
        journal: the journal that holds them.
        command: the m2m command that scores them.
    """
    count = sum(trial.elsewhere for trial in trials)
    warning = f"Scored elsewhere: {count} of {counted(len(trials), 'model')}. Nothing here has "
    warning += f"verified these scores; `m2m {command} RECIPE --rescore` scores these models here."
    return [*([warning] if count else []), *contradictions(journal)]


def contradictions(journal: Path) -> list[str]:
    """List the models whose scores here differ from the claims of other machines."""
    claims: dict[str, list[tuple[str, Trial]]] = {}
    for where, line in Journal(_claims(journal)).lines():
        claimed = Trial.from_json(line, where)
        claims.setdefault(str(line.get("key")), []).append((str(line.get(ELSEWHERE)), claimed))
    sentences: list[str] = []
    for where, line in Journal(journal).lines() if claims else ():
        for folder, claimed in claims.get(str(line.get("key")), ()):
            if ELSEWHERE not in line:
                sentences += _difference(folder, claimed, Trial.from_json(line, where))
    if len(sentences) > _SHOWN:
        return [
            *sentences[:_SHOWN],
            f"{len(sentences) - _SHOWN} more scores differ from what others claimed",
        ]
    return sentences


def _difference(folder: str, claimed: Trial, own: Trial) -> Iterator[str]:
    """Yield a sentence for each target on which a claim differs from the scores made here."""
    for name, scores in own.scores.items():
        other = claimed.scores.get(name)
        if other is None:
            continue
        ours = _by_place(own, name)
        pairs = [(row, ours[p]) for p, row in _by_place(claimed, name).items() if p in ours]
        apart = [_apart(one, two) for one, two in pairs]
        if wrong := [difference for difference in apart if difference > _SAME]:
            yield (
                f"{own.mixture.label}: {folder} claimed other scores on {len(wrong)} of "
                f"{counted(len(pairs), 'example')} of {name} than were found here (largest "
                f"difference {max(wrong):.3g} nats); those of this machine are used"
            )
        elif other.kind != scores.kind:
            yield f"{own.mixture.label}: {folder} claimed scores of another kind of target"


def _by_place(trial: Trial, name: str) -> Mapping[int, list[float]]:
    rows = trial.scores[name].to_json()["loglik"]
    return dict(zip(trial.places.get(name, range(len(rows))), rows, strict=True))


def _apart(one: list[float], two: list[float]) -> float:
    """Return the largest difference of two examples' log-likelihoods, relative if over 1 nat."""
    if len(one) != len(two):
        return float("inf")
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(one, two, strict=True))


def _claims(journal: Path) -> Path:
    return journal.with_name(f"{journal.stem}-elsewhere.jsonl")
