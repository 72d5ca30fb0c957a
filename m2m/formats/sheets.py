"""Rows of Excel and LibreOffice tables, by python-calamine; formulas give their stored values."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from m2m.counted import counted
from m2m.errors import Problems
from m2m.formats.archives import check_members
from m2m.formats.cells import to_fields
from m2m.formats.extra import imported
from m2m.formats.formulas import refuse_uncomputed
from m2m.formats.rowfile import AS_CSV, Fault, Options, Record

_MOST_CELLS = 20_000_000  # empty ones between others count: a cell takes 24 bytes or more
_CELL = re.compile(rb'\br="([A-Z]{1,3})([0-9]{1,7})"')
_TAG = re.compile(rb"<[^<>]*+>")
_REPEATED = re.compile(rb'number-(?:rows|columns)-repeated="([0-9]+)"')
_LONGEST_TAG = 1 << 12
_PART = 1 << 20


def read_sheet(
    data: bytes, inner: str, options: Options, problems: Problems
) -> tuple[Sequence[Record], tuple[str, ...]]:
    """Return the rows of one sheet, with their numbers in it, and notes about it.

    Args:
        data: the file's bytes.
        inner: the sheet's name, if the user gave one; or "".
        options: how it is read.
        problems: gets the rows that are wrong.

    Raises:
        Fault: python-calamine is not installed or refuses the file, several sheets have rows, or
            formulas have no result.
    """
    calamine = imported("python_calamine")
    archive = _checked(data) if data.startswith(b"PK") else None
    try:
        book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        name = _chosen(book, inner)
        if archive:
            refuse_uncomputed(archive, name)
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise Fault(f"is damaged: {error!s:.200}", f"open it and {AS_CSV}") from None
    except BaseException as error:  # a panic of Rust has no other class
        if type(error).__name__ != "PanicException":
            raise
        raise Fault(f"is damaged: {error!s:.200}", f"open it and {AS_CSV}") from None
    cells = [([_text(cell) for cell in row], number) for number, row in enumerate(rows, 1)]
    records, notes = to_fields(cells, options, problems)
    return records, notes if archive else (*notes, *_empty_columns(records))


def _empty_columns(records: Sequence[Record]) -> tuple[str, ...]:
    """Return notes on columns without values: calamine shows no formulas of .xls files."""
    names = dict.fromkeys(name for record in records for name in record.fields)
    empty = [name for name in names if not any(record.fields[name] for record in records)]
    return tuple(
        f"the column {name} is empty; if it has formulas, open the file in Excel or LibreOffice "
        "Calc and save it once (File > Save)"
        for name in empty
    )


def _chosen(book: Any, inner: str) -> str:
    """Return the name of the sheet that is meant: the one that the user named, or the only one."""
    about = imported("python_calamine")
    sheets = [
        str(sheet.name)
        for sheet in book.sheets_metadata
        if sheet.typ == about.SheetTypeEnum.WorkSheet
        and sheet.visible == about.SheetVisibleEnum.Visible
    ]
    if inner:
        if inner in sheets:
            return inner
        raise Fault(f"has no sheet {inner!r:.60}: {', '.join(sheets):.200}", members=sheets)
    filled = [name for name in sheets if book.get_sheet_by_name(name).total_height]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        raise Fault("has no sheet with rows", "is it the right file?")
    raise Fault(
        f"has {counted(len(filled), 'sheet')} with rows: {', '.join(filled):.200}",
        members=filled,
    )


def _text(cell: Any) -> str:
    """Return a cell as it would be in a CSV file."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1 << 53 else repr(cell)
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)


def _checked(data: bytes) -> zipfile.ZipFile:
    """Return the file's members after a check how much it unpacks to, and how large its sheets are.

    Raises:
        Fault: it is damaged or too large.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
        check_members(infos, len(data))
        for info in infos:
            rows = columns = cells = 1
            with archive.open(info) as file:  # never more bytes than were checked above
                rest = b""
                while part := file.read(_PART):
                    part = rest + part
                    if info.filename.startswith("xl/worksheets/"):
                        for match in _CELL.finditer(part):
                            columns = max(columns, _column(match[1]))
                            rows = max(rows, int(match[2]))
                    elif info.filename == "content.xml":
                        for count in _repeats(part):
                            cells *= count if count > 1000 else 1
                    begin = part.rfind(b"<")  # of a tag that goes on in the next part
                    rest = b"" if part.find(b">", begin) >= 0 else part[begin:][-_LONGEST_TAG:]
            if max(rows * columns, cells) > _MOST_CELLS:
                raise Fault(
                    f"has a sheet of {max(rows * columns, cells):,} cells, m2m reads at most "
                    f"{_MOST_CELLS:,}",
                    "delete what is far away from the table, or save the table as CSV",
                )
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise Fault(f"is damaged: {error}", "get the file again") from None
    return archive


def _repeats(part: bytes) -> Iterator[int]:
    """Yield how often a cell or a row with content is repeated, as an .ods file says it."""
    for tag in _TAG.finditer(part) if b"-repeated=" in part else ():
        if not tag[0].endswith(b"/>"):
            yield from (int(digits[:9]) for digits in _REPEATED.findall(tag[0]))


def _column(letters: bytes) -> int:
    """Return the number of a column: A is 1, AA is 27."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number
