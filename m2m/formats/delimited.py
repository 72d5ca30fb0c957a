"""Rows of CSV and TSV files; m2m refuses quotation marks that join several rows to one."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

from m2m.counted import counted
from m2m.errors import Problems
from m2m.formats.cells import Cells, collected_cells, to_fields
from m2m.formats.large_text import Lines
from m2m.formats.rowfile import Fault, Options, Record
from m2m.formats.tagged import tagged_hint

QUOTES = (
    'a quotation mark that belongs to the text is written twice in a quoted field: "say ""yes"""; '
    'or write `quotes = "text"` below the path in the recipe, if all of them belong to the texts; '
    "or save the file as JSONL"
)
_ESCAPED = re.compile(r"\\([\"\\])")
_MARK = "\ufdd0"  # stands for \\" until cells are cut; Unicode keeps it out of texts
_SEPARATORS = ("\t", ",", ";", "|")
_FOREIGN = "\uff0c\u060c\uff1b\u061b\u3001\u00a6^~\x1f\x01"  # commas of other scripts, rare signs
_NAMED = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "|"}
_LOOKED_AT = 200  # lines that show how the columns are separated
_FEW = 5
_BEGIN = 1000  # lines with the first sentences
_TAG = re.compile(r"O|[BIESLU]-\w+|[A-Z]{2,6}|\d+")  # of names, of parts of speech
_GAP = re.compile(r"\S {2,}\S")


def read_table(
    lines: Lines, preferred: str, options: Options, problems: Problems, first: int = 0
) -> tuple[Sequence[Record], tuple[str, ...]]:
    """Read the rows of a table whose first line names the columns, and notes about it.

    Quotation marks around a field are not part of it (RFC 4180). In a TSV file they are part of it
    if that is the only way to read the file, or if no field needs them and only some fields have
    them: a sentence in quotation marks, as in Tatoeba's files. A row over several lines is refused
    if each of its lines would be a row.

    Args:
        lines: the table.
        preferred: the separator of such files, if the first line does not show another.
        options: how it is read.
        problems: gets the rows that are wrong.
        first: how many rows are read; 0: all.

    Raises:
        Fault: the table as a whole cannot be read.
    """
    if isinstance(options.header, int):
        for line in [*islice(lines, options.header - 1)]:
            lines.skip(line)
    _refuse_tags(_some(lines), lines)
    separator = _pass_by(lines) or _separator(_some(lines), preferred)
    # The limit protects streams of others; m2m limits the file. It is global: restore it later.
    limit = csv.field_size_limit(sys.maxsize if sys.maxsize < 2**31 else 2**31 - 1)
    try:
        literal = _is_literal(lines, separator, options)
        joined = Problems()
        # The first row may be the names of the columns.
        rows = _rows(lines, separator, literal, joined, options.quotes == "backslash")
        cells = collected_cells(islice(rows, first + 1) if first else rows)
        for problem in joined:
            if options.bad_rows == "skip":  # nobody knows how many rows would be left out
                raise Fault(problem)
            problems.add(problem)
        return to_fields(cells, options, problems)
    finally:
        csv.field_size_limit(limit)


def _some(lines: Lines) -> list[str]:
    """Return the first lines with text."""
    return [*islice((line for line in lines if line.strip()), _LOOKED_AT)]


def _pass_by(lines: Lines) -> str:
    """Go to the first line of the table; return the separator of a line `sep=;`, or "".

    Empty lines come first in files of spreadsheets, and lines with # that are no row: they have
    other columns than the line after them.
    """
    separator = ""
    for line, after in pairwise([*islice(lines, _LOOKED_AT), ""]):
        plain = line.strip("\r\n")
        if said := re.fullmatch(r'"?sep=(.)"?[,;\t]*', plain, re.IGNORECASE):
            separator = said[1]
        elif plain.strip() and not (plain.startswith("#") and _other_columns(plain, after)):
            break
        lines.skip(line)
    return separator


def _refuse_tags(some: Sequence[str], lines: Lines) -> None:
    """Refuse words with tags, one a line, with empty lines between sentences (CoNLL)."""
    pairs = [line.split() for line in some]
    tags = {pair[-1] for pair in pairs}
    begin = "".join(islice(lines, _BEGIN)).strip().splitlines()
    if (
        len(pairs) > _FEW
        and all(len(pair) == 2 for pair in pairs)
        and all(map(_TAG.fullmatch, tags))
        and 2 * len(tags) <= len(pairs)
        and not all(map(str.strip, begin))
    ):
        raise Fault(
            "this is one word a line with its tag (CoNLL), without texts to learn",
            tagged_hint(begin),
        )


def _other_columns(line: str, after: str) -> bool:
    counts = [(line.count(sign), after.count(sign)) for sign in _SEPARATORS]
    return after.startswith("#") or not after.strip() or any(one < two for one, two in counts)


def _separator(lines: list[str], preferred: str) -> str:
    """Return the sign between the columns: one that gives every row as many as the first.

    Raises:
        Fault: two signs do, or the columns are separated by spaces.
    """
    signs = [sign for sign in _SEPARATORS if lines and sign in lines[0]]
    fitting = [sign for sign in signs if _fits(lines, sign)]
    if preferred in fitting or (not fitting and preferred in signs):
        return preferred
    if len(fitting) > 1:
        named = " or by ".join(_NAMED[sign] for sign in fitting)
        raise Fault(
            f"line 1: the columns can be separated by {named}",
            f"put the line `sep={fitting[0]}` first, with the sign that is meant",
        )
    if not signs and len(lines) > 1 and all(_GAP.search(line.strip()) for line in lines):
        raise Fault(
            f"line 1: the columns are separated by spaces, expected {_NAMED[preferred]}",
            f"put one {_NAMED[preferred].removesuffix('s')} between two columns, in every line",
        )
    other = next((sign for sign in _FOREIGN if lines and sign in lines[0]), "")
    if not signs and other and len(lines) > 1 and _fits(lines, other):
        raise Fault(
            f"line 1: the columns are separated by {other!r}, expected {_NAMED[preferred]}",
            f"put the line `sep={other}` first, or save the table with {_NAMED[preferred]}",
        )
    below = "" if signs else _below_a_title(lines)
    return below or (fitting[0] if fitting else signs[0] if len(signs) == 1 else preferred)


def _below_a_title(lines: list[str]) -> str:
    """Return the sign that separates the columns in most lines, but not in the first; or ""."""
    for sign in _SEPARATORS[:1] + _SEPARATORS[2:]:  # a comma may belong to a sentence
        rest = [line for line in lines if sign in line and f"{sign} " not in line]
        if len(rest) > _FEW and 10 * len(rest) > 9 * (len(lines) - _FEW) and _fits(rest, sign):
            return sign
    return ""


def _fits(lines: list[str], sign: str) -> bool:
    try:
        rows = [row for row in csv.reader(lines, delimiter=sign) if row]
    except csv.Error:
        return False
    # The last row may go on after the lines that were looked at.
    return len({len(row) for row in (rows[:-1] if len(lines) == _LOOKED_AT else rows)}) == 1


def _rows(
    lines: Lines, separator: str, literal: bool, problems: Problems, escaped: bool = False
) -> Iterator[tuple[Cells, int]]:
    """Yield the cells of each row with its line; rows that marks joined are problems."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    spaced = _is_spaced(lines, separator)
    number, columns, begun = lines.number, 0, False
    try:
        for row in _reader(_plain(noted(), escaped), separator, literal, spaced):
            columns = columns or len(row)
            if len(taken) > 1 and all(_looks_whole(line, columns, separator) for line in taken):
                place = f"lines {number} to {number + len(taken) - 1}"
                joined = f"a quotation mark makes one row of these {len(taken)}"
                problems.add(f"{place}: {joined}; {QUOTES}")
            elif len(taken) > 1 and len(row) != columns and begun:
                place = f"lines {number} to {number + len(taken) - 1}"
                problems.add(
                    f"{place}: {counted(len(row), 'field')}, the header has {columns}; {QUOTES}"
                )
            elif row:
                begun = True
                yield [cell.replace(_MARK, '"') for cell in row] if escaped else row, number
            number += len(taken)
            taken.clear()
    except csv.Error as error:
        if "unexpected end" in str(error):
            what = "a quotation mark opens here and is never closed"
            raise Fault(f"line {number}: {what}; {QUOTES}") from None
        what = f"text after a closing quotation mark ({error}){_offer(taken, escaped)}"
        raise Fault(f"line {number}: {what}; {QUOTES}") from None


def _offer(lines: Sequence[str], escaped: bool) -> str:
    """Return how to read a quotation mark after a backslash, if the lines have one; or ""."""
    offer = '; write `quotes = "backslash"` below its path if \\" means a quotation mark'
    return offer if not escaped and any('\\"' in line for line in lines) else ""


def _plain(lines: Iterable[str], escaped: bool = False) -> Iterator[str]:
    """Yield lines without the BOM that a second file brings if files are joined.

    If marks are `escaped`, each \\" is written as _MARK, and two backslashes as one.
    """
    plain = (line.removeprefix("\ufeff") for line in lines)
    if not escaped:
        return plain
    return (_ESCAPED.sub(lambda m: _MARK if m[1] == '"' else "\\", line) for line in plain)


def _reader(lines: Iterator[str], separator: str, literal: bool, spaced: bool) -> Any:
    return csv.reader(
        lines,
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL,
        skipinitialspace=spaced,
    )


def _is_spaced(lines: Lines, separator: str) -> bool:
    """Return whether a space follows every separator of the header: it is not part of the texts."""
    header = next(iter(lines), "")
    return separator != "\t" and 0 < header.count(separator) == header.count(f"{separator} ")


def _looks_whole(line: str, columns: int, delimiter: str) -> bool:
    """Return whether a line alone would be a row; a comma before a space belongs to a sentence."""
    prose = 0 if delimiter == "\t" else line.count(f"{delimiter} ")
    return columns > 1 and line.count(delimiter) - prose == columns - 1


def _is_literal(lines: Lines, separator: str, options: Options) -> bool:
    """Return whether quotation marks are part of the texts.

    The rows are counted with and without them: other counts mean that marks join rows, which no
    rule can decide.
    """
    if options.quotes != "auto":
        return options.quotes == "text"
    if separator != "\t" or not lines.has('"') or lines.has('""'):
        return False
    cells = (line.rstrip("\r\n").split("\t") for line in _plain(lines) if line.strip("\r\n"))
    columns, rows = len(next(cells, ())), 1
    all_marked, some_marked, last = [True] * columns, False, list[str]()
    for last in cells:
        if len(last) != columns:
            return False
        marked = [cell[:1] == '"' == cell[-1:] and len(cell) > 1 for cell in last]
        all_marked = [*map(min, all_marked, marked)]
        some_marked = some_marked or any(marked)
        rows += 1
    if rows < 2 or any(cell[:1] == '"' != cell[-1:] for cell in last):  # is the file cut off?
        return False
    if any(all_marked):  # a program wrote them
        return False
    counts = Counter[int]()
    try:
        counts.update(len(row) for row in _reader(_plain(lines), separator, False, False) if row)
    except csv.Error:
        return True
    return {*counts} != {columns} or (counts[columns] == rows and some_marked)
