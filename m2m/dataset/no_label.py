"""Leave out rows whose label is -1: collections write it for labels that they keep back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.dataset.templates import is_empty, value_at, word_key
from m2m.errors import InputError
from m2m.formats.records import Record

MISSING = "-1"
_PLACE = re.compile(r"\d+")


@dataclass(frozen=True)
class Labelled:
    """The rows that have a label.

    Attributes:
        records: these rows.
        where: (field, values) that picks them; () if all rows have a label.
        note: the rows that are left out, in words; "" for none.
        doubt: the two meanings that -1 may have; "" for one.
    """

    records: Sequence[Record]
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    note: str = ""
    doubt: str = ""


def labelled(path: Path, records: Sequence[Record], name: str, *, places: bool) -> Labelled:
    """Return the rows whose label is not -1, if -1 is no label among them.

    Args:
        path: named in errors.
        records: the rows.
        name: the column of their labels.
        places: whether labels are the places of choices, or numbers of classes from 0, so that
            -1 cannot be one; else -1 may be the class of negative texts, next to 0 and 1.

    Raises:
        InputError: all labels are -1.
    """
    held: list[Any] = [value_at(record.fields, name, missing=None) for record in records]
    counts = Counter(word_key(value) for value in held if not is_empty(value))
    others = sorted(counts.keys() - {MISSING}, key=lambda key: (len(key), key))
    if MISSING not in counts or not all(map(_PLACE.fullmatch, others)):
        return Labelled(records)
    if not others:
        raise InputError(
            f"{path}: {name} is -1 in all rows: none has a label, as in test sets whose labels are "
            "kept back",
            "use the part of the collection that has labels (often its train or validation part); "
            "to train on the texts alone, write `text` with their column in braces",
        )
    if not places and others in (["1"], ["0", "1"]):
        picks = " ".join(f"--where {name}={key}" for key in others)
        return Labelled(records, doubt=f"; if -1 means that a row has no label, add {picks}")
    kept = [r for r, value in zip(records, held, strict=True) if word_key(value) != MISSING]
    count = len(records) - len(kept)
    note = (
        f"{name} is -1 in {count:,} of {counted(len(records), 'row')}: they have no label and are "
        "left out"
    )
    return Labelled(kept, ((name, tuple(others)),), note)
