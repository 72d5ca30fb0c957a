"""Find formulas whose result is not in the file: programs that write sheets do not compute.

openpyxl writes no result, XlsxWriter writes 0 for each. Excel and LibreOffice compute when the file
is opened, and store the results when it is saved.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from m2m.formats.rowfile import Fault
from m2m.formats.xml_parts import feed, local, xml_parser

_PART = 1 << 20
_LONGEST_MARK = 64
_BOOK, _LINKS, _ODS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "content.xml"
_FORMULA = re.compile(rb"<(?:\w{1,20}:)?f[\s/>]|:formula\s*=")
_SHOWN = 3
_SAVE = (
    "open it in Excel or LibreOffice Calc and save it once (File > Save): that stores the results"
)


def refuse_uncomputed(archive: zipfile.ZipFile, sheet: str) -> None:
    """Refuse a sheet with formulas whose result the file does not have.

    Args:
        archive: the .xlsx or .ods file; its sizes were checked.
        sheet: the name of the sheet that is read.

    Raises:
        Fault: names the sheet and the first cells.
    """
    names = set(archive.namelist())
    if _ODS in names:
        cells = _ods(archive, sheet)
    elif {_BOOK, _LINKS} <= names:
        cells = _xlsx(archive, sheet, names)
    else:
        return
    if cells.count:
        one = cells.count == 1
        raise Fault(
            f"has a sheet {sheet!r:.60} in which the formula{'s' * (not one)} of "
            f"cell{'s' * (not one)} {cells} {'has' if one else 'have'} no result: no program has "
            "computed them yet",
            _SAVE,
        )


class _Places:
    """Cells of a sheet: how many, and the names of the first ones."""

    def __init__(self) -> None:
        self.count, self._first = 0, list[str]()

    def add(self, place: str) -> None:
        """Add a cell."""
        self.count += 1
        if self.count <= _SHOWN:
            self._first.append(f"{place:.12}")

    def __str__(self) -> str:
        more = f" and {self.count - _SHOWN:,} more" if self.count > _SHOWN else ""
        return ", ".join(self._first) + more


def _parts(archive: zipfile.ZipFile, member: str) -> Iterator[bytes]:
    with archive.open(member) as file:
        while part := file.read(_PART):
            yield part


def _has_formula(archive: zipfile.ZipFile, member: str) -> bool:
    """Return whether a member may have formulas; most have none, and parsing takes longer."""
    rest = b""
    for part in _parts(archive, member):
        if _FORMULA.search(rest + part):
            return True
        rest = part[-_LONGEST_MARK:]
    return False


def _xlsx(archive: zipfile.ZipFile, sheet: str, names: set[str]) -> _Places:
    """Return the cells of a sheet of a .xlsx file with formulas without a result."""
    book, links = _Elements(("sheet", "calcPr")), _Elements(("Relationship",))
    book.read(archive, _BOOK)
    links.read(archive, _LINKS)
    places = {about.get("Id"): about.get("Target", "") for _, about in links.found}
    link = next((a.get("id") for k, a in book.found if (k, a.get("name")) == ("sheet", sheet)), "")
    member = posixpath.normpath(posixpath.join("/xl", places.get(link, ""))).lstrip("/")
    if member not in names or not _has_formula(archive, member):
        return _Places()
    cells = _Cells()
    cells.read(archive, member)
    waits = any(k == "calcPr" and a.get("fullCalcOnLoad") in ("1", "true") for k, a in book.found)
    return cells.every if waits and not cells.has_results else cells.missing


class _Elements:
    """The attributes of all elements with some names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.found: list[tuple[str, dict[str, str]]] = []
        self._names = names

    def read(self, archive: zipfile.ZipFile, member: str) -> None:
        parser = xml_parser()
        parser.StartElementHandler = self.start
        feed(parser, _parts(archive, member))

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if local(name) in self._names:
            self.found.append((local(name), {local(k): v for k, v in attributes.items()}))


class _Cells:
    """The cells of a .xlsx sheet with a formula.

    Attributes:
        every: all of them.
        missing: those without a result.
        has_results: whether a result is not 0.
    """

    def __init__(self) -> None:
        self.every, self.missing, self.has_results = _Places(), _Places(), False
        self._cell: dict[str, str] = {}
        self._is_formula, self._value, self._reading = False, "", False

    def read(self, archive: zipfile.ZipFile, member: str) -> None:
        parser = xml_parser()
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self.data
        feed(parser, _parts(archive, member))

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        if name == "c":
            self._cell, self._is_formula, self._value = attributes, False, ""
        self._is_formula = self._is_formula or name == "f"
        self._reading = name == "v"

    def data(self, text: str) -> None:
        if self._reading and len(self._value) < 2:
            self._value += text[:2]

    def end(self, name: str) -> None:
        self._reading = False
        if local(name) != "c" or not self._is_formula:
            return
        place, self._is_formula = self._cell.get("r", "?"), False
        self.every.add(place)
        self.has_results = self.has_results or self._value not in ("", "0")
        if not self._value and self._cell.get("t") != "str":  # a formula can give an empty text
            self.missing.add(place)


def _ods(archive: zipfile.ZipFile, sheet: str) -> _Places:
    """Return the cells of a sheet of an .ods file with formulas without a result."""
    if not _has_formula(archive, _ODS):
        return _Places()
    cells = _OdsCells(sheet)
    parser = xml_parser()
    parser.StartElementHandler, parser.EndElementHandler = cells.start, cells.end
    feed(parser, _parts(archive, _ODS))
    return cells.found


class _OdsCells:
    """The cells of an .ods sheet whose formula has no result; the format does not number cells."""

    def __init__(self, sheet: str) -> None:
        self.found = _Places()
        self._sheet, self._is_inside = sheet, False
        self._row = self._column = 0
        self._rows = 1  # that the open row stands for

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        if name == "table":
            self._is_inside = attributes.get("table:name") == self._sheet
            self._row, self._rows = 0, 1
        elif name == "table-row":
            self._row, self._column = self._row + self._rows, 0
            self._rows = _count(attributes, "rows")
        elif name in ("table-cell", "covered-table-cell") and self._is_inside:
            if "table:formula" in attributes and "office:value-type" not in attributes:
                self.found.add(f"{_letters(self._column)}{max(self._row, 1)}")
            self._column += _count(attributes, "columns")

    def end(self, name: str) -> None:
        self._is_inside = self._is_inside and local(name) != "table"


def _count(attributes: dict[str, Any], what: str) -> int:
    text = str(attributes.get(f"table:number-{what}-repeated", "1"))
    return int(text) if text.isdecimal() and len(text) < 8 else 1


def _letters(column: int) -> str:
    """Return a column's name: "A" for 0, "AA" for 26."""
    name = ""
    while column >= 0:
        column, letter = divmod(column, 26)
        name = chr(65 + letter) + name
        column -= 1
    return name
