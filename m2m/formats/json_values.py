"""Checks of values from strangers' JSON; each error names the field and the expected value.

JSON has no whole numbers and no limits, and Python reads infinity from it (`1e999`): a file can be
valid JSON and still cause an error much later. All functions raise ValueError, without the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 53  # whole numbers below it are the same in every program
_WHOLE, _REAL, _INFINITE = "a whole number", "a finite number", "infinity"
_STRETCH, _FREE = 16, 1 << 20  # how much larger than its values a padded array may be


def as_object(value: Any, name: str) -> dict[str, Any]:
    """Return the value if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r:.40}, expected an object")
    return value


def as_text(value: Any, name: str, choices: Collection[str] = ()) -> str:
    """Return the value if it is a string, and one of `choices` if there are any."""
    if not isinstance(value, str) or (choices and value not in choices):
        expected = " or ".join(choices) if choices else "a string"
        raise ValueError(f"{name} is {value!r:.40}, expected {expected}")
    return value


def as_whole(value: Any, name: str, low: int = 0, high: int = LARGEST) -> int:
    """Return the value if it is a whole number from `low` to `high`; true and false are not."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number from {low} to {high}")
    return value


def as_real(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return the value as a float if it is a finite number from `low` to `high`."""
    if type(value) not in (int, float) or not _fits(value, low, high):
        ends = f" from {low:g} to {high:g}" if math.isfinite(low) or math.isfinite(high) else ""
        raise ValueError(f"{name} is {value!r:.40}, expected a finite number{ends}")
    return float(value)


def as_seconds(value: Any, name: str) -> float:
    """Return the value if it is a time that a computation may take; sums of such stay finite."""
    return as_real(value, name, 0.0, 1e12)


def as_list(
    value: Any, name: str, kinds: tuple[type, ...], count: int | None = None
) -> Sequence[Any]:
    """Return the value if it is a list with items of these kinds only.

    Args:
        value: a value from JSON.
        name: the field's name.
        kinds: the exact types of the items: bool does not count as int.
        count: how many items it must have; None for any number.
    """
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r:.40}, expected a list")
    if count is not None and len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries, expected {count}")
    if wrong := {*map(type, value)} - {*kinds}:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name} has a value of {wrong.pop().__name__}, expected {names} only")
    return value


def as_wholes(value: Any, name: str, high: int = LARGEST, count: int | None = None) -> list[int]:
    """Return the value if it is a list of whole numbers from 0 to `high`."""
    numbers = list(as_list(value, name, (int,), count))
    if numbers and (min(numbers) < 0 or max(numbers) > high):
        raise ValueError(f"{name} has {min(numbers)} to {max(numbers)}, expected 0 to {high}")
    return numbers


def as_reals(value: Any, name: str, least: int = 0) -> list[float]:
    """Return the value if it is a list of `least` or more finite numbers."""
    numbers = [as_real(number, name) for number in as_list(value, name, (int, float))]
    if len(numbers) < least:
        raise ValueError(f"{name} has {len(numbers)} entries, expected {least} or more")
    return numbers


def as_rows(
    value: Any, name: str, low: float, high: float, lengths: Sequence[int] | None = None
) -> tuple[NDArray[np.float64], list[int]]:
    """Return rows of finite numbers as one array, with nan after short rows, and their lengths.

    Args:
        value: a value from JSON; every row has at least one number.
        name: the field's name.
        low: the smallest allowed number.
        high: the largest allowed number.
        lengths: the lengths that the rows must have; None for any.
    """
    rows = as_list(value, name, (list,))
    counts = [len(row) for row in rows]
    if not all(counts) or (lengths is not None and counts != lengths):
        raise ValueError(f"{name} has rows of other lengths than the rest of the line")
    flat = list(chain.from_iterable(rows))
    if {*map(type, flat)} - {int, float}:
        raise ValueError(f"{name} has a value that is not a number")
    if not all(_fits(number, low, high) for number in flat):
        raise ValueError(f"{name} has a value that is not from {low:g} to {high:g}")
    width = max(counts, default=0)
    if len(rows) * width > _STRETCH * len(flat) + _FREE:
        raise ValueError(f"{name} has a row of {width} numbers, far more than the others")
    array = np.full((len(rows), width), np.nan)
    array[np.arange(width) < np.array(counts, np.int64)[:, None]] = flat
    return array, counts


def refuse_other_kinds(read: Any, written: Any, name: str = "") -> None:
    """Raise if a value of JSON is of another kind than m2m writes for it.

    Python makes numbers from texts ("nan"), texts from numbers, and true or false from everything:
    the inverse of `as_json` alone does not see that a value is of another kind. Values that only
    one side has are not compared, because older versions write less.

    Args:
        read: the JSON of the file.
        written: `as_json` of the value made from it; not finite numbers are null in the file.
        name: the value's name, for the message.

    Raises:
        ValueError: a value is of another kind; names the first one.
    """
    if isinstance(read, dict) and isinstance(written, Mapping):
        for key in read.keys() & {*map(str, written)}:
            refuse_other_kinds(read[key], written[key], f"{name}.{key}" if name else key)
    elif isinstance(read, list) and isinstance(written, list | tuple):
        if len(read) != len(written):
            raise ValueError(f"{name} has {len(read)} entries, expected {len(written)}")
        for number, (one, other) in enumerate(zip(read, written, strict=True)):
            refuse_other_kinds(one, other, f"{name}[{number}]")
    else:
        kind, expected = _kind(read), _kind(written).replace(_INFINITE, "null")
        if kind != expected and (kind, expected) != (_WHOLE, _REAL):
            raise ValueError(f"{name} is {read!r:.40}, expected {expected}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return _WHOLE
    if isinstance(value, float):
        return _REAL if math.isfinite(value) else _INFINITE
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"


def _fits(value: float, low: float, high: float) -> bool:
    return low <= value <= high and abs(value) < math.inf
