"""Types of the columns of a CSV file, as pandas and so `datasets` read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# pandas/_libs/parsers.pyx, STR_NA_VALUES.
_NULLS = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN")
) | frozenset(("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))
_WHOLE = re.compile(r"\s*[-+]?[0-9]+\s*", re.ASCII)
_NUMBER = re.compile(
    r"\s*[-+]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*|[-+]?(inf|infinity)",
    re.ASCII | re.IGNORECASE,
)
_TRUTH = {"true": True, "false": False}
_DIGITS = 20  # of the longest whole number that fits 64 bits


def column_names(cells: Sequence[str]) -> list[str]:
    """Return the names of columns, which all differ (pandas/_libs/parsers.pyx, `_get_header`).

    Args:
        cells: of the header; an empty one becomes "Unnamed: 0" by its place, a second `r` "r.1".
    """
    names = [cell or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    counts: dict[str, int] = {}
    for place in sorted(range(len(cells)), key=lambda place: not cells[place]):
        first = name = names[place]
        while counts.get(name, 0) > 0:
            number = counts[first]
            while f"{first}.{number}" in names:
                number += 1
            counts[first] = number + 1
            name = f"{first}.{number}"
        names[place] = name
        counts[name] = 1
    return names


def typed(cells: Sequence[str]) -> list[Any]:
    """Return a column's values: whole numbers, numbers, booleans or texts; None for empty cells.

    Whole numbers that do not fit 64 bits make texts of all cells, of the empty ones too.
    """
    empty = [cell in _NULLS for cell in cells]
    filled = [cell for cell, is_empty in zip(cells, empty, strict=True) if not is_empty]
    if not filled:
        return [None] * len(cells)
    if all(map(_WHOLE.fullmatch, filled)):
        if not _fit(filled, has_gaps=any(empty)):
            return list(cells)
        kind: Any = float if any(empty) else int
    elif all(map(_NUMBER.fullmatch, filled)):
        kind = float
    elif all(cell.lower() in _TRUTH for cell in filled):
        kind = _truth
    else:
        kind = str
    return [None if gone else kind(cell) for cell, gone in zip(cells, empty, strict=True)]


def _truth(cell: str) -> bool:
    return _TRUTH[cell.lower()]


def _fit(cells: Sequence[str], *, has_gaps: bool) -> bool:
    """Return whether whole numbers fit 64 bits; without a sign only if there are no gaps."""
    if any(len(cell.strip().lstrip("+-0")) > _DIGITS for cell in cells):
        return False
    values = [int(cell) for cell in cells]
    signed = min(values) >= -(2**63) and max(values) < 2**63
    return signed or (not has_gaps and min(values) >= 0 and max(values) < 2**64)
