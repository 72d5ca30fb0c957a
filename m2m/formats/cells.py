"""Rows of cells, as tables and sheets have them, turned into rows with names."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from m2m.counted import counted
from m2m.errors import Problems
from m2m.formats.rowfile import Fault, Options, Record
from m2m.formats.spooled import gathered, made, taken

# Columns that m2m itself reads; written with capitals they are the same columns.
FIELDS = {"prompt", "completion", "question", "answer", "answers", "text", "label", "labels"}
FIELDS |= {"instruction", "input", "output", "system", "choices", "messages", "conversations"}
FIELDS |= {"response", "source", "target"}
# Words that programs write for an empty cell; pandas reads them so, too. "None" is often a label.
NULLS = frozenset({"NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "\\N"})
NO_NULLS: frozenset[str] = frozenset({"\\N"})
_MOST_LABELS, _LONGEST_LABEL = 20, 30
_LOOKED_AT, _MOST_TITLES = 100, 10  # rows that show how many columns a table has; titles above it
_OF_NUMBERS = re.compile(  # names of a first column that has a number for each row
    r"|#|.*(id|idx|index|no\.?|nr|num|number|namba|nambari|s/?n|row|line|key|year|mwaka|page|verse)",
    re.IGNORECASE,
)
Cells = list[Any]
Row = tuple[Cells, int]  # the cells of a row, and its line


def collected_cells(rows: Iterable[Row]) -> Sequence[Row]:
    """Return rows as a list, or in a temporary file if they are many (`m2m.formats.spooled`)."""
    return gathered(rows, lambda row: row, lambda row: row)


def to_fields(
    rows: Sequence[Row],
    options: Options,
    problems: Problems,
    nulls: frozenset[str] = NULLS,
) -> tuple[Sequence[Record], tuple[str, ...]]:
    """Return the rows with names, and notes about columns that were left out.

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
    first = options.header if isinstance(options.header, int) else 0
    filled = [n for n, (row, line) in enumerate(rows) if line >= first and not _is_blank(row)]
    if first and not (filled and rows[filled[0]][1] == first):
        raise Fault(f"line {first}: expected the names of the columns", "correct `header`")
    if options.header == "no":
        widths = (len(row) for row, _ in (taken(rows, filled) if filled else rows))
        raw = [str(number) for number in range(1, max(widths) + 1)]
        body, line = taken(rows, filled), 1
    elif filled:
        (raw, line), body = rows[filled[0]], taken(rows, filled[1:])
    else:
        raise Fault(
            "line 1: expected a header with the names of the columns", "is it the right file?"
        )
    raw = _with_index(raw, body)
    names = [str(name).strip() for name in raw]
    if options.header == "auto":
        _refuse_titles(rows, filled)
    kept, notes = _with_names(names, body, line)
    names, twice = _apart(_folded(names), kept)
    notes += twice
    _refuse_twice([names[i] for i in kept], line)
    labels = _label_columns(body, kept, nulls)
    own = [(i, names[i], NO_NULLS if i in labels else nulls) for i in kept]

    def record(row: Row) -> Record:
        cells, line = row
        return Record({name: _value(cells[i], empty) for i, name, empty in own}, line)

    good = array("q")
    for place, (cells, line) in enumerate(body):
        if options.header != "no" and _repeats(cells, raw):
            problems.add(f"line {line}: repeats the header; delete it")
        elif not _fits(cells, len(names)):
            problems.add(
                f"line {line}: {counted(len(cells), 'field')}, the header has {len(names)}"
            )
        else:
            good.append(place)
    return made(body if len(good) == len(body) else taken(body, good), record), notes


def _with_index(names: Cells, body: Sequence[Row]) -> Cells:
    """Return the names with an empty one first if R numbered the rows: it names no such column.

    Rows with a separator at their end, or with a first column of numbers such as `id`, also have
    a cell more than the header.
    """
    more = len(names) + 1
    if not names or _OF_NUMBERS.fullmatch(str(names[0]).strip()):
        return names
    if body and len(body[0][0]) == more and all(len(cells) == more for cells, _ in body):
        filled = any(cells[-1] is not None and str(cells[-1]).strip() for cells, _ in body)
        return ["", *names] if filled and _numbers(body) else names
    return names


def _apart(names: list[str], kept: Sequence[int]) -> tuple[list[str], tuple[str, ...]]:
    """Return the names with a number after each one that is there already, and notes.

    Names that m2m reads are left as they are, to be refused: nobody knows which one is meant.
    """
    notes, seen = list[str](), {names[place] for place in kept}
    times = Counter[str]()
    for place in kept:
        name = names[place]
        times[name] += 1
        if times[name] > 1 and name.lower() not in FIELDS:
            free = (f"{name} {number}" for number in count(times[name]))
            names[place] = next(new for new in free if new not in seen)
            seen.add(names[place])
            notes.append(f"column {place + 1} is called {name}, too: it is {names[place]} here")
    return names, (*notes[:_MOST_TITLES],)


def _label_columns(rows: Sequence[Row], places: Sequence[int], nulls: frozenset[str]) -> set[int]:
    """Return the columns of a few words in which NA and the like may be one of the labels.

    They keep the word: only the whole file, or the user, can say what it means.
    """
    counts: dict[int, Counter[str]] = {
        place: Counter()
        for cells, _ in (rows if nulls else ())
        if not nulls.isdisjoint(cells)
        for place in places
        if place < len(cells) and cells[place] in nulls
    }
    for cells, _ in rows if counts else ():
        for place, own in counts.items():
            if place < len(cells) and len(own) <= _MOST_LABELS:
                own[str(cells[place])] += 1
    return {place for place, own in counts.items() if _are_labels(own, len(rows), nulls)}


def _are_labels(counts: Counter[str], rows: int, nulls: frozenset[str]) -> bool:
    """Return whether the words of a column, with the times of each, are labels."""
    words = [word for word in counts if word in nulls and word != "\\N"]
    others = [word for word in counts if word not in nulls and word.strip()]
    few = len(counts) <= _MOST_LABELS and 2 * len(counts) <= rows
    plain = others and not any(re.fullmatch(r"-?[\d.,]+", word) for word in others)
    short = all(len(word) <= _LONGEST_LABEL for word in others)
    return bool(words and few and plain and short) and max(counts[word] for word in words) > 1


def _repeats(cells: Cells, names: list[str]) -> bool:
    """Return whether a row is the header again, from files that were joined.

    Case does not count in a header of several columns; in one column, it may be a word of a list.
    """
    if cells == names:
        return True
    plain, known = ([str(cell).strip().casefold() for cell in row] for row in (cells, names))
    return len(names) > 1 and plain == known


def _is_blank(cells: Cells) -> bool:
    return not any(cell if not isinstance(cell, str) else cell.strip() for cell in cells)


def _value(cell: Any, nulls: frozenset[str]) -> Any:
    return None if isinstance(cell, str) and cell in nulls else cell


def _refuse_titles(rows: Sequence[Row], filled: Sequence[int]) -> None:
    """Refuse a table with titles above the names of its columns: rows with fewer cells.

    Raises:
        Fault: names the line that probably has the names.
    """
    some = [rows[place] for place in filled[:_LOOKED_AT]]
    widths = [sum(not _is_blank([cell]) for cell in cells) for cells, _ in some]
    usual, times = Counter(widths).most_common(1)[0]
    indexed = _is_blank(some[0][0][:1])  # a first column without a name
    if indexed or 2 * widths[0] > usual or 2 * times < len(widths):
        return
    line = next(
        (at for (_, at), width in zip(some[:_MOST_TITLES], widths, strict=False) if width >= usual),
        0,
    )
    if line:
        title = " ".join(str(cell).strip() for cell in some[0][0]).strip()
        raise Fault(
            f"line {some[0][1]}: {title!r:.60} is a title, and not the names of "
            f"{counted(usual, 'column')}",
            f"write `header = {line}` below its path in the recipe, if line {line} has the names; "
            "or delete the lines above them",
        )


def _fits(cells: Cells, count: int) -> bool:
    """Return whether a row has as many cells as there are columns, or more that are empty."""
    return len(cells) == count or (len(cells) > count and _is_blank(cells[count:]))


def _with_names(
    names: list[str], body: Sequence[Row], line: int
) -> tuple[list[int], tuple[str, ...]]:
    """Return the places of the columns that have a name, and a note about an index without one.

    The others have to be empty.

    Raises:
        Fault: a column without a name has text, and it does not count the rows.
    """
    notes: tuple[str, ...] = ()
    for place, name in enumerate(names):
        if name:
            continue
        column = ((cells[place], at) for cells, at in body if place < len(cells))
        text = next(((cell, at) for cell, at in column if not _is_blank([cell])), None)
        numbers = _numbers(body) if text and place == 0 else None
        if numbers:
            notes = index_notes(numbers, "column 1")
        elif text:
            raise Fault(
                f"line {line}: column {place + 1} has no name, and line {text[1]} has "
                f"{text[0]!r:.40} in it",
                "name the column, or delete it; if the names are on a later line, delete the lines "
                "above them",
            )
    return [place for place, name in enumerate(names) if name], notes


def _numbers(body: Sequence[Row]) -> Sequence[int] | None:
    """Return the numbers of a first column that numbers the rows, each once, as pandas' index does.

    The rows of a part, or of a shuffled file, have numbers with gaps; an index with an empty place
    is written as 0.0, 1.0.
    """
    numbers = array("q")
    for cells, _ in body:
        value = str(cells[0]).strip().removesuffix(".0") if cells else ""
        if not (value.isdecimal() and len(value) < 10):
            return None
        numbers.append(int(value))
    return numbers if len({*numbers}) == len(numbers) else None


def index_notes(numbers: Sequence[int], name: str) -> tuple[str, ...]:
    """Say that an index is left out.

    Args:
        numbers: a different whole number for each row.
        name: its column.
    """
    if numbers[0] in (0, 1) and all(n == i for i, n in enumerate(numbers, numbers[0])):
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
