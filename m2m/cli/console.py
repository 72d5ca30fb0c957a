"""What people see on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from m2m.formats.json_text import json_text
from m2m.progress import Meter, duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.table import Table

PLAIN_EVERY = 5.0


class TerminalProgress:
    """A `Progress` on stderr; it also carries the request to stop after SIGINT or SIGTERM."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stopping = False
        self._terminal = sys.stderr.isatty() and not quiet
        self._bars: RichProgress | None = None
        self._stage = ""
        self._stages = (0, 0)
        self._meter: Meter | None = None
        self._began, self._said = time.monotonic(), 0.0

    def stage(self, title: str, number: int, total: int) -> None:
        """Head the bars from now on; on a plain stream, say what begins."""
        self.finish()
        self._stage, self._stages = f"{number}/{total} {title}", (number, total)
        if not self.quiet and not self._terminal:
            self._line(self._stage)

    def start(self, title: str, total: float, unit: str) -> None:
        """Open a bar, under that of the stage where there is one."""
        self.finish()
        self._meter, self._said = Meter(title, total, unit), time.monotonic()
        if self._terminal:
            self._bars = _bars()
            if self._stage:
                number, stages = self._stages
                text = f"{duration(time.monotonic() - self._began)} so far"
                self._bars.add_task(self._stage, total=stages, completed=number - 1, text=text)
            self._bars.add_task(title, total=total, text="")
            self._bars.start()

    def advance(self, amount: float = 1.0, detail: str = "") -> None:
        """Move the bar; on a plain stream, a line every few seconds with the time left."""
        if self._meter is None:
            return
        self._meter.advance(amount, detail)
        if self._bars is not None:
            last = self._bars.task_ids[-1]
            self._bars.update(last, advance=amount, text=str(self._meter))
            if len(self._bars.task_ids) > 1:
                text = f"{duration(time.monotonic() - self._began)} so far"
                self._bars.update(self._bars.task_ids[0], text=text)
        elif time.monotonic() - self._said >= PLAIN_EVERY and not self.quiet:
            self._said = time.monotonic()
            self._line(f"{self._meter.title}: {self._meter}")

    def finish(self) -> None:
        """Close the bar and leave a line of it; on a plain stream only where it took long."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        meter, self._meter = self._meter, None
        if meter and (self._terminal or (not self.quiet and meter.seconds >= PLAIN_EVERY)):
            self._line(f"{meter.title}: {meter.end}")

    def note(self, text: str) -> None:
        """Say one line, unless quiet."""
        if not self.quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """Say a warning, also when quiet."""
        self._line(f"Warning: {text}")

    def stop_requested(self) -> bool:
        """Whether SIGINT or SIGTERM arrived."""
        return self.stopping

    def _line(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)


@contextmanager
def stoppable(progress: TerminalProgress) -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM asks the work to save and stop; the second ends it."""

    def ask(number: int, frame: FrameType | None) -> None:
        if progress.stopping:
            raise KeyboardInterrupt
        progress.stopping = True
        progress.warn("stopping after this step; once more to stop at once")

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        progress.finish()
        for each, handler in before.items():
            signal.signal(each, handler)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; what is not a finite number is null."""
    click.echo(json_text(value, indent=2))


def make_table(*heads: str, right: Collection[str] = ()) -> Table:
    """An empty table; the columns of the `right` heads hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left")
    return table


def print_table(table: Table) -> None:
    """A table on stdout."""
    stdout_console().print(table)


def stdout_console() -> Console:
    """Rich on stdout: as wide as the terminal, and wide enough elsewhere not to cut tables."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        transient=True,
    )
