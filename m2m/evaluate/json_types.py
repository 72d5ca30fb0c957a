"""Types of the columns of JSON rows, as `datasets` reads them (packaged_modules/json/json.py).

Arrow gives a column one type: numbers of which one has a point are all floats, texts that are all
moments are moments, and objects have their fields in the order of the first row. A column that has
no such type is kept as it is, as are objects whose fields differ (there the type `Json`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

# arrow/util/value_parsing.h, ParseTimestampISO8601, for whole seconds.
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d(?::\d\d(?::\d\d)?)?)(?:Z|([-+])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
Rows = list[dict[str, Any]]


def typed_rows(rows: Rows, *, moments: bool = True) -> tuple[Rows, list[str]]:
    """Return rows that have the same fields with the types of their columns.

    A moment becomes the text that a template writes of it: "2020-01-01 00:00:00".

    Args:
        rows: as JSON has them.
        moments: whether texts may be moments.

    Returns:
        The rows, and the names of the columns that have moments.
    """
    made, found = dict[str, list[Any]](), []
    for name in rows[0] if rows else ():
        column = [row[name] for row in rows]
        made[name] = _column(column, _one_type if moments else _numbers)
        if moments and made[name] != column and _column(column, _numbers) != made[name]:
            found.append(name)
    return [{name: made[name][place] for name in row} for place, row in enumerate(rows)], found


def nulled(rows: Rows, *, one_value: bool) -> Rows:
    """Return rows with None for NaN, if `datasets` reads them so; it keeps NaN among numbers alone.

    Args:
        rows: as JSON has them.
        one_value: whether they are the items of an array, not lines.
    """
    made = [_nulled(row) for row in rows]
    if made == rows:  # NaN is not None
        return rows
    columns = [[row[name] for row in rows if name in row] for name in rows[0]]
    return made if one_value or any(map(_is_mixed, columns)) else rows


def _nulled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nulled(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_nulled, value))
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_mixed(values: Sequence[Any]) -> bool:
    """Return whether Arrow has no one type for the values of a column."""
    filled = [value for value in values if value is not None]
    kinds = {float if type(value) is int else type(value) for value in filled}
    if kinds == {list}:
        return _is_mixed([item for value in filled for item in value])
    if kinds == {dict}:
        if any(value.keys() != filled[0].keys() for value in filled):
            return True
        return any(_is_mixed([value[name] for value in filled]) for name in filled[0])
    return len(kinds) > 1


def about_moments(columns: Sequence[str], keys: str) -> list[str]:
    """Return a note about the columns of moments that the keys of a task file name."""
    found = dict.fromkeys(name for name in columns if name in keys)
    if not found:
        return []
    return [
        f"the texts of {', '.join(found):.100} are all dates or times, which lm-eval reads as "
        "moments and writes as 2020-01-31 00:00:00, and so does m2m; to ask other texts, write "
        "them in the data in another form, such as 31 January 2020"
    ]


def _column(values: Sequence[Any], leaf: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return values of one place in all rows with one type, None where they are None."""
    places = [place for place, value in enumerate(values) if value is not None]
    filled = [values[place] for place in places]
    if filled and all(isinstance(value, dict) for value in filled):
        filled = _objects(filled, leaf)
    elif filled and all(isinstance(value, list) for value in filled):
        rest = iter(_column([item for value in filled for item in value], leaf))
        filled = [[next(rest) for _ in value] for value in filled]
    elif filled:
        filled = leaf(filled)
    made = list(values)
    for place, value in zip(places, filled, strict=True):
        made[place] = value
    return made


def _objects(
    values: Sequence[dict[str, Any]], leaf: Callable[[list[Any]], list[Any]]
) -> list[dict[str, Any]]:
    first = values[0]
    if not first or any(value.keys() != first.keys() for value in values):
        return list(values)
    made = {name: _column([value[name] for value in values], leaf) for name in first}
    return [{name: made[name][place] for name in first} for place in range(len(values))]


def _numbers(values: list[Any]) -> list[Any]:
    kinds = set(map(type, values))
    return [float(value) for value in values] if kinds == {int, float} else values


def _one_type(values: list[Any]) -> list[Any]:
    if not isinstance(values[0], str):
        return _numbers(values)
    made = [_moment(value) for value in values]
    return values if None in made else made


def _moment(value: Any) -> str | None:
    """Return the text of a moment in UTC; None if the value is none."""
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return None
    day, time, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day} {time or '00'}")
        away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return str(moment + away if sign == "-" else moment - away)
    except (ValueError, OverflowError):
        return None
