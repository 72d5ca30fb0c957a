"""Find a column that marks some answers as bad, and ask which rows are meant.

A model that is trained on bad answers learns them. People have many marks: true and false (KTO),
"Not approved", a rating from 1 to 5. So a column is judged by its name and by its few values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from m2m.dataset.mapping import RowMapping
from m2m.dataset.templates import field_names, is_empty, names_in, only_name, value_at, word_key
from m2m.dataset.unused import OWN
from m2m.errors import InputError
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

Where = tuple[str, tuple[str, ...]]

_LOOKED_AT = 200  # rows that show the columns inside of objects
_MOST_VALUES = 11  # a scale from 0 to 10
_LONGEST_VALUE = 30  # characters
# Names of columns in which "true", "yes" or 1 is a good answer, or a bad one.
_GOOD_IF_TRUE = re.compile(
    r"((is|was|human|manually|expert)_)?(verified|validated|valid|checked|reviewed|approved|"
    r"accept(ed|able)|correct|good|preferred|preference|desir(ed|able)|keep|kept|usable|helpful|"
    r"useful|safe|clean|thumbs_up|passed|ok|trusted|confirmed|label|liked?|votes?|feedback|"
    r"selected|chosen|best(_answer)?)|"
    r"review_result"
)
_BAD_IF_TRUE = re.compile(
    r"((is|was|has)_)?(flagged|spam|noisy|wrong|invalid|errors?|incorrect|undesir(ed|able)|bad(_source)?|"
    r"cancell?ed|skip(ped)?|rejected|deleted|discarded|unsafe|thumbs_down|hallucinat\w+)"
)
_TRUE, _FALSE = frozenset(("true", "yes", "y", "t", "1")), frozenset(("false", "no", "n", "f", "0"))
# Columns that `m2m init` reads without a question, because tools write them.
MARKS_OF_TOOLS = re.compile(
    r"label|(un)?desirable|thumbs_up|keep|review_result|was_cancelled|(review_|annotation_)?status|"
    r"(is_)?(accepted|approved|correct|valid|good|preferred|rejected|deleted|discarded|bad(_source)?)"
)
# Names of columns with a scale, of numbers or of words such as "low" and "high".
_SCALE = re.compile(
    r"(\w+_)?(ratings?|stars?|scores?|quality|rank|reward|preference|feedback|votes?|label)"
)
_STATUS = re.compile(r"(\w+_)?(status|decision|verdict|state|review|judge?ment)")
_STEP = re.compile(r"-?\d{1,2}([.,][05]0*)?")
_BAD = re.compile(
    "bad|poor|wrong|incorrect|reject(ed)?|discard(ed)?|deleted?|removed?|drop(ped)?|unapproved|"
    "disapproved|declined|denied|invalid|fail(ed)?|unusable|undesirable|undesired|dispreferred|"
    "loser?|worse|unverified|unreliable|noisy|unacceptable|unhelpful|draft|pending|unreviewed|"
    "needs review|to review|ignored?|(thumbs )?down|disliked?|skip(ped)?|cancell?ed|flagged|"
    "\U0001f44e"
)
_GOOD = re.compile(
    "good|great|excellent|ok(ay)?|fine|fair|right|correct|accept(ed)?|approved?|valid|pass(ed)?|"
    "usable|desirable|desired|preferred|chosen|win(ner)?|better|verified|reliable|clean|"
    "acceptable|helpful|final|reviewed|(thumbs )?up|liked?|keep|kept|submitted|neutral|tie|"
    "unsure|unclear|average|\U0001f44d"
)


class Marked(InputError):
    """Some answers may be marked as bad; `choice` has the rows that can be meant, as `where`."""

    def __init__(self, path: Path, name: str, counts: Counter[str], good: Sequence[str]) -> None:
        self.choice: list[Where] = [(name, tuple(good))] * bool(good) + [(name, tuple(counts))]
        listed = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common())
        *some, every = [to_write(where) for where in self.choice]
        hint = f"to use the good ones alone, {some[0]}; " if some else ""
        message = f"{path}: answers may be marked as bad in the column {name}: {listed}"
        super().__init__(message, f"{hint}if all of these rows are meant, {every}")


class Unweighted(Marked):
    """Some rows have the weight 0; `choice` has the others."""

    def __init__(self, path: Path, weights: Counter[str], lines: Sequence[int]) -> None:
        good = tuple(weight for weight in weights if weight not in _FALSE)
        self.choice = [("weight", good)] if 0 < len(good) <= _MOST_VALUES else []
        hint = "; or ".join(["delete these rows", *map(to_write, self.choice)])
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        shown = f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines[:5]))}{more}"
        message = f"{path}: a row of weight 0 is not meant to be trained on ({shown})"
        InputError.__init__(self, message, hint)


def refuse_weights(path: Path, records: Sequence[Record], named: Sequence[str]) -> None:
    """Refuse rows of weight 0, unless the recipe names the weight.

    Raises:
        Unweighted: names the lines, and the rows that are left.
    """
    if "weight" in named:
        return
    weights = [(word_key(r.fields["weight"]), r.line) for r in records if "weight" in r.fields]
    if lines := [line for weight, line in weights if weight in ("0", "false")]:
        raise Unweighted(path, Counter(weight for weight, _ in weights), lines)


def refuse_marks(
    path: Path, records: Sequence[Record], answers: Sequence[str], mapping: RowMapping
) -> None:
    """Ask about a column that may mark answers as bad, unless the mapping names it.

    Raises:
        Marked: names the column, its values, and the lines of a recipe that settle it.
    """
    steps = (only_name(mapping.answer) or "").split(".")
    if any(step.startswith(("rejected", "distractor", "incorrect_answer")) for step in steps):
        message = f"{path}: {mapping.answer} holds the wrong answers"
        raise InputError(message, "name the column of the right ones, as in {chosen}")
    known = {name for template in mapping.templates for name in names_in(template)}
    known |= {name for name, _ in mapping.where} | (set() if mapping.is_custom else OWN)
    if mark := marks(records, answers, known):
        raise Marked(path, *mark)


def marks(
    records: Sequence[Record], answers: Sequence[str] = (), known: Collection[str] = ()
) -> tuple[str, Counter[str], list[str]] | None:
    """Return the column that marks bad answers, its values with counts, and its good values.

    Args:
        records: the rows.
        answers: their answers. A column that only names the answer again, as its class, marks none.
        known: columns that are read.
    """
    names = dict.fromkeys(name for r in records[:_LOOKED_AT] for name in field_names(r.fields))
    for name in names | dict.fromkeys(key for record in records for key in record.fields):
        if name in known or name.split(".")[0] in known:
            continue
        counts = _few(name, records)
        if counts and (good := _good(name, [*counts])) is not None:
            values = [value_at(record.fields, name, missing=None) for record in records]
            pairs = {*zip(map(str, values), answers, strict=False)}
            if len({*answers}) < 2 or not len(pairs) == len({*map(str, values)}) < len(answers):
                return name, counts, good
    return None


def _few(name: str, records: Sequence[Record]) -> Counter[str]:
    """Return the counts of a column's values, if they are few and short; else nothing."""
    counts = Counter[str]()
    for record in records:
        if is_empty(value := value_at(record.fields, name, missing=None)):
            continue
        key = "" if isinstance(value, list | dict) else word_key(value)
        counts[key] += 1
        if not 0 < len(key) <= _LONGEST_VALUE or len(counts) > _MOST_VALUES:
            return Counter()
    return counts if 2 * len(counts) <= len(records) + 2 else Counter()


def _good(name: str, values: Sequence[str]) -> list[str] | None:
    """Return the values that are probably good; None if a column marks no quality."""
    last = re.sub(r"\W+", "_", name.rpartition(".")[2].strip().lower()).strip("_")
    forms = [re.sub(r"(?<=\w)[\s_-]+", " ", value.lower()) for value in values]
    bad = [form for form in forms if _is_bad(form)]
    if {*forms} <= _TRUE | _FALSE | {"-1"}:
        no = _TRUE if _BAD_IF_TRUE.fullmatch(last) else _FALSE | {"-1"}
        named = _GOOD_IF_TRUE.fullmatch(last) or _BAD_IF_TRUE.fullmatch(last)
        bad = [form for form in forms if named and form in no]
    elif all(map(_STEP.fullmatch, forms)):
        best = max(forms, key=lambda form: float(form.replace(",", ".")))
        bad = [form for form in forms if _SCALE.fullmatch(last) and form != best]
    elif _SCALE.fullmatch(last) and last != "label" and len(forms) > 1 and "".join(forms).isalpha():
        bad = bad or [form for form in forms if not _GOOD.fullmatch(form)]
    elif not all(_is_bad(f) or _GOOD.fullmatch(f) or _STATUS.fullmatch(last) for f in forms):
        bad = []
    return [v for v, form in zip(values, forms, strict=True) if form not in bad] if bad else None


def _is_bad(form: str) -> bool:
    return bool(_BAD.fullmatch(form) or (form[:4] == "not " and _GOOD.fullmatch(form[4:])))


def to_write(where: Where) -> str:
    """Return the line of a recipe that picks rows."""
    fields = RowMapping(where=(where,)).as_fields("dataset")
    return f"write where = {toml_value(fields['where'])} in the recipe"
