"""Rows of JSON in all its shapes: lines, arrays, objects in a row, columns, rows by id or inside.

Lines are read one at a time, and the rows of a large file are not held in memory
(`m2m.formats.spooled`); every other shape is read as a whole.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NoReturn

from m2m.errors import Problems
from m2m.formats.byte_parts import BadLines, ByteSource, encoding_of, whole_text
from m2m.formats.json_shapes import rows_of_lists, rows_of_object
from m2m.formats.rowfile import Fault, Options, Record, numbered
from m2m.formats.spooled import collected

_JSON_SPACE = " \t\r\n"
_SPACES = re.compile(f"[{_JSON_SPACE}]*")
_DEEPEST = 100  # levels of lists and objects in a row; more would exceed Python's own limit
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_LONGEST_PYTHON = 4 << 20  # characters of a file; Python's parser takes 100 times as much memory
_PYTHON = re.compile(r"[\[(]?\s*\{\s*'")
Told = tuple[Problems, list[str]]  # rows that are wrong, and notes about columns
Items = Iterator[tuple[Any, int]]  # values with the line on which each begins


def read_json(
    source: ByteSource,
    inner: str,
    options: Options,
    problems: Problems,
    notes: list[str],
    first: int = 0,
) -> Sequence[Record]:
    """Return the rows of a JSON file.

    Half a surrogate pair (JSON's "\\ud83d" alone, an emoji that somebody cut in two) is read as
    U+FFFD, as tokenizers do; NaN is read as null.

    Args:
        source: the file's bytes.
        inner: the key whose list has the rows, if the file is one object with several; or "".
        options: how it is read.
        problems: gets the rows that are not objects.
        notes: gets the columns that are left out, in words.
        first: how many rows of JSON lines or of an array are read; 0: all.

    Raises:
        Fault: the file as a whole cannot be read.
    """
    if encoding_of(source.peek(), options.encoding) == "utf-8":
        bad = BadLines()
        decoded = (
            (bad.text(line, number), number) for number, line in enumerate(source.lines(), 1)
        )
        rows = _read(decoded, inner, options, (problems, notes), first)
        if bad.count and not bad.is_utf8:
            raise bad.fault()
        return rows
    lines = enumerate(whole_text(source, options.encoding).split("\n"), 1)
    decoded = ((line, number) for number, line in lines)
    return _read(decoded, inner, options, (problems, notes), first)


def _read(
    lines: Iterator[tuple[str | None, int]],
    inner: str,
    options: Options,
    told: Told,
    most: int,
) -> Sequence[Record]:
    problems = told[0]
    before: list[str] = []  # empty lines
    for line, number in lines:  # noqa: B007 (used below)
        if line is None or line.strip(_JSON_SPACE + "\ufeff"):
            break
        before.append(line)
    else:
        return []
    first = None if line is None else line.lstrip("\ufeff")
    if first is None or _is_one_value(first):
        values = _line_values(chain([(first, number)], lines), problems)
        return _by_line(values, inner, options, told, most)
    if _PYTHON.match(first.lstrip()):
        return _python([*before, first, *((line or "") for line, _ in lines)], inner, options, told)
    text = "\n".join([*before, first, *((line or "") for line, _ in lines)])
    if text.lstrip(_JSON_SPACE)[:1] == "[":
        return _shaped([([*islice(_array(text), most or None)], 1)], inner, options, told)
    if _is_joined(text):
        return _shaped([*_joined(text)], inner, options, told)
    again = ((line, number) for number, line in enumerate(text.split("\n"), 1))
    return [
        row
        for value, at in _line_values(again, problems)
        for row in _row(value, at, options, problems)
    ]


def _python(lines: Sequence[str], inner: str, options: Options, told: Told) -> list[Record]:
    """Read rows that Python printed, as `{'prompt': ...}` on each line or in a list.

    Raises:
        Fault: they are no plain values, or long.
    """
    if sum(map(len, lines)) < _LONGEST_PYTHON:
        whole = _literal("\n".join(lines))
        if isinstance(whole, list):
            rows = [(value, number) for number, value in enumerate(whole, 1)]
            return _shaped([(rows, 1)], inner, options, told)
        found = [(_literal(line), n) for n, line in enumerate(lines, 1) if line.strip()]
        if all(isinstance(value, dict) for value, _ in found):
            return _shaped(found, inner, options, told)
    raise Fault(
        "this is Python, not JSON: its texts are in single quotes", "write it with json.dumps"
    )


def _literal(text: str) -> Any:
    """Return the value that Python's literals write; None for none, and for bytes and sets."""
    try:
        return json.loads(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _is_one_value(text: str) -> bool:
    """Return whether a line is a JSON value by itself, or objects one after the other."""
    try:
        return isinstance(_ROWS.decode(text.strip(_JSON_SPACE)), dict | list)
    except (ValueError, RecursionError):
        return False


def _by_line(
    values: Items, inner: str, options: Options, told: Told, most: int
) -> Sequence[Record]:
    """Read the values of JSON lines; a file with one value can have any shape."""
    problems = told[0]
    head, second = next(values, None), next(values, None)
    if head is None:
        return []
    if second is None:
        value, line = head
        if isinstance(value, list):
            value = [(item, number) for number, item in enumerate(value, 1)]
        return _shaped([(value, line)], inner, options, told)
    every = islice(chain([head, second], values), most or None)
    if isinstance(head[0], list):
        return rows_of_lists([*_lists(every, problems)], options, *told)
    return collected(
        record for value, line in every for record in _row(value, line, options, problems)
    )


def _lists(values: Items, problems: Problems) -> Items:
    for value, line in values:
        if isinstance(value, list):
            yield value, line
        else:
            problems.add(f"line {line}: found {kind_of(value)}, expected an array")


def _line_values(lines: Iterator[tuple[str | None, int]], problems: Problems) -> Items:
    for line, number in lines:
        if line is None:
            problems.add(f"line {number}: has bytes that are not UTF-8")
        elif line.strip(_JSON_SPACE):
            yield from _values(line, number, problems)


def _shaped(
    values: list[tuple[Any, int]], inner: str, options: Options, told: Told
) -> list[Record]:
    """Return the rows of one value, or of objects that follow each other.

    The items of an array are given with their lines.
    """
    problems = told[0]
    if len(values) != 1:
        return numbered([row for value, at in values for row in _row(value, at, options, problems)])
    value, line = values[0]
    if isinstance(value, dict):
        rows = rows_of_object(value, line, inner)
        told[1].extend(_left_out(value, rows) if not inner else [])
    elif isinstance(value, list):
        rows = value
    else:
        rows = [(value, line)]
    if rows and all(isinstance(item, list) for item, _ in rows):
        return numbered(rows_of_lists(rows, options, *told))
    return numbered([row for item, at in rows for row in _row(item, at, options, problems)])


def _left_out(value: dict[str, Any], rows: Sequence[tuple[Any, int]]) -> list[str]:
    """Say which lists and objects stand beside the list that has the rows."""
    lists = {key: item for key, item in value.items() if isinstance(item, dict | list) and item}
    inside = [k for k, i in lists.items() if isinstance(i, list) and rows and i[0] is rows[0][0]]
    left = [key for key in lists if key not in inside] if inside else []
    names = ", ".join(left)
    return [f"only {inside[0]} is read, and {names:.100} left out"] if left else []


def _row(value: Any, line: int, options: Options, problems: Problems) -> list[Record]:
    if not isinstance(value, dict):
        problems.add(f"line {line}: found {kind_of(value)}, expected an object")
        return []
    try:
        return [Record(mended(value, exact=options.exact), line)]
    except ValueError as error:
        problems.add(f"line {line}: {error}")
        return []


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value in words."""
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return names.get(type(value), f"{value!r:.40}")


def mended(value: Any, levels: int = _DEEPEST, *, exact: bool = False) -> Any:
    """Return the value with U+FFFD for each single half of a surrogate pair, and null for NaN.

    Args:
        value: of JSON.
        levels: of lists and objects that it may have.
        exact: whether numbers that are not finite stay.

    Raises:
        ValueError: it has more levels, or an infinite number.
    """
    if isinstance(value, str):
        return value if value.isascii() else _HALF_A_PAIR.sub("\ufffd", value)
    if isinstance(value, float):
        return value if exact else _finite(value)
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        # One copy of each name for all rows: names are half of a file of short rows.
        return {
            sys.intern(mended(key, levels)): mended(item, levels - 1, exact=exact)
            for key, item in value.items()
        }
    return [mended(item, levels - 1, exact=exact) for item in value]


def _finite(value: float) -> float | None:
    if math.isinf(value):
        raise ValueError("malformed JSON: Infinity is not JSON")
    return None if math.isnan(value) else value


def _values(line: str, number: int, problems: Problems) -> Items:
    """Yield the values of one line: one, or objects that follow each other."""
    text = line.lstrip("\ufeff").strip(_JSON_SPACE)  # a BOM from files that were joined
    position = 0
    try:
        while position < len(text):
            value, position = _ROWS.raw_decode(text, position)
            yield value, number
            position = _skip(text, position)
            if position < len(text) and not (isinstance(value, dict) and text[position] == "{"):
                raise json.JSONDecodeError("Extra data", text, position)
    except (ValueError, RecursionError) as error:
        problems.add(f"line {number}: malformed JSON: {where(error)}")


def _is_joined(text: str) -> bool:
    """Return whether a text begins with a whole object that more can follow."""
    try:
        return isinstance(_ROWS.raw_decode(text, _skip(text, 0))[0], dict)
    except (ValueError, RecursionError):
        return False


def _joined(text: str) -> Items:
    """Yield the objects that follow each other, each over any number of lines."""
    position, line, counted = _skip(text, 0), 1, 0
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _ROWS.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise Fault(f"line {line}: malformed JSON: {where(error)}") from None
        yield value, line
        position = _skip(text, position)
        if text[position : position + 1] == "," and text[_skip(text, position + 1) :][:1] == "{":
            position = _skip(text, position + 1)


def _array(text: str) -> Items:
    position, line, counted = _skip(text, _skip(text, 0) + 1), 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _ROWS.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            # After a broken item, the start of the next one is unknown.
            raise Fault(f"line {line}: malformed JSON: {where(error)}") from None
        yield value, line
        position = _next_item(text, position, line)
    if _skip(text, position + 1) != len(text):
        raise Fault("found more text after the array's end")


def _next_item(text: str, position: int, line: int) -> int:
    position = _skip(text, position)
    if text[position : position + 1] == ",":
        return _skip(text, position + 1)
    if text[position : position + 1] == "]":
        return position
    raise Fault(
        f"the item of line {line} is not followed by a comma or the array's end",
        "was the file cut off?",
    )


def _skip(text: str, position: int) -> int:
    spaces = _SPACES.match(text, position)
    return spaces.end() if spaces else position


def where(error: Exception) -> str:
    """Describe the fault in one JSON value, for a user who sees the line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "set_int_max_str_digits" in str(error):  # Python's advice to a programmer
        return f"a number has more than {sys.get_int_max_str_digits()} digits"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if error.pos == 0:
        return f"expected an object in braces, found {error.doc[:40]!r}"
    message = f"{error.msg.removesuffix(' starting at')} at column {error.colno}"
    cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    return f"{message}; was the file cut off?" if cut else message


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key in fields if times[key] > 1)
        raise ValueError(f'the key "{twice}" is there twice')
    return fields


_ROWS = json.JSONDecoder(object_pairs_hook=_each_once)
