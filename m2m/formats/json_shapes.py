"""The rows inside one JSON value that is not simply an array of objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from m2m.errors import Problems
from m2m.formats.cells import FIELDS, to_fields
from m2m.formats.rowfile import Fault, Options, Record

# Names that programs give to the list with the rows.
_INSIDE = {"data", "rows", "examples", "items", "records", "instances", "samples", "entries"}
_INSIDE |= {
    "dataset",
    "datasets",
    "questions",
    "results",
    "sentences",
    "documents",
    "faq",
    "faqs",
    "intents",
    "nlu",
}
_FEWEST_WORDS = 20  # texts of an object that is a list of words, or of a program's texts
_SPLITS = {"train", "training", "test", "validation", "valid", "val", "dev", "eval"}
NumberedRows = list[tuple[Any, int]]


def rows_of_object(value: dict[str, Any], line: int, inner: str) -> NumberedRows:
    """Return the rows of a file that is one JSON object, with a number for each.

    The object is one of these: columns ({"prompt": [..]} or pandas's {"prompt": {"0": ..}}),
    pandas's "split" ({"columns", "data"}), rows by id ({"q1": {..}}), rows inside it
    ({"data": [..]}), or else a row itself.

    Args:
        value: the object.
        line: the line on which it begins.
        inner: the key that the user named, or "".

    Raises:
        Fault: several keys have rows, or the columns differ in length.
    """
    if inner:
        key, rest = _named(value, inner)
        chosen = value[key]
        if isinstance(chosen, dict):
            return rows_of_object(chosen, line, rest)
        return _counted(chosen)
    kinds = {type(item) for item in value.values()}
    splits = [key for key, item in value.items() if _is_split(key, item)]
    if splits and len(splits) == len(value):
        return _only(splits, value, line)
    if rows := _of_programs(value):
        return _counted(rows)
    if kinds == {dict} and len(value) > 1:
        return _of_objects(value, line)
    if kinds == {dict} and (key := next(iter(value))).lower() in _INSIDE:
        return _within(key, value[key], line)
    if kinds == {list} and _are_columns(value):
        return _of_lists(value, line)
    inside = [key for key, item in value.items() if _is_rows(item) and not _are_turns(item)]
    named = [key for key in inside if key.lower() in _INSIDE | _SPLITS]
    if not FIELDS & value.keys() and (len(inside) == len(value) > 1 or named):
        return _only(named or inside, value, line)
    if kinds == {str} and len(value) >= _FEWEST_WORDS and not FIELDS & value.keys():
        return _counted([{"key": key, "value": text} for key, text in value.items()])  # a list
    return [(value, line)]


def _of_programs(value: dict[str, Any]) -> list[Any]:
    """Return the rows of pandas's "split", or of a transcript of Whisper; [] for others."""
    names, data, spoken = (value.get(key) for key in ("columns", "data", "segments"))
    if isinstance(names, list) and isinstance(data, list):
        return [names, *data]
    timed = {"start", "end", "text"}
    is_spoken = isinstance(spoken, list) and all(
        isinstance(item, dict) and timed <= item.keys() for item in spoken
    )
    return spoken if isinstance(spoken, list) and is_spoken else []


def _named(value: dict[str, Any], inner: str) -> tuple[str, str]:
    """Return the key that the user named, and the rest of the name.

    Raises:
        Fault: there is no list or object with this key.
    """
    places = [at for at, sign in enumerate(inner) if sign == "/"]
    for end in (len(inner), *places):
        if isinstance(value.get(inner[:end]), dict | list):
            return inner[:end], inner[end + 1 :]
    known = [key for key, item in value.items() if isinstance(item, dict | list)]
    raise Fault(f"has no list called {inner!r:.60}: {_listed(value)}", members=known)


def _is_split(key: str, item: Any) -> bool:
    """Return whether an item has the rows of a split, as columns."""
    return key.lower() in _SPLITS and isinstance(item, dict) and bool(item) and (
        all(isinstance(column, list) for column in item.values())
        and len({len(column) for column in item.values()}) == 1
    )  # fmt: skip


def _within(key: str, value: dict[str, Any], line: int) -> NumberedRows:
    """Return the rows of the only object in another one."""
    try:
        return rows_of_object(value, line, "")
    except Fault as fault:
        fault.members = tuple(f"{key}/{name}" for name in fault.members)
        raise


def _of_objects(value: dict[str, Any], line: int) -> NumberedRows:
    """Read {"prompt": {"0": ..}} as columns and {"q1": {"prompt": ..}} as rows with an id."""
    names = [item.keys() for item in value.values()]
    if any(keys != names[0] for keys in names) or not names[0]:
        common = set(names[0]).intersection(*names)
        if not common:
            return [(value, line)]
    elif all(key.isdigit() for key in names[0]):
        rows = [{name: column[key] for name, column in value.items()} for key in names[0]]
        return _counted(rows)
    return _counted([{**({} if "id" in row else {"id": key}), **row} for key, row in value.items()])


def _are_columns(value: dict[str, Any]) -> bool:
    """Return whether an object of lists has columns, and is not one row or rows by split."""
    lists = [*value.values()]
    if not all(lists) or any(_are_turns(item) for item in lists) or all(map(_is_rows, lists)):
        return False
    inside = [key for key, item in value.items() if _is_rows(item) and key.lower() in _INSIDE]
    if inside and len({*map(len, lists)}) > 1:
        return False  # the others say something about all rows
    return len(lists) > 1 or all(isinstance(item, str) for item in lists[0])


def _of_lists(value: dict[str, Any], line: int) -> NumberedRows:
    """Read {"prompt": [..], "completion": [..]} as columns."""
    lengths = {name: len(column) for name, column in value.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise Fault(f"line {line}: its columns have different lengths: {shown:.200}")
    columns = zip(*value.values(), strict=True)
    return _counted([dict(zip(value, row, strict=True)) for row in columns])


def _only(keys: list[str], value: dict[str, Any], line: int) -> NumberedRows:
    if len(keys) > 1:
        raise Fault(f"has rows under {_listed(keys)}", members=keys)
    inside = value[keys[0]]
    return _counted(inside) if isinstance(inside, list) else _within(keys[0], inside, line)


def rows_of_lists(
    rows: NumberedRows, options: Options, problems: Problems, notes: list[str]
) -> list[Record]:
    """Return rows that are lists, the first of them being the names of the columns.

    `notes` gets the columns that are left out, in words.

    Raises:
        Fault: the first list may be a row already.
    """
    first = rows[0][0]
    named = {str(name).strip().lower() for name in first} & FIELDS
    held = any(isinstance(item, int | float) for item in first)  # a number is a value, not a name
    if options.header == "auto" and held:
        options = replace(options, header="no")
    elif options.header == "auto" and not named:
        shown = ", ".join(f"{item!s:.20}" for item in first[:3])
        raise Fault(
            f"its rows are lists, and the first one ({shown}) may be the names of the columns",
            'write `header = "yes"` below its path in the recipe if it is, or `header = "no"`: the '
            "columns are then called 1, 2, 3 ...",
        )
    # NaN is not equal to itself.
    lists = [(["" if i is None or i != i else i for i in row], line) for row, line in rows]
    records, left_out = to_fields(lists, options, problems, frozenset())
    notes += left_out
    return [*records]


def _counted(rows: list[Any]) -> NumberedRows:
    return [(row, number) for number, row in enumerate(rows, 1)]


def _is_rows(value: Any) -> bool:
    """Return whether a value is a list of objects or lists."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(i, dict | list) for i in value)
    )


def _are_turns(value: Any) -> bool:
    """Return whether a list is one conversation."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and bool({"role", "from", "speaker"} & value[0].keys())
    )


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in [*names][:8]) + (" ..." if len(names) > 8 else "")
