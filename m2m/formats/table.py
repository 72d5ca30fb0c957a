"""Rows of CSV and TSV files; m2m refuses quotation marks that join several rows to one."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from m2m.errors import Problems

QUOTES = (
    'a quotation mark that belongs to the text is written twice in a quoted field: "say ""yes"""; '
    "or save the file as JSONL"
)


def read_table(
    text: str, delimiter: str, problems: Problems
) -> Iterator[tuple[dict[str, Any], int]]:
    """Read (fields, line) of a table whose first line names the columns.

    Quotation marks around a field are not part of it (RFC 4180). In a TSV file they are part of it
    if no field needs them and only some fields have them: a sentence in quotation marks, as in
    Tatoeba's files. A row over several lines is refused if each of its lines would be a row.
    """
    literal = delimiter == "\t" and _are_literal(text)
    # The limit protects streams, but the text is in memory already. It is global: restore it later.
    limit = csv.field_size_limit(sys.maxsize if sys.maxsize < 2**31 else 2**31 - 1)
    # csv also ends lines at a lone CR, so count lines in the same way.
    lines = re.split("\r\n|\n|\r", text)
    line = 1
    try:
        rows = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            strict=True,
            quoting=csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL,
        )
        header = next(rows, None)
        if header is None or not _is_header(header, delimiter, problems):
            if header is None:
                problems.add("line 1: expected a header with the names of the columns")
            return
        line = rows.line_num + 1
        for row in rows:
            if wrong := _fault(row, header, lines[line - 1 : rows.line_num], line, delimiter):
                problems.add(wrong)
            elif row:
                yield dict(zip(header, row, strict=True)), line
            line = rows.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            problems.add(f"line {line}: a quotation mark opens here and is never closed; {QUOTES}")
        else:
            problems.add(f"line {line}: text after a closing quotation mark ({error}); {QUOTES}")
    finally:
        csv.field_size_limit(limit)


def _is_header(names: list[str], delimiter: str, problems: Problems) -> bool:
    first = names[0].strip().lower() if names else ""
    if first.startswith(("sep=", "#")):
        problems.add(f"line 1: delete it: the first line names the columns, found {names[0]!r:.40}")
        return False
    if len(names) == 1:
        for other, name in (("\t", "tabs"), ("|", "|"), (";", ";"), (",", "commas")):
            if other != delimiter and other in names[0]:
                expected = "tabs" if delimiter == "\t" else "commas"
                better = {"\t": "; rename it to .tsv", ",": "; rename it to .csv"}.get(other, "")
                fault = f"the columns are separated by {name}, expected {expected}{better}"
                problems.add(f"line 1: {fault}")
                return False
    if "" in names[1:]:
        problems.add("line 1: a column has no name; name it, or delete it")
        return False
    if not names or len(set(names)) != len(names):
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        fault = "no header" if twice is None else f"two columns called {twice!r}"
        problems.add(f"line 1: found {fault}, expected a header with different names")
        return False
    return True


def _fault(
    row: list[str], header: list[str], lines: list[str], line: int, delimiter: str
) -> str | None:
    """Return the fault of one row, or None; `lines` are its lines, the first has number `line`."""
    place = f"lines {line} to {line + len(lines) - 1}"
    if row == header:
        return f"line {line}: repeats the header; delete it"
    if row and len(row) != len(header):
        fault = f"{len(row)} field{'s' * (len(row) > 1)}, the header has {len(header)}"
        return f"line {line}: {fault}" if len(lines) == 1 else f"{place}: {fault}; {QUOTES}"
    if len(lines) > 1 and all(_looks_whole(text, len(header), delimiter) for text in lines):
        return f"{place}: a quotation mark makes one row of these {len(lines)}; {QUOTES}"
    return None


def _looks_whole(line: str, columns: int, delimiter: str) -> bool:
    """Return whether a line alone would be a row; a comma before a space belongs to a sentence."""
    prose = 0 if delimiter == "\t" else line.count(f"{delimiter} ")
    return columns > 1 and line.count(delimiter) - prose == columns - 1


def _are_literal(text: str) -> bool:
    """Return whether quotation marks around fields of a TSV file are part of their texts."""
    if '""' in text or '"' not in text:
        return False
    cells = [line.removesuffix("\r").split("\t") for line in text.split("\n") if line.strip("\r")]
    if len({len(row) for row in cells}) != 1 or len(cells) < 2:
        return False
    for row in cells:
        for cell in row:
            if cell.startswith('"') and (len(cell) < 2 or not cell.endswith('"')):
                return False
    columns = list(zip(*cells[1:], strict=True))
    quoted = [[cell[:1] == '"' for cell in column] for column in columns]
    return any(map(any, quoted)) and not any(map(all, quoted))
