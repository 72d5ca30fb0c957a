"""Types of the columns of a CSV file, as pandas and so `datasets` read them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

# pandas/_libs/parsers.pyx, STR_NA_VALUES.
_NULLS = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN")
) | frozenset(("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,18}\s*")
_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def typed(cells: Sequence[str]) -> list[Any]:
    """Return a column's values: whole numbers, numbers, booleans or texts; None for empty cells."""
    empty = [cell in _NULLS for cell in cells]
    filled = [cell for cell, is_empty in zip(cells, empty, strict=True) if not is_empty]
    if not filled:
        return [None] * len(cells)
    if all(map(_WHOLE.fullmatch, filled)):
        kind: Any = float if len(filled) < len(cells) else int
    elif all(map(_NUMBER.fullmatch, filled)):
        kind = _number
    elif all(cell in _TRUTH for cell in filled):
        kind = _TRUTH.__getitem__
    else:
        kind = str
    return [None if gone else kind(cell) for cell, gone in zip(cells, empty, strict=True)]


def _number(cell: str) -> float | None:
    value = float(cell)
    return value if math.isfinite(value) else None
