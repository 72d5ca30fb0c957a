"""Rows of CSV and TSV files; m2m refuses quotation marks that join several rows to one."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

from m2m.counted import counted
from m2m.errors import Problems
from m2m.formats.cells import to_fields
from m2m.formats.rowfile import Fault, Options
from m2m.formats.tagged import tagged_hint

QUOTES = (
    'a quotation mark that belongs to the text is written twice in a quoted field: "say ""yes"""; '
    'or write `quotes = "text"` below the path in the recipe, if all of them belong to the texts; '
    "or save the file as JSONL"
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_SEPARATORS = ("\t", ",", ";", "|")
_NAMED = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "|"}
_LOOKED_AT = 200  # lines that show how the columns are separated
_FEW = 5
_BEGIN = 4000  # characters with the first sentence
_TAG = re.compile(r"O|[BIESLU]-\w+|[A-Z]{2,6}|\d+")  # of names, of parts of speech
_GAP = re.compile(r"\S {2,}\S")


def read_table(
    text: str, preferred: str, options: Options, problems: Problems, first: int = 0
) -> tuple[list[tuple[dict[str, Any], int]], tuple[str, ...]]:
    """Read (fields, line) of a table whose first line names the columns, and notes about it.

    Quotation marks around a field are not part of it (RFC 4180). In a TSV file they are part of it
    if that is the only way to read the file, or if no field needs them and only some fields have
    them: a sentence in quotation marks, as in Tatoeba's files. A row over several lines is refused
    if each of its lines would be a row.

    Args:
        text: the table.
        preferred: the separator of such files, if the first line does not show another.
        options: how it is read.
        problems: gets the rows that are wrong.
        first: how many rows are read; 0: all.

    Raises:
        Fault: the table as a whole cannot be read.
    """
    lines = _Lines(text)
    _refuse_tags(lines.some(), text)
    separator = lines.pass_by() or _separator(lines.some(), preferred)
    # The limit protects streams, but the text is in memory already. It is global: restore it later.
    limit = csv.field_size_limit(sys.maxsize if sys.maxsize < 2**31 else 2**31 - 1)
    try:
        literal = _is_literal(lines, separator, options)
        joined = Problems()
        rows = _rows(lines, separator, literal, joined, first)
        for problem in joined:
            if options.bad_rows == "skip":  # nobody knows how many rows would be left out
                raise Fault(problem)
            problems.add(problem)
        return to_fields(rows, options, problems)
    finally:
        csv.field_size_limit(limit)


class _Lines:
    """The lines of a text with their ends, numbered, from any place on."""

    def __init__(self, text: str) -> None:
        self._text, self.start, self.number = text, 0, 1

    def __iter__(self) -> Iterator[str]:
        return (match.group() for match in _LINE.finditer(self._text, self.start))

    def some(self) -> list[str]:
        """Return the first lines with text."""
        return [*islice((line for line in self if line.strip()), _LOOKED_AT)]

    def has(self, part: str) -> bool:
        """Return whether the lines have a text in them."""
        return self._text.find(part, self.start) >= 0

    def pass_by(self) -> str:
        """Go to the first line of the table; return the separator of a line `sep=;`, or "".

        Empty lines come first in files of spreadsheets, and lines with # that are no row: they
        have other columns than the line after them.
        """
        separator = ""
        for line, after in pairwise([*islice(self, _LOOKED_AT), ""]):
            plain = line.strip("\r\n")
            if said := re.fullmatch(r'"?sep=(.)"?[,;\t]*', plain, re.IGNORECASE):
                separator = said[1]
            elif plain.strip() and not (plain.startswith("#") and _other_columns(plain, after)):
                break
            self.start += len(line)
            self.number += 1
        return separator


def _refuse_tags(some: Sequence[str], text: str) -> None:
    """Refuse words with tags, one a line, with empty lines between sentences (CoNLL)."""
    pairs = [line.split() for line in some]
    tags = {pair[-1] for pair in pairs}
    if (
        len(pairs) > _FEW
        and all(len(pair) == 2 for pair in pairs)
        and all(map(_TAG.fullmatch, tags))
        and 2 * len(tags) <= len(pairs)
        and re.search(r"\n[^\S\n]*\n", text.strip())
    ):
        raise Fault(
            "this is one word a line with its tag (CoNLL), without texts to learn",
            tagged_hint(text[:_BEGIN].splitlines()),
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
    return fitting[0] if fitting else signs[0] if len(signs) == 1 else preferred


def _fits(lines: list[str], sign: str) -> bool:
    try:
        rows = [row for row in csv.reader(lines, delimiter=sign) if row]
    except csv.Error:
        return False
    # The last row may go on after the lines that were looked at.
    return len({len(row) for row in (rows[:-1] if len(lines) == _LOOKED_AT else rows)}) == 1


def _rows(
    lines: _Lines, separator: str, literal: bool, problems: Problems, first: int
) -> list[tuple[list[str], int]]:
    """Return the cells of each row with its line; rows that marks joined are problems."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = _reader(noted(), separator, literal, _is_spaced(lines, separator))
    rows: list[tuple[list[str], int]] = []
    number, columns = lines.number, 0
    try:
        for row in reader:
            columns = columns or len(row)
            if len(taken) > 1 and all(_looks_whole(line, columns, separator) for line in taken):
                place = f"lines {number} to {number + len(taken) - 1}"
                joined = f"a quotation mark makes one row of these {len(taken)}"
                problems.add(f"{place}: {joined}; {QUOTES}")
            elif len(taken) > 1 and len(row) != columns and rows:
                place = f"lines {number} to {number + len(taken) - 1}"
                problems.add(
                    f"{place}: {counted(len(row), 'field')}, the header has {columns}; {QUOTES}"
                )
            elif row:
                rows.append((row, number))
            number += len(taken)
            taken.clear()
            if first and len(rows) > first:  # the first row may be the names of the columns
                break
    except csv.Error as error:
        if "unexpected end" in str(error):
            what = "a quotation mark opens here and is never closed"
            raise Fault(f"line {number}: {what}; {QUOTES}") from None
        what = f"text after a closing quotation mark ({error})"
        raise Fault(f"line {number}: {what}; {QUOTES}") from None
    return rows


def _reader(lines: Iterator[str], separator: str, literal: bool, spaced: bool) -> Any:
    return csv.reader(
        lines,
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL,
        skipinitialspace=spaced,
    )


def _is_spaced(lines: _Lines, separator: str) -> bool:
    """Return whether a space follows every separator of the header: it is not part of the texts."""
    header = next(iter(lines), "")
    return separator != "\t" and 0 < header.count(separator) == header.count(f"{separator} ")


def _looks_whole(line: str, columns: int, delimiter: str) -> bool:
    """Return whether a line alone would be a row; a comma before a space belongs to a sentence."""
    prose = 0 if delimiter == "\t" else line.count(f"{delimiter} ")
    return columns > 1 and line.count(delimiter) - prose == columns - 1


def _is_literal(lines: _Lines, separator: str, options: Options) -> bool:
    """Return whether quotation marks are part of the texts.

    The rows are counted with and without them: other counts mean that marks join rows, which no
    rule can decide.
    """
    if options.quotes != "auto":
        return options.quotes == "text"
    if separator != "\t" or not lines.has('"') or lines.has('""'):
        return False
    plain = [line.rstrip("\r\n").split("\t") for line in lines if line.strip("\r\n")]
    if len({len(row) for row in plain}) != 1 or len(plain) < 2:
        return False
    if any(cell[:1] == '"' != cell[-1:] for cell in plain[-1]):  # was the file cut off here?
        return False
    columns = list(zip(*plain[1:], strict=True))
    marked = [[cell[:1] == '"' == cell[-1:] and len(cell) > 1 for cell in col] for col in columns]
    if any(map(all, marked)):  # a program wrote them
        return False
    try:
        quoted = [row for row in _reader(iter(lines), separator, False, False) if row]
    except csv.Error:
        return True
    if {len(row) for row in quoted} != {len(plain[0])}:
        return True
    return len(quoted) == len(plain) and any(map(any, marked))
