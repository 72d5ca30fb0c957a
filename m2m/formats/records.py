"""Rows of JSONL, JSON, CSV, TSV and text files; errors name the file and the line."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from m2m.errors import InputError, Problems
from m2m.formats.nature import refuse_other
from m2m.formats.table import read_table
from m2m.opening import JSON, ROWS, Text, first_bytes, read_once, read_text, refuse_many

_BEGINNING = 1 << 16  # bytes that show the kind of a file
_JSON_SPACE = " \t\r\n"
_SPACES = re.compile(f"[{_JSON_SPACE}]*")
_DEEPEST = 100  # levels of lists and objects in a row; more would exceed Python's own limit
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its fields by name, and the line (from 1) on which it begins."""

    fields: dict[str, Any]
    line: int


def rows_text(path: Path, limit: int = ROWS) -> Text:
    """Read a file of rows once, for `read_records` and for its hash.

    Raises:
        InputError: the file is unreadable, or not a text file of rows.
    """
    refuse_other(path, first_bytes(path, _BEGINNING), tuple(_READERS))
    return read_once(path, limit)


def rows_text_again(path: Path, sha256: str) -> Text:
    """Read a file of rows again that was read before.

    Raises:
        InputError: the file is unreadable, or its bytes have changed.
    """
    file = rows_text(path)
    if file.sha256 != sha256:
        raise InputError(
            f"{path}: changed since this command began", "run it again: it takes the file as it is"
        )
    return file


def read_records(source: Path | Text) -> list[Record]:
    """Read all rows of a .jsonl, .json, .csv, .tsv or .txt file (UTF-8, a BOM is skipped).

    .json is an array of objects, one object, or JSON lines under another name. .csv and .tsv have
    a header; a .csv whose header has semicolons and no comma is read with semicolons. Every
    non-empty line of a .txt is a row {"text": line}. Half a surrogate pair (JSON's
    "\\ud83d" alone, an emoji that somebody cut in two) is read as U+FFFD, as tokenizers do.

    Raises:
        InputError: the file is unreadable, or rows are malformed; names up to 20 of them at once.
    """
    file = rows_text(source) if isinstance(source, Path) else source
    problems = Problems()
    records = list(_READERS[file.path.suffix.lower()](file.text.lstrip("\ufeff"), problems))
    problems.raise_if_any(InputError, str(file.path), "correct these lines")
    return records


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        InputError: the file is unreadable, malformed, or not an object.
    """
    text = read_text(path, JSON)
    refuse_many(path, text)
    try:
        value = _loads(text)
    except ValueError as error:
        raise InputError(f"{path}: malformed JSON: {_where(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: found {_kind(value)}, expected a JSON object")
    return value


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _row(text: str) -> Any:
    try:
        return _ROWS.decode(text.strip(_JSON_SPACE))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key in fields if times[key] > 1)
        raise ValueError(f'the key "{twice}" is there twice')
    return fields


def _where(error: Exception) -> str:
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


def _are_joined(text: str) -> bool:
    """Return whether objects follow each other without one line for each."""
    try:
        value, end = _ROWS.raw_decode(text, start := _skip(text, 0))
    except (ValueError, RecursionError):
        return False
    next_one = _skip(text, end)
    lines = "\n" in text[start:end] or "\n" not in text[end:next_one]
    return isinstance(value, dict) and lines and text[next_one : next_one + 1] == "{"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_ROWS = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_each_once)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return names.get(type(value), f"{value!r:.40}")


def _json_lines(text: str, problems: Problems) -> Iterator[Record]:
    # Not splitlines(): it also cuts at U+2028 and similar characters, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip(_JSON_SPACE):
            continue
        try:
            value = _row(line.lstrip("\ufeff"))  # a BOM from files that were joined
        except ValueError as error:
            # Only the first mistake can be of this kind; each check reads the first object again.
            if not problems and _are_joined(text):
                wrong = "rows are not on lines of their own; `jq -c . FILE` writes them so"
                problems.add(f"line {number}: {wrong}")
                return
            problems.add(f"line {number}: malformed JSON: {_where(error)}")
            continue
        yield from _object(value, number, problems)


def _object(value: Any, line: int, problems: Problems) -> Iterator[Record]:
    if not isinstance(value, dict):
        problems.add(f"line {line}: found {_kind(value)}, expected an object")
        return
    try:
        yield Record(_mended(value, _DEEPEST), line)
    except ValueError as error:
        problems.add(f"line {line}: {error}")


def _mended(value: Any, levels: int) -> Any:
    """Return the value with U+FFFD for each single half of a surrogate pair.

    Raises:
        ValueError: it has more than `levels` levels of lists and objects.
    """
    if isinstance(value, str):
        return value if value.isascii() else _HALF_A_PAIR.sub("\ufffd", value)
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        return {_mended(key, levels): _mended(item, levels - 1) for key, item in value.items()}
    return [_mended(item, levels - 1) for item in value]


def _json(text: str, problems: Problems) -> Iterator[Record]:
    start = _skip(text, 0)
    if text[start : start + 1] != "[":
        try:  # one object over several lines
            one = _row(text) if "\n" in text.strip() else None
        except ValueError:
            one = None
        yield from _json_lines(text, problems) if one is None else _object(one, 1, problems)
        return
    position, line, counted = _skip(text, start + 1), 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _ROWS.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            # After a broken item, the start of the next one is unknown.
            problems.add(f"line {line}: malformed JSON: {_where(error)}")
            return
        yield from _object(value, line, problems)
        position = _next_item(text, position, line, problems)
    if _skip(text, position + 1) != len(text):
        problems.add("found more text after the array's end")


def _next_item(text: str, position: int, line: int, problems: Problems) -> int:
    position = _skip(text, position)
    if text[position : position + 1] == ",":
        return _skip(text, position + 1)
    if text[position : position + 1] == "]":
        return position
    problems.add(f"the item of line {line} is not followed by a comma or the array's end")
    return len(text)


def _skip(text: str, position: int) -> int:
    spaces = _SPACES.match(text, position)
    return spaces.end() if spaces else position


def _comma_separated(text: str, problems: Problems) -> Iterator[Record]:
    header = text.partition("\n")[0]
    # In many countries the comma is the decimal point, and spreadsheets separate with semicolons.
    return _table(text, ";" if ";" in header and "," not in header else ",", problems)


def _tab_separated(text: str, problems: Problems) -> Iterator[Record]:
    return _table(text, "\t", problems)


def _table(text: str, delimiter: str, problems: Problems) -> Iterator[Record]:
    for fields, line in read_table(text, delimiter, problems):
        yield Record(fields, line)


def _plain(text: str, problems: Problems) -> Iterator[Record]:
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if line.strip():
            yield Record({"text": line}, number)


_READERS: dict[str, Callable[[str, Problems], Iterator[Record]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".txt": _plain,
}
