"""What people see on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

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
        self._title, self._unit = "", ""
        self._total, self._done = 0.0, 0.0
        self._started, self._said = 0.0, 0.0

    def start(self, title: str, total: float, unit: str) -> None:
        """Open a bar; on a plain stream, say what begins."""
        self.finish()
        self._title, self._total, self._unit, self._done = title, total, unit, 0.0
        self._started = self._said = time.monotonic()
        if self._terminal:
            self._bars = _bars()
            self._bars.add_task(title, total=total, detail="")
            self._bars.start()

    def advance(self, amount: float = 1.0, detail: str = "") -> None:
        """Move the bar; on a plain stream, a line every few seconds with the time left."""
        self._done += amount
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], advance=amount, detail=detail)
        elif time.monotonic() - self._said >= PLAIN_EVERY and not self.quiet:
            self._said = time.monotonic()
            spent = self._said - self._started
            left = spent / self._done * (self._total - self._done) if self._done else 0.0
            done = f"{self._done:g}/{self._total:g} {self._unit}"
            tail = f", {detail}" if detail else ""
            self._line(f"{self._title}: {done}{tail}, {duration(left)} left")

    def finish(self) -> None:
        """Close the bar."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

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
    """One JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(table: Table) -> None:
    """A table on stdout."""
    stdout_console().print(table)


def stdout_console() -> Console:
    """Rich on stdout: as wide as the terminal, and wide enough elsewhere not to cut tables."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: "2 h 05 min", "3 min 10 s", "8 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
