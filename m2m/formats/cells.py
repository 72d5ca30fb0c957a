"""Rows of cells, as tables and sheets have them, turned into rows with names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from m2m.counted import counted
from m2m.errors import Problems
from m2m.formats.rowfile import Fault, Options

# Columns that m2m itself reads; written with capitals they are the same columns.
FIELDS = {"prompt", "completion", "question", "answer", "answers", "text", "label", "labels"}
FIELDS |= {"instruction", "input", "output", "system", "choices", "messages", "conversations"}
FIELDS |= {"response", "source", "target"}
# Words that programs write for an empty cell; pandas reads them so, too. "None" is often a label.
NULLS = frozenset({"NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "\\N"})
NO_NULLS: frozenset[str] = frozenset({"\\N"})
_MOST_LABELS, _LONGEST_LABEL = 20, 30
Cells = list[Any]


def to_fields(
    rows: Sequence[tuple[Cells, int]],
    options: Options,
    problems: Problems,
    nulls: frozenset[str] = NULLS,
) -> tuple[list[tuple[dict[str, Any], int]], tuple[str, ...]]:
    """Return (fields, line) of each row, and notes about columns that were left out.

    Empty rows, empty columns without a name, and a first column without a name that counts the rows
    are left out. A column of labels keeps NA and the like.

    Args:
        rows: cells with the line of each row; the first row with text names the columns.
        options: how the file is read.
        problems: gets rows with another number of cells than there are columns.
        nulls: words that stand for an empty cell.

    Raises:
        Fault: the names of the columns are missing or not different.
    """
    filled = [row for row in rows if not _is_blank(row[0])]
    if options.header == "no":
        raw = [str(number) for number in range(1, max(len(row) for row, _ in filled or rows) + 1)]
        body, line = filled, 1
    elif filled:
        (raw, line), *body = filled
    else:
        raise Fault(
            "line 1: expected a header with the names of the columns", "is it the right file?"
        )
    names = [str(name).strip() for name in raw]
    kept = _with_names(names, body, line)
    first = [row[0] for row, _ in body]
    notes = index_notes(first, "column 1") if not names[0] and not _is_blank(first) else ()
    names = _folded(names)
    _refuse_twice([names[i] for i in kept], line)
    fields = []
    labels = _label_columns([cells for cells, _ in body], kept, nulls)
    for cells, place in body:
        if cells == raw and options.header != "no":
            problems.add(f"line {place}: repeats the header; delete it")
        elif (fitted := _fitted(cells, len(names))) is None:
            problems.add(
                f"line {place}: {counted(len(cells), 'field')}, the header has {len(names)}"
            )
        else:
            own = {names[i]: _value(fitted[i], NO_NULLS if i in labels else nulls) for i in kept}
            fields.append((own, place))
    return fields, notes


def _label_columns(rows: Sequence[Cells], places: Sequence[int], nulls: frozenset[str]) -> set[int]:
    """Return the columns of a few words in which NA and the like may be one of the labels.

    They keep the word: only the whole file, or the user, can say what it means.
    """
    found = set()
    for place in places:
        if not any(place < len(row) and str(row[place]) in nulls for row in rows):
            continue
        counts = Counter(str(row[place]) for row in rows if place < len(row))
        words = [word for word in counts if word in nulls and word != "\\N"]
        others = [word for word in counts if word not in nulls and word.strip()]
        few = len(counts) <= _MOST_LABELS and 2 * len(counts) <= len(rows)
        plain = others and not any(re.fullmatch(r"-?[\d.,]+", word) for word in others)
        short = all(len(word) <= _LONGEST_LABEL for word in others)
        if words and few and plain and short and max(counts[word] for word in words) > 1:
            found.add(place)
    return found


def _is_blank(cells: Cells) -> bool:
    return not any(cell if not isinstance(cell, str) else cell.strip() for cell in cells)


def _value(cell: Any, nulls: frozenset[str]) -> Any:
    return None if isinstance(cell, str) and cell in nulls else cell


def _fitted(cells: Cells, count: int) -> Cells | None:
    """Return as many cells as there are columns; None if some are missing, or more have text."""
    if len(cells) == count:
        return cells
    return cells[:count] if len(cells) > count and _is_blank(cells[count:]) else None


def _with_names(names: list[str], body: Sequence[tuple[Cells, int]], line: int) -> list[int]:
    """Return the places of the columns that have a name; the others have to be empty.

    Raises:
        Fault: a column without a name has text, and it does not count the rows.
    """
    kept = []
    for place, name in enumerate(names):
        if name:
            kept.append(place)
            continue
        column = [(row[place], at) for row, at in body if place < len(row)]
        text = next(((cell, at) for cell, at in column if not _is_blank([cell])), None)
        if text and not (place == 0 and _numbers_rows(column)):
            raise Fault(
                f"line {line}: column {place + 1} has no name, and line {text[1]} has "
                f"{text[0]!r:.40} in it",
                "name the column, or delete it; if the names are on a later line, delete the lines "
                "above them",
            )
    return kept


def _numbers_rows(column: Sequence[tuple[Any, int]]) -> bool:
    """Return whether a column numbers the rows, each once, as pandas writes its index.

    The rows of a part, or of a shuffled file, have numbers with gaps; an index with an empty place
    is written as 0.0, 1.0.
    """
    values = [str(cell).strip().removesuffix(".0") for cell, _ in column]
    whole = all(value.isdecimal() and len(value) < 10 for value in values)
    return whole and len({*values}) == len(values)


def index_notes(values: Sequence[Any], name: str) -> tuple[str, ...]:
    """Say that an index is left out.

    Args:
        values: a different whole number for each row.
        name: its column.
    """
    numbers = [int(float(value)) for value in values]
    if numbers in ([*range(len(numbers))], [*range(1, len(numbers) + 1)]):
        return (f"{name} has no name and only counts the rows: it is left out",)
    return (
        f"{name} has no name and a different whole number in each row: it is taken for an index "
        "and left out; name it if it is needed",
    )


def _folded(names: list[str]) -> list[str]:
    """Write the columns that m2m reads in small letters, unless such a column is there, too."""
    lower = Counter(name.lower() for name in names)
    return [
        name.lower() if name.lower() in FIELDS and lower[name.lower()] == 1 else name
        for name in names
    ]


def _refuse_twice(names: list[str], line: int) -> None:
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise Fault(
            f"line {line}: two columns called {twice!r}, expected a header with different names",
            "rename one of them, or delete it",
        )
