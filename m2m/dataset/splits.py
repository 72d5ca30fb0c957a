"""Ask which rows are meant if a column says to which split (train, dev, test) each row belongs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from m2m.dataset.mapping import RowMapping
from m2m.dataset.quality import Marked, Where, to_write
from m2m.dataset.templates import field_names, is_empty, names_in, value_at, word_key
from m2m.errors import InputError
from m2m.formats.records import Record

_LOOKED_AT = 200  # rows that show the columns
_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "devtest"), "test"),
    **dict.fromkeys(("holdout", "held_out", "heldout"), "test"),
}
# Words that belong to a split only if the column's name says so.
_NAME = re.compile(r"((data|dataset|original|orig)_?)?(split|set|subset|partition|fold)")
_IS = re.compile(r"(is|in)_?(train(ing)?|dev|val(id(ation)?)?|test|eval)(_?set)?")
_YES, _NO = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))
# The splits that are probably meant, in their order.
_MEANT = {"dataset": ("train",), "target": ("dev", "test")}


class Split(Marked):
    """Rows of several splits are together; `choice` has the rows that can be meant, as `where`."""

    def __init__(self, path: Path, counts: Counter[str], choice: Sequence[Where]) -> None:
        self.choice = [*choice]
        *some, every = map(to_write, choice)
        listed = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common())
        hint = "".join(f"to use one split alone, {line}; " for line in some[:1])
        hint += "".join(f"or {line}; " for line in some[1:])
        hint += "`test_where` picks those of `test`, if it is the same file; " * (len(some) > 1)
        InputError.__init__(
            self,
            f"{path}: the column {choice[0][0]} says that these rows belong to several splits: "
            f"{listed}",
            f"{hint}if all of these rows are meant, {every}",
        )


def refuse_splits(
    path: Path,
    records: Sequence[Record],
    mapping: RowMapping,
    part: Literal["dataset", "target"] = "dataset",
) -> None:
    """Ask which split is meant, unless the mapping names the column.

    A column of any name has splits if its values are words such as train and test. Values without
    "train", and those of columns such as `is_test`, need a name that says so.

    Raises:
        Split: names the column, its values, and the lines of a recipe that settle it.
    """
    known = {name for template in mapping.templates for name in names_in(template)}
    known |= {name for name, _ in mapping.where}
    first = records[:_LOOKED_AT]
    for name in dict.fromkeys(name for r in first for name in field_names(r.fields)):
        if name in known or not _splits(name, first):
            continue
        splits = _splits(name, records)
        if len({*splits.values()} - {""}) < 2:
            continue
        values = (value_at(record.fields, name, missing=None) for record in records)
        counts = Counter(word_key(value) for value in values if not is_empty(value))
        meant = [
            (name, tuple(value for value in counts if splits[value] == split))
            for split in _MEANT[part]
            if split in splits.values()
        ]
        raise Split(path, counts, [*meant, (name, tuple(counts))])


def _splits(name: str, records: Sequence[Record]) -> dict[str, str]:
    """Return the split of each value of a column: train, dev or test; {} for other columns."""
    last = re.sub(r"\W+", "_", name.rpartition(".")[2].strip().lower()).strip("_")
    own = _IS.fullmatch(last)
    splits: dict[str, str] = {}
    for record in records:
        value = value_at(record.fields, name, missing=None)
        if is_empty(value):
            continue
        key = "" if isinstance(value, list | dict) else word_key(value)
        word = re.sub(r"[\s-]+", "_", key.strip().lower())
        split = _flagged(own[2], word) if own else _WORDS.get(word)
        if split is None:
            return {}
        splits[key] = split
    named = own or _NAME.fullmatch(last)
    return splits if named or "train" in splits.values() else {}


def _flagged(name: str, word: str) -> str | None:
    """Return the split of a row with yes or no in a column such as `is_test`."""
    split = _WORDS[name]
    if word in _YES:
        return split
    return ("test" if split == "train" else "train") if word in _NO else None
