"""`m2m data clean`: write copies of a recipe's datasets without repeated, leaked and noisy rows."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.commands.data_check import repeats
from m2m.dataset.characters import find_faults
from m2m.dataset.checked import Checked, DatasetFile
from m2m.dataset.mapping import RowMapping
from m2m.dataset.noise import cut_texts, find_noise, lopsided, refusals
from m2m.dataset.normal_form import AS_IS, normalised
from m2m.dataset.row_source import RowSource, open_source, options_of
from m2m.dataset.rows import Rows, read_rows
from m2m.dataset.scrub import SCRUBBERS, scrubbed
from m2m.errors import InputError, Problems
from m2m.evaluate.harness import SUFFIXES
from m2m.formats.atomic import write_text
from m2m.formats.json_fields import JsonFields
from m2m.formats.json_text import json_text
from m2m.formats.records import Record
from m2m.formats.rowfile import AS_IT_IS
from m2m.pipeline.inputs import read_tasks
from m2m.pipeline.leaks import Asked
from m2m.recipe import Dataset, Recipe, Target

BAD = "bad row"  # the reason of rows that `bad_rows = "skip"` leaves out
CHANGES = "_changes.jsonl"  # no dataset can have this name


@dataclass(frozen=True)
class Cleaning:
    """The choices of a cleaning.

    Attributes:
        remove: kinds of noise that are taken out of the texts, of `SCRUBBERS`.
        drop: kinds whose rows are dropped: near duplicates, and those of `_noisy`.
        normalise: the Unicode normal form of all texts, also of targets; "as is": unchanged.
    """

    remove: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    normalise: str = AS_IS


@dataclass(frozen=True)
class Cleaned(JsonFields):
    """The copy of one file.

    Attributes:
        name: of the dataset, or of the target and its part.
        setting: of the recipe that names the file: "path", "dev" or "test".
        file: the original, which is not changed.
        out: the copy; None if there is none.
        rows: rows of the original.
        dropped: how many rows were dropped, by reason.
        changed: how many rows were changed, by reason.
        note: why there is no copy, or the parts of the original that were not read; or "".
    """

    name: str
    setting: str
    file: Path
    out: Path | None
    rows: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def kept(self) -> int:
        """Return how many rows the copy has."""
        return self.rows - sum(self.dropped.values())

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m data clean --json`."""
        return {**super().as_json(), "kept": self.kept}


Change = dict[str, Any]


def clean(recipe: Recipe, out: Path, how: Cleaning, *, force: bool = False) -> list[Cleaned]:
    """Write `out`/NAME.jsonl for every dataset, and `_changes.jsonl`; originals are not changed.

    Rows are written as they were in their file, with all their columns. Targets are copied only to
    give them another normal form.

    Raises:
        InputError: a file cannot be read, or a copy exists and `force` is not set.
    """
    refuse_existing(recipe, out, how, force=force)
    asked = [Asked(task) for part in read_tasks(recipe, None) for task in part.values()]
    results, changes, texts = [], list[Change](), dict[Path, str]()
    for dataset in recipe.with_rows:
        kept, listed, result = _cleaned(dataset, out, how, asked)
        texts[out / f"{dataset.name}.jsonl"] = _lines(record.fields for record in kept)
        changes += listed
        results.append(result)
    if how.normalise != AS_IS:
        for target in recipe.targets:
            for part in ("dev", "test"):
                if target.files(part):
                    rows, listed, result = _renormalised(target, part, out, how.normalise)
                    if result.out:
                        texts[result.out] = _lines(rows)
                    changes += listed
                    results.append(result)
    for path, text in {**texts, out / CHANGES: _lines(changes)}.items():
        write_text(path, text)
    return results


def _lines(rows: Any) -> str:
    return "".join(f"{json_text(row)}\n" for row in rows)


def refuse_existing(recipe: Recipe, out: Path, how: Cleaning, *, force: bool) -> None:
    """Refuse to overwrite a file, and always one that the recipe names.

    Raises:
        InputError: names all of them.
    """
    names = [f"{dataset.name}.jsonl" for dataset in recipe.with_rows]
    if how.normalise != AS_IS:
        names += [f"{target.name}-{part}.jsonl" for target in recipe.targets
                  for part in ("dev", "test")]  # fmt: skip
    inputs = [path for dataset in recipe.with_rows for path in dataset.files]
    for target in recipe.targets:
        inputs += [*target.files("dev"), *target.files("test")]
        inputs += [target.shots_from] if target.shots_from else []
    originals = {path.resolve() for path in [*inputs, recipe.path]}
    problems = Problems()
    copies = [out / name for name in [*names, CHANGES]]
    own = [path for path in copies if path.resolve() in originals]
    for path in own or (copies if not force else []):
        if own:
            problems.add(f"{path} is a file of the recipe")
        elif path.exists():
            problems.add(f"{path} exists")
    hint = "name another folder" if own else "name another folder, or add `--force`"
    problems.raise_if_any(InputError, f"{out}: nothing was written", hint)


def _cleaned(
    dataset: Dataset, out: Path, how: Cleaning, asked: Sequence[Asked]
) -> tuple[list[Record], list[Change], Cleaned]:
    """Return the rows of a dataset to write, the changes, and their counts."""
    source, mapping = (
        open_source(dataset.files, options=options_of(dataset)),
        RowMapping.of(dataset),
    )
    originals = source.records
    edits = list(_edits(originals, how))
    records = [after for after, _ in edits]
    source = dataclasses.replace(source, records=tuple(records))
    faults = list[str]()

    def opened() -> tuple[RowSource, Rows]:
        read = read_rows(source, mapping)
        faults.extend(read.problems)
        return source, read

    file = DatasetFile(Checked(dataset.path), opened)
    if file.result.refused:
        problem = next(p for p in file.result.problems if p.refused)
        raise InputError(f"{dataset.path}: {problem.message}", problem.hint)
    reasons = {line: (BAD, fault) for line, fault in map(_placed, faults)}
    reasons |= _reasons(file, how, asked)
    kept, changes = [], list[Change]()
    dropped, changed = Counter[str](), Counter[str]()
    for before, (after, kinds) in zip(originals, edits, strict=True):
        entry = {"dataset": dataset.name, "file": str(dataset.path), "line": before.line}
        if reason := reasons.get(before.line):
            dropped[reason[0]] += 1
            changes.append({**entry, "action": "dropped", "reason": reason[1],
                            "old": before.fields, "new": None})  # fmt: skip
            continue
        kept.append(after)
        if kinds:
            changed.update(kinds)
            old = {key: value for key, value in before.fields.items() if value != after.fields[key]}
            new = {key: after.fields[key] for key in old}
            changes.append({**entry, "action": "changed", "reason": ", ".join(kinds),
                            "old": old, "new": new})  # fmt: skip
    changes += [
        {"dataset": dataset.name, "file": str(dataset.path), "line": line, "action": "dropped",
         "reason": fault, "old": None, "new": None}
        for line, fault in map(_placed, source.faults)
    ]  # fmt: skip
    dropped.update({BAD: source.skipped} if source.skipped else {})
    path = out / f"{dataset.name}.jsonl"
    result = Cleaned(
        dataset.name, "path", dataset.path, path, len(originals) + source.skipped, dropped, changed,
        "; ".join(source.notes),
    )  # fmt: skip
    if not kept:
        raise InputError(f"{dataset.path}: no row would be left", "clean less of it")
    return kept, changes, result


def _placed(fault: str) -> tuple[int, str]:
    """Return the line of a row and its fault, given "line 3: empty"."""
    head, colon, rest = fault.partition(": ")
    place = re.match(r"lines? (\d+)", head)
    return (int(place[1]), rest) if place and colon else (0, fault)


def _edits(records: Sequence[Record], how: Cleaning) -> Iterator[tuple[Record, list[str]]]:
    """Yield each record after all edits, with the kinds of those that changed it."""
    for record in records:
        fields, kinds = record.fields, []
        for kind, change in SCRUBBERS.items():
            if kind in how.remove and (after := scrubbed(fields, change)) != fields:
                fields = after
                kinds.append(kind)
        if (after := normalised(fields, how.normalise)) != fields:
            fields = after
            kinds.append(how.normalise)
        yield Record(fields, record.line), kinds


def _reasons(
    file: DatasetFile, how: Cleaning, asked: Sequence[Asked]
) -> dict[int, tuple[str, str]]:
    """Return (kind, reason in words) of the rows to drop, by line; the first reason counts."""
    lines = [row.line for row in file.rows]
    equal, near, leaks = repeats(file, asked)
    reasons = {lines[i]: ("leak", "also a dev or test question") for i in leaks}
    for place, first in enumerate(equal):
        if first != place:
            reasons.setdefault(lines[place], ("duplicate", f"the same as line {lines[first]}"))
    if "near" in how.drop:
        for place, first in enumerate(near):
            if first != place:
                reason = ("near", f"nearly the same as line {lines[first]}")
                reasons.setdefault(lines[place], reason)
    for kind, places in _noisy(file).items():
        if kind in how.drop:
            for place in places:
                reasons.setdefault(lines[place], (kind, kind))
    return reasons


def _noisy(file: DatasetFile) -> dict[str, list[int]]:
    """Return the places of rows with each kind of noise and damage."""
    texts, answers = file.plain, file.said
    return {
        **find_faults(texts),
        **find_noise(texts),
        "refusal": [i for i in refusals(answers) if file.rows[i].text is None],
        "cut": cut_texts(answers),
        "lopsided": lopsided(*file.sides.values()),
        "echo": file.echoes(),
    }


def _renormalised(
    target: Target, part: str, out: Path, form: str
) -> tuple[list[dict[str, Any]], list[Change], Cleaned]:
    """Return a target's rows in a normal form; nothing else of a target is changed."""
    name, (path, *aligned) = f"{target.name}-{part}", target.files(part)
    # The settings of a target also hold for its other files, which have no copy.
    if path.suffix.lower() in SUFFIXES or aligned or options_of(target) != AS_IT_IS:
        kind = "a task file, aligned files, or a file with its own encoding, header or quotes"
        note = f'{kind} has no copy: write `normalise = "{form}"` under [data] instead'
        return [], [], Cleaned(name, part, path, None, note=note)
    rows, changes = [], list[Change]()
    for record in open_source([path]).records:
        fields = normalised(record.fields, form)
        rows.append(fields)
        if fields != record.fields:
            old = {key: value for key, value in record.fields.items() if value != fields[key]}
            changes.append({"target": name, "file": str(path), "line": record.line,
                            "action": "changed", "reason": form, "old": old,
                            "new": {key: fields[key] for key in old}})  # fmt: skip
    changed = {form: len(changes)} if changes else {}
    return rows, changes, Cleaned(name, part, path, out / f"{name}.jsonl", len(rows), {}, changed)


def recipe_lines(results: Sequence[Cleaned], recipe: Recipe) -> list[tuple[str, str]]:
    """Return for each copy its name and the line of the recipe that names it.

    A copy is UTF-8 and has no bad rows, so settings for reading the original would damage it.
    """
    folder, lines = recipe.path.absolute().parent, []
    obsolete = {
        dataset.name: [key for key, own in vars(options_of(dataset)).items()
                       if own != getattr(AS_IT_IS, key)]
        for dataset in recipe.with_rows
    }  # fmt: skip
    for result in results:
        if result.out is None:
            continue
        path = result.out.absolute()
        try:
            shown = path.relative_to(folder).as_posix()
        except ValueError:
            shown = path.as_posix()
        line = f"{result.setting} = {json.dumps(shown, ensure_ascii=False)}"
        if result.setting == "path" and obsolete[result.name]:
            line += f" (and delete {', '.join(obsolete[result.name])} there)"
        lines.append((result.name, line))
    return lines
