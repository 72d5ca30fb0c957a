"""How long work tells what it is doing: a small protocol that the command line draws."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from m2m.errors import InputError
from m2m.escaping import one_line
from m2m.opening import open_to_append


class Progress(Protocol):
    """Receives what a run is doing; one bar is open at a time, within one stage."""

    def stage(self, title: str, number: int, total: int) -> None:
        """Say that the bars from now on belong to stage `number` of `total`, counted from 1."""

    def start(self, title: str, total: float, unit: str) -> None:
        """Open a bar: `total` in `unit` ("steps", "mixtures")."""

    def advance(self, amount: float = 1.0, detail: str = "") -> None:
        """Move the open bar and show `detail` ("loss 2.31") beside it."""

    def finish(self) -> None:
        """Close the open bar."""

    def note(self, text: str) -> None:
        """Say one line that stays."""

    def warn(self, text: str) -> None:
        """Say one line that the user should not miss."""

    def stop_requested(self) -> bool:
        """Whether the user asked to stop; asked between two units of work."""


class Silent:
    """A `Progress` that shows nothing."""

    def stage(self, title: str, number: int, total: int) -> None:
        """Show nothing."""

    def start(self, title: str, total: float, unit: str) -> None:
        """Show nothing."""

    def advance(self, amount: float = 1.0, detail: str = "") -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""

    def stop_requested(self) -> bool:
        """Nobody asks."""
        return False


class Meter:
    """How far a bar is, how fast it moves and how long it will still take.

    The rate is that of the last moves: what came from an earlier process counts as done, not as
    fast, and a machine that becomes busy is seen.

    Args:
        title, total, unit: as in `Progress.start`.
    """

    _MOVES = 50
    # What is reported at once was done before: steps of an earlier process, scores in a journal.
    _AT_ONCE = 0.005  # seconds from one to the next

    def __init__(self, title: str, total: float, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0.0
        self.detail = ""
        self.started = time.monotonic()
        self._moves = deque([(self.started, 0.0)], self._MOVES)

    def advance(self, amount: float, detail: str) -> None:
        """Note a move."""
        now = time.monotonic()
        self.done += amount
        self.detail = detail
        if now - self._moves[-1][0] < self._AT_ONCE and len(self._moves) == 1:
            self._moves[0] = (now, self.done)
        else:
            self._moves.append((now, self.done))

    @property
    def seconds(self) -> float:
        """Since it was opened."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Units a second; 0 where nothing is known yet."""
        (first, before), (last, after) = self._moves[0], self._moves[-1]
        return (after - before) / (last - first) if last > first else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that it will still take, None where nothing is known yet."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        parts = [f"{self.done:g}/{self.total:g} {self.unit}", *self._pace()]
        parts += [self.detail] if self.detail else []
        parts += [f"{duration(self.left)} left"] if self.left is not None else []
        return ", ".join(parts)

    @property
    def end(self) -> str:
        """What there is to say when it is closed."""
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.done:g}/{self.total:g} {self.unit} in {duration(self.seconds)}{detail}"

    def _pace(self) -> list[str]:
        if not self.rate:
            return []
        if self.rate >= 1:
            return [f"{self.rate:.1f}/s"]
        return [f"{1 / self.rate:.1f} s each"]


def duration(seconds: float) -> str:
    """Seconds as people say them: "2 h 05 min", "3 min 10 s", "8 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Logged:
    """A `Progress` that passes everything on and also appends it to a log file, with times.

    Args:
        shown: where everything goes.
        path: the log; an earlier one is continued.
    """

    EVERY = 30.0

    def __init__(self, shown: Progress, path: Path) -> None:
        self._shown = shown
        self._path = path
        self._meter: Meter | None = None
        self._said = 0.0

    def stage(self, title: str, number: int, total: int) -> None:
        """Log and show."""
        self.write(f"step {number} of {total}: {title}")
        self._shown.stage(title, number, total)

    def start(self, title: str, total: float, unit: str) -> None:
        """Log and show."""
        self._close()
        self._meter, self._said = Meter(title, total, unit), time.monotonic()
        self.write(f"{title}: {total:g} {unit}")
        self._shown.start(title, total, unit)

    def advance(self, amount: float = 1.0, detail: str = "") -> None:
        """Show, and log now and then."""
        if self._meter:
            self._meter.advance(amount, detail)
            if time.monotonic() - self._said >= self.EVERY:
                self._said = time.monotonic()
                self.write(f"{self._meter.title}: {self._meter}")
        self._shown.advance(amount, detail)

    def finish(self) -> None:
        """Log and show."""
        self._close()
        self._shown.finish()

    def note(self, text: str) -> None:
        """Log and show."""
        self.write(text)
        self._shown.note(text)

    def warn(self, text: str) -> None:
        """Log and show."""
        self.write(f"Warning: {text}")
        self._shown.warn(text)

    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""
        return self._shown.stop_requested()

    def write(self, *lines: str) -> None:
        """Append to the log only: as many lines as are given, whatever is in them."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        # No work ends for its diary: a full disk is told by the next file that matters.
        with suppress(OSError, InputError), open_to_append(self._path) as file:
            text = "".join(f"{stamp}  {one_line(line)}\n" for line in lines)
            file.write(text.encode("utf-8"))

    def _close(self) -> None:
        if self._meter:
            self.write(f"{self._meter.title}: {self._meter.end}")
        self._meter = None
