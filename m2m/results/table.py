"""One table for every medium: the terminal, the HTML report, Markdown, LaTeX and CSV.

Cells hold values, not text. A reader sees each as its column formats it; CSV gets the numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from m2m.escaping import csv_text, latex_text
from m2m.evaluate.score import Score
from m2m.mix.ranking import Interval

Cell = str | int | float | Score | Interval | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: its name in CSV; a `Score` adds `KEY_stderr`, an `Interval` `KEY_low` and `KEY_high`.
        head: its title for people; "" if only CSV has it.
        kind: type of its cells, which may also be None.
        text: formats a cell for people; by default, as usual for its kind.
    """

    key: str
    head: str
    kind: type = str
    text: Callable[[Any], str] | None = None

    @property
    def numeric(self) -> bool:
        """Return whether it is aligned to the right."""
        return self.kind is not str

    def shown(self, cell: Cell) -> str:
        """Format a cell for people."""
        if cell is None:
            return "-"
        return self.text(cell) if self.text else _written(cell)

    @property
    def keys(self) -> list[str]:
        """Return the names of its columns in CSV."""
        return [self.key, *(f"{self.key}_{part}" for part in _PARTS.get(self.kind, ()))]

    def values(self, cell: Cell) -> list[str | int | float]:
        """Return a cell's values in CSV, one for each of `keys`; unknown numbers are empty."""
        values: list[Any] = [cell]
        if isinstance(cell, Interval):
            values = [cell.estimate, cell.low, cell.high]
        elif isinstance(cell, Score):
            values = [*cell]
        values += [None] * (len(self.keys) - len(values))
        return [_csv_value(value) for value in values]


_PARTS: dict[type, tuple[str, ...]] = {Score: ("stderr",), Interval: ("low", "high")}


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Attributes:
        name: name of its file, and of its place in a report.
        caption: its subject, without a full stop.
        strong: rows that stand out.
        top: number of rows that people see first, for a long table; 0: all. CSV always has all.
        bottom: number of rows that people see last, after a gap.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    strong: frozenset[int] = field(default=frozenset())
    top: int = 0
    bottom: int = 0

    @property
    def visible(self) -> list[int]:
        """Return the indices of the columns that people see."""
        return [i for i, column in enumerate(self.columns) if column.head]

    @property
    def heads(self) -> list[str]:
        """Return the titles of the columns that people see."""
        return [self.columns[i].head for i in self.visible]

    @property
    def numeric(self) -> list[bool]:
        """Return for each of `heads` whether its column is aligned to the right."""
        return [self.columns[i].numeric for i in self.visible]

    def shown(self) -> Iterator[tuple[list[str], bool]]:
        """Yield the rows that people see, as text, and if each stands out; a gap is "..."."""
        count = len(self.rows)
        gap = self.top if 0 < self.top + self.bottom < count and self.top else count
        for place, row in enumerate(self.rows):
            if gap <= place < count - self.bottom:
                if place == gap:
                    yield ["...", *[""] * (len(self.visible) - 1)], False
                continue
            yield [self.columns[i].shown(row[i]) for i in self.visible], place in self.strong


def as_csv(table: Table) -> str:
    """Format a table as CSV with a header (RFC 4180, but with plain line ends)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_csv_value(key) for column in table.columns for key in column.keys)
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        writer.writerow(value for column, cell in cells for value in column.values(cell))
    return out.getvalue()


def as_markdown(table: Table, escape: Callable[[str], str]) -> str:
    """Format a table as Markdown; `escape` makes text of strangers harmless, as numbers are."""
    columns = [table.columns[i] for i in table.visible]

    def cell(column: Column, text: str) -> str:
        return text if column.numeric or text == "-" else escape(text)

    rows = (map(cell, columns, row) for row, _ in table.shown())
    lines = [map(escape, table.heads), ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_latex(table: Table) -> str:
    """Format a table as LaTeX for the package booktabs."""
    aligned = "".join("r" if numeric else "l" for numeric in table.numeric)
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in
             [table.heads, *(row for row, _ in table.shown())]]  # fmt: skip
    body = "\n".join(lines[1:])
    return (
        f"% {latex_text(table.caption)}; needs \\usepackage{{booktabs}}\n"
        f"\\begin{{tabular}}{{{aligned}}}\n\\toprule\n{lines[0]}\n\\midrule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _written(cell: Cell) -> str:
    if isinstance(cell, Score):
        return cell.text()
    if isinstance(cell, bool):
        return "=" if cell else ""
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _csv_value(value: Any) -> str | int | float:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    return csv_text(str(value))
