"""Rows of files of many kinds; errors name the file and the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2m.errors import InputError, Problems
from m2m.formats.archives import member, unpacked
from m2m.formats.byte_parts import ByteSource, beginnings, encoding_of, whole_text
from m2m.formats.columnar import read_columns
from m2m.formats.delimited import read_table
from m2m.formats.folders import FolderSplit, folder_part, mark_of
from m2m.formats.json_rows import kind_of as kind_of_value
from m2m.formats.json_rows import read_json, refuse_constant, where
from m2m.formats.large_text import Lines
from m2m.formats.nature import PACKED, SEPARATORS, kind_of
from m2m.formats.parted_text import parted
from m2m.formats.rowfile import AS_IT_IS, Fault, Options, Record, RowFile, Several, numbered
from m2m.formats.sheets import read_sheet
from m2m.formats.spooled import is_spooled
from m2m.formats.translation_files import read_po, read_xml
from m2m.formats.yaml import LARGEST, parse_yaml
from m2m.opening import JSON, ROWS, Text, read_text, refuse_many, stream
from m2m.places import place_of

__all__ = ["Options", "Record", "RowFile", "read_object", "read_records", "rows_text"]
_LINE = re.compile(r"lines? (\d+)")  # the place in a message about a bad row
_KEPT = 100_000  # faulty rows that `m2m data clean` lists; a message shows a few
_MOST_PACKED = 2  # a packed file in an archive, and no deeper


def rows_text(
    path: Path, limit: int = ROWS, options: Options = AS_IT_IS, first: int = 0
) -> RowFile:
    """Read a file of rows once, for `read_records` and for its hash.

    Args:
        path: the file; a member of an archive, a sheet or a split follows it (`a.zip/train.csv`).
        limit: the most bytes that it may have.
        options: how it is read.
        first: how many rows of a large file (JSON, a table, a text, Parquet, Arrow) are read,
            without a hash of the file; 0: all.

    Raises:
        InputError: the file is unreadable, or not a file of rows.
    """
    file = path
    try:
        file, inner = place_of(path)
        if file.is_dir():
            return _folder(path, folder_part(file, inner), limit, options, first)
        with stream(file, limit) as opened:
            source = ByteSource(file.name, opened)
            found = _opened(source, inner, options, opened.size, first)
            sha256 = "" if first else options.mark(opened.sha256(), inner)
            return replace(found, path=path, sha256=sha256, size=opened.size)
    except Fault as fault:
        if fault.members:
            message = _named(path, fault).message
            raise Several(message, [file / member for member in fault.members]) from None
        raise _named(path, fault) from None


def lines_text(path: Path, options: Options = AS_IT_IS) -> Text:
    """Read a text file once, in the encoding of `options`; its lines are not read as rows.

    Raises:
        InputError: the file is unreadable, or in another encoding.
    """
    try:
        with stream(path, ROWS) as opened:
            text = whole_text(ByteSource(path.name, opened), options.encoding)
            return Text(path, text, options.mark(opened.sha256(), ""), opened.size)
    except Fault as fault:
        raise _named(path, fault) from None


def _named(path: Path, fault: Fault) -> InputError:
    at = "" if re.match(r"\d+: ", fault.message) else " "
    return InputError(f"{path}:{at}{fault.message}", fault.hint)


def _folder(path: Path, part: FolderSplit, limit: int, options: Options, first: int) -> RowFile:
    """Read the files of one part of a folder one after the other; the rows are numbered."""
    files, left = [], limit
    for place in part.files:
        files.append(rows_text(place, left, options, first))
        left -= files[-1].size
    if len(files) == 1:
        return replace(files[0], path=path)
    problems = Problems(_KEPT)
    for file in files:
        for problem in file.problems:
            problems.add(f"{file.path.name}: {problem}")
    rows = [record.fields for file in files for record in file.records]
    return replace(
        files[0],
        path=path,
        records=[Record(fields, number) for number, fields in enumerate(rows, 1)],
        problems=problems,
        notes=tuple(note for file in files for note in file.notes),
        sha256=mark_of([(file.path.name, file.sha256) for file in files]),
        size=sum(file.size for file in files),
    )


def rows_text_again(path: Path, sha256: str, options: Options = AS_IT_IS) -> RowFile:
    """Read a file of rows again that was read before.

    Raises:
        InputError: the file is unreadable, or its bytes have changed.
    """
    file = rows_text(path, options=options)
    if file.sha256 != sha256:
        raise InputError(
            f"{path}: changed since this command began", "run it again: it takes the file as it is"
        )
    return file


def read_records(source: Path | Text) -> Sequence[Record]:
    """Return all rows of a file.

    Raises:
        InputError: the file is unreadable, or rows are malformed; names up to 20 of them at once.
    """
    path = source if isinstance(source, Path) else source.path
    file = source if isinstance(source, RowFile) else rows_text(path)
    if file.options.bad_rows == "refuse":
        hint = 'correct these lines, or leave them out with `bad_rows = "skip"` in the recipe'
        file.problems.raise_if_any(InputError, str(file.path), hint)
    return file.records


def _opened(source: ByteSource, inner: str, options: Options, size: int, first: int) -> RowFile:
    """Read the rows of a file, and of the files that are packed in it."""
    within = ""  # the member of an archive that is read
    for _ in range(_MOST_PACKED + 1):
        kind = kind_of(source.name, source.peek(), options)
        if kind in PACKED.values():
            source = unpacked(source, kind, size)
        elif kind == "zip":
            source, inner = member(source, inner)
            within += f"{source.name}/"
        else:
            most = first and first + 1  # one more shows whether the file has more
            try:
                found = _begun(source, kind, inner, options, most) if first else None
                found = found or _read(source, kind, inner, options, most)
            except Fault as fault:
                fault.members = tuple(f"{within}{name}" for name in fault.members)
                raise
            return _part(found, first) if first else found
    raise Fault(f"is packed more than {_MOST_PACKED} times", "unpack it yourself")


def _begun(
    source: ByteSource, kind: str, inner: str, options: Options, first: int
) -> RowFile | None:
    """Read the first rows of a table, a text or an array; None if it has to be read whole."""
    begin = source.peek()
    is_array = kind == "json" and begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    if not (is_array or kind in ("table", "text")):
        return None
    if encoding_of(begin, options.encoding).startswith(("utf-16", "utf-32")):
        return None  # a line's end in bytes is not one in letters
    for part in beginnings(source):
        with suppress(Fault):  # it may be in the bytes that follow; the whole file tells
            found = _read(ByteSource(source.name, [part]), kind, inner, options, first)
            if len(found.records) >= first:
                return found
    return None


def _part(file: RowFile, first: int) -> RowFile:
    """Return the first rows of a file, good and bad ones, with a note if it has more."""
    bad = [(int(found[1]), message) for message in file.problems if (found := _LINE.match(message))]
    places = sorted([*(record.line for record in file.records), *(line for line, _ in bad)])
    if len(places) <= first:
        return file
    problems = Problems()
    for line, message in bad:
        if line < places[first]:
            problems.add(message)
    rows = "row was" if first == 1 else f"{first:,} rows were"
    note = f"only the first {rows} read (`--all` reads the whole file)"
    records, notes = file.records[: first - len(problems)], (*file.notes, note)
    return replace(file, records=records, problems=problems, notes=notes, is_part=True)


def _read(source: ByteSource, kind: str, inner: str, options: Options, first: int) -> RowFile:
    problems, empty = Problems(_KEPT), Text(Path(source.name), "", "", 0)
    made = RowFile(empty.path, "", "", 0, problems=problems, kind=kind, options=options)
    if kind == "json":
        told: list[str] = []
        rows = read_json(source, inner, options, problems, told, first)
        rows = rows if is_spooled(rows) else numbered(rows)
        return replace(made, records=rows, notes=tuple(told))
    if kind == "yaml":
        return replace(made, records=_yaml_rows(source, inner, options, problems))
    if kind == "workbook":
        rows, notes = read_sheet(source.rest(), inner, options, problems)
        return replace(made, records=rows, notes=notes)
    if kind == "xml":
        pairs = read_xml(source, inner)
        return replace(made, records=numbered(pairs.records), notes=pairs.notes)
    if inner:
        raise Fault(f"has nothing called {inner!r:.60} in it", "give the file alone")
    if kind == "po":
        pairs = read_po(source, options)
        return replace(made, records=pairs.records, notes=pairs.notes)
    if kind in ("parquet", "arrow", "arrow stream"):
        rows, names, notes = read_columns(source, kind, options, first)
        return replace(made, records=rows, label_names=names, notes=notes)
    if kind == "table":
        preferred = SEPARATORS.get(Path(source.name).suffix.lower(), ",")
        lines = Lines(source, options.encoding)
        rows, notes = read_table(lines, preferred, options, problems, first)
        return replace(made, records=rows, notes=notes)
    text = whole_text(source, options.encoding)
    rows, note = parted([*_lines(text)], problems)
    return replace(made, text=text, records=rows, notes=(note,) if note else ())


def _yaml_rows(
    source: ByteSource, inner: str, options: Options, problems: Problems
) -> Sequence[Record]:
    """Read the rows of a small YAML file, which is a list, or an object with one."""
    text = whole_text(source, options.encoding)
    if len(text) > LARGEST:
        raise Fault(f"this is YAML of more than {LARGEST:,} characters", "save its rows as JSONL")
    try:
        value = json.dumps(parse_yaml(text, source.name, as_json=True), ensure_ascii=False)
    except InputError as error:
        hint = f"{error.hint or 'correct the file'}; or save its rows as JSONL"
        raise Fault(error.message.partition(":")[2], hint) from None
    except TypeError:  # a date, or a tag
        raise Fault("has values that are not plain: dates or tags", "put them in quotes") from None
    again = ByteSource(source.name, [value.encode("utf-8")])
    return read_json(again, inner, replace(options, encoding=""), problems, [])


def _lines(text: str) -> Iterator[Record]:
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if (line := line.removeprefix("\ufeff")).strip():  # a BOM from files that were joined
            yield Record({"text": line}, number)


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
        raise InputError(f"{path}: malformed JSON: {where(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: found {kind_of_value(value)}, expected a JSON object")
    return value


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
