"""Show progress on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from m2m.cli.next_step import named
from m2m.errors import Interrupted
from m2m.escaping import one_line, visible
from m2m.formats.json_text import json_text
from m2m.progress import Meter, duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    from m2m.cli.time_left import TimeLeft

PLAIN_EVERY = 5.0
_FOLDED = 24  # characters of a long path, which may be broken anywhere


class TerminalProgress:
    """A `Progress` on stderr; it also passes on the request to stop after SIGINT or SIGTERM."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stopping = False
        self._terminal = sys.stderr.isatty() and not quiet
        self._bars: RichProgress | None = None
        self._stage = ""
        self._stages = (0, 0)
        self._meter: Meter | None = None
        self._began, self._said = time.monotonic(), 0.0
        self.expected: TimeLeft | None = None

    @property
    def is_terminal(self) -> bool:
        """Return whether bars are drawn."""
        return self._terminal

    def stage(self, title: str, number: int, total: int) -> None:
        """Show the stage above the bars from now on; on a plain stream, print its name."""
        self.finish()
        self._stage, self._stages = f"{number}/{total} {title}", (number, total)
        if self.expected:
            self.expected.enter(title)
        if not self.quiet and not self._terminal:
            self._line(self._stage)

    def start(self, title: str, total: float, unit: str) -> None:
        """Open a bar, under the bar of the stage if there is one."""
        self.finish()
        self._meter, self._said = Meter(title, total, unit), time.monotonic()
        if self._terminal:
            self._bars = _bars()
            if self._stage:
                number, stages = self._stages
                self._bars.add_task(
                    one_line(self._stage), total=stages, completed=number - 1, text=self._so_far()
                )
            self._bars.add_task(one_line(title), total=total, text="")
            self._bars.start()

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        """Move the bar; on a plain stream, print a line every few seconds with the time left."""
        if self._meter is None:
            return
        self._meter.advance(amount, detail, earlier=earlier)
        if self.expected:
            self.expected.least = self._meter.left or 0.0
        if self._bars is not None:
            last = self._bars.task_ids[-1]
            self._bars.update(last, advance=amount, text=one_line(str(self._meter)))
            if len(self._bars.task_ids) > 1:
                self._bars.update(self._bars.task_ids[0], text=self._so_far())
        elif time.monotonic() - self._said >= PLAIN_EVERY and not self.quiet:
            self._said = time.monotonic()
            left = f"; {self.expected}" if self.expected and str(self.expected) else ""
            self._line(f"{self._meter.title}: {self._meter}{left}")

    def _so_far(self) -> str:
        left = str(self.expected) if self.expected else ""
        return ", ".join(filter(None, [f"{duration(time.monotonic() - self._began)} so far", left]))

    def finish(self) -> None:
        """Close the bar and leave a line of it; on a plain stream only if it took long."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        meter, self._meter = self._meter, None
        if meter and (self._terminal or (not self.quiet and meter.seconds >= PLAIN_EVERY)):
            self._line(f"{meter.title}: {meter.end}")

    def note(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        self._line(f"Warning: {text}")

    def stop_requested(self) -> bool:
        """Return whether SIGINT or SIGTERM arrived."""
        return self.stopping

    def _line(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(one_line(text), markup=False, highlight=False, emoji=False)
        else:
            say(text, err=True)


@contextmanager
def stoppable(progress: TerminalProgress) -> Iterator[None]:
    """Catch SIGINT and SIGTERM: the first asks the work to save and stop, the second ends it."""

    def ask(number: int, frame: FrameType | None) -> None:
        if progress.stopping:
            raise KeyboardInterrupt
        progress.stopping = True
        progress.warn("stopping after this step; press Ctrl-C again to stop now")

    before = {
        stop_signal: signal.signal(stop_signal, ask)
        for stop_signal in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        progress.finish()
        for stop_signal, handler in before.items():
            signal.signal(stop_signal, handler)


def as_stopped(error: BaseException) -> Interrupted:
    """Return the end of a stopped command, with the line that resumes its work."""
    reason = error.message if isinstance(error, Interrupted) else "stopped"
    return Interrupted(reason, f"go on with `{same_line()}`")


def same_line() -> str:
    """Return the command as the user typed it."""
    return shlex.join(["m2m", *sys.argv[1:]])


def say(*lines: str, err: bool = False, copied: bool = False) -> None:
    """Print lines on stdout or stderr; everything except tables and JSON goes through here.

    A line stays one line, unless a terminal is too narrow for it, and nothing in it can control the
    terminal. `m2m COMMAND RECIPE` in it gets the user's recipe and options. Lines that are `copied`
    are left whole, for people who paste them.
    """
    for line in lines:
        text = one_line(named(line))
        click.echo(text if copied else _at_spaces(text, sys.stderr if err else sys.stdout), err=err)


def asked(question: str) -> str:
    """Return a question to ask on stderr, on lines as `say` prints them."""
    return _at_spaces(one_line(question), sys.stderr)


def _at_spaces(line: str, stream: TextIO) -> str:
    """Break a line that is too long for a terminal between words, and not within `commands`."""
    width = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    if not 0 < width < len(line):
        return line
    indent = line[: len(line) - len(line.lstrip())]
    apart: Any = dict.fromkeys(("break_long_words", "break_on_hyphens"), False)
    apart["subsequent_indent"] = indent and f"{indent}  "
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), line)
    return textwrap.fill(whole, width, **apart).replace("\0", " ")


def warn(warnings: Iterable[str]) -> None:
    """Print warnings on stderr, a line for each."""
    say(*(f"Warning: {warning}" for warning in warnings), err=True)


def say_next(line: str) -> None:
    """Print the command to type next on stdout."""
    say(f"Next       {line}", copied=True)


def say_on(text: str) -> None:
    """Print a piece of an answer on stdout, as soon as it comes."""
    click.echo(visible(text), nl=False)


def say_pieces(pieces: Iterable[tuple[str, bool]], indent: str) -> None:
    """Print pieces of a text on stdout, indented; those with True are bold on a terminal."""
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = "".join(
        click.style(visible(piece), fg="green", bold=True) if marked and bold else visible(piece)
        for piece, marked in pieces
    )
    click.echo(indent + text.replace("\n", f"\n{indent}"))


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; numbers that are not finite become null."""
    click.echo(json_text(value, indent=2))


@dataclass
class PlainTable:
    """A table for people, whose texts may come from strangers.

    Attributes:
        heads: titles of the columns.
        right: titles of columns that hold numbers.
        fold: break long texts of the first column anywhere.
        rows: cells, whether they are bold, and whether a line separates them from the row above.
    """

    heads: tuple[str, ...]
    right: Collection[str] = ()
    fold: bool = False
    rows: list[tuple[tuple[str, ...], bool, bool]] = field(default_factory=list)

    def add_row(self, *cells: str, bold: bool = False, apart: bool = False) -> None:
        """Add a row with one cell for each title."""
        self.rows.append((cells, bold, apart))


def make_table(*heads: str, right: Collection[str] = (), fold: bool = False) -> PlainTable:
    """Make an empty table; see `PlainTable`."""
    return PlainTable(heads, right, fold)


def print_table(table: PlainTable) -> None:
    """Print a table on stdout; cells are plain text, so rich finds no markup in them.

    No name is cut and no word broken: if the table is wider than the terminal allows, each row is
    printed as lines, a line for each column.
    """
    console = stdout_console()
    places = range(len(table.heads))
    if sum(_least(table, place) for place in places) + 3 * len(places) > console.width:
        _print_rows(table)
        return
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    widths = _widths(table, console.width)
    for i, head in enumerate(table.heads):
        drawn.add_column(
            Text(one_line(head)),
            justify="right" if head in table.right else "left",
            overflow="fold" if table.fold and not i else "ellipsis",
            width=widths[i],
        )
    for cells, bold, apart in table.rows:
        if apart:
            drawn.add_section()
        drawn.add_row(*(Text(one_line(cell)) for cell in cells), style="bold" if bold else "")
    console.print(drawn)


def _least(table: PlainTable, place: int) -> int:
    """Return the characters that a column needs so that no word of it is broken."""
    from rich.cells import cell_len

    cells = [one_line(cells[place]) for cells, _, _ in table.rows]
    if table.heads[place] in table.right:  # a number with its error stays on one line
        return max(map(cell_len, [*cells, *one_line(table.heads[place]).split()]), default=0)
    words = [word for text in [*cells, one_line(table.heads[place])] for word in text.split()]
    most = _FOLDED if table.fold and not place else 1 << 30
    return min(most, max(map(cell_len, words), default=0))


def _widths(table: PlainTable, room: int) -> list[int]:
    """Return the columns' widths: their texts', or less of the widest ones, never below `_least`.

    rich would shrink columns below that, widen them again, and cut the last column.
    """
    from rich.cells import cell_len

    texts = [table.heads, *(cells for cells, _, _ in table.rows)]
    widths = [
        max(cell_len(one_line(text)) for text in column) for column in zip(*texts, strict=True)
    ]
    least = [_least(table, place) for place in range(len(widths))]
    while sum(widths) + 3 * len(widths) > room:
        place = max(range(len(widths)), key=lambda i: widths[i] - least[i])
        widths[place] -= 1
    return widths


def _print_rows(table: PlainTable) -> None:
    """Print each row as lines: the first cell, then every other with the head of its column."""
    width = max(map(len, table.heads[1:]), default=0)
    for cells, _, apart in table.rows:
        first, *others = cells
        say("", *(["---"] if apart else []), f"{table.heads[0]} {first}")
        for head, cell in zip(table.heads[1:], others, strict=True):
            if cell:
                say(f"  {head}" if head == cell else f"  {head:{width}}  {cell}")
    say("")


def stdout_console() -> Console:
    """Return rich's console on stdout: as wide as the terminal, or else as wide as tables need."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True)
    whole = Column(no_wrap=False, overflow="fold")  # no name is cut
    text = TextColumn("{task.description}  {task.fields[text]}", markup=False, table_column=whole)
    bar = BarColumn(min(24, console.width // 8))
    return Progress(bar, text, console=console, transient=True)
