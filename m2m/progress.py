"""How long work reports its progress: a small protocol that the command line draws."""

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
    """Receives a run's progress; one bar is open at a time, within one stage."""

    def stage(self, title: str, number: int, total: int) -> None:
        """Begin stage `number` of `total`, counted from 1; later bars belong to it."""

    def start(self, title: str, total: float, unit: str) -> None:
        """Open a bar: `total` in `unit` ("steps", "mixtures")."""

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        """Move the open bar and show `detail` ("loss 2.31") next to it.

        Args:
            amount: in the bar's unit.
            detail: for people.
            earlier: whether an earlier call did this work, so that it says nothing of the speed.
        """

    def finish(self) -> None:
        """Close the open bar."""

    def note(self, text: str) -> None:
        """Show one line that stays."""

    def warn(self, text: str) -> None:
        """Show one line that the user should not miss."""

    def stop_requested(self) -> bool:
        """Return whether the user asked to stop; called between two units of work."""


class Silent:
    """A `Progress` that shows nothing."""

    def stage(self, title: str, number: int, total: int) -> None:
        """Show nothing."""

    def start(self, title: str, total: float, unit: str) -> None:
        """Show nothing."""

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""

    def stop_requested(self) -> bool:
        """Return False, as there is no user to ask."""
        return False


class Meter:
    """The position of a bar, its speed and the time that is left.

    The rate covers only the last moves, so a machine that becomes busy is noticed. Work of an
    earlier call counts as done, and not as fast.

    Args:
        title, total, unit: as in `Progress.start`.
    """

    _MOVES = 50
    # Moves reported all at once were done before: scores in a journal.
    _AT_ONCE = 0.005  # seconds between two such moves, at most

    def __init__(self, title: str, total: float, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0.0
        self.detail = ""
        self.started = time.monotonic()
        self._moves = deque([(self.started, 0.0)], self._MOVES)

    def advance(self, amount: float, detail: str, *, earlier: bool = False) -> None:
        """Note a move; an earlier one leaves the rate as it is."""
        now = time.monotonic()
        self.done += amount
        self.detail = detail
        if earlier:
            moved = [(moment, done + amount) for moment, done in self._moves]
            self._moves = deque(moved, self._MOVES)
            return
        if now - self._moves[-1][0] < self._AT_ONCE and len(self._moves) == 1:
            self._moves[0] = (now, self.done)
        else:
            self._moves.append((now, self.done))

    @property
    def seconds(self) -> float:
        """Return the seconds since it was opened."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Return the units per second; 0 while unknown."""
        (first, before), (last, after) = self._moves[0], self._moves[-1]
        return (after - before) / (last - first) if last > first else 0.0

    @property
    def left(self) -> float | None:
        """Return the seconds that are left, or None while unknown."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        parts = [f"{self.done:g}/{self.total:g} {self.unit}", *self._pace()]
        parts += [self.detail] if self.detail else []
        parts += [f"{duration(self.left)} left"] if self.left is not None else []
        return ", ".join(parts)

    @property
    def end(self) -> str:
        """Return the text for the end of the bar."""
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.done:g}/{self.total:g} {self.unit} in {duration(self.seconds)}{detail}"

    def _pace(self) -> list[str]:
        if not self.rate:
            return []
        if self.rate >= 1:
            return [f"{self.rate:.1f}/s"]
        return [f"{1 / self.rate:.1f} s each"]


def duration(seconds: float) -> str:
    """Format seconds as people say them: "2 h 05 min", "3 min 10 s", "8 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Logged:
    """A `Progress` that passes everything on and also appends it to a log file, with times.

    Args:
        shown: the `Progress` that gets everything.
        path: the log; an existing one is continued.
        warned: gets all warnings.
    """

    EVERY = 30.0

    def __init__(self, shown: Progress, path: Path, warned: list[str] | None = None) -> None:
        self._shown, self._warned = shown, warned
        self._path = path
        self._meter: Meter | None = None
        self._last_written = 0.0

    def stage(self, title: str, number: int, total: int) -> None:
        """Log and show."""
        self.write(f"step {number} of {total}: {title}")
        self._shown.stage(title, number, total)

    def start(self, title: str, total: float, unit: str) -> None:
        """Log and show."""
        self._close()
        self._meter, self._last_written = Meter(title, total, unit), time.monotonic()
        self.write(f"{title}: {total:g} {unit}")
        self._shown.start(title, total, unit)

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        """Show it, and log it now and then."""
        if self._meter:
            self._meter.advance(amount, detail, earlier=earlier)
            if time.monotonic() - self._last_written >= self.EVERY:
                self._last_written = time.monotonic()
                self.write(f"{self._meter.title}: {self._meter}")
        self._shown.advance(amount, detail, earlier=earlier)

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
        if self._warned is not None:
            self._warned.append(text)
        self._shown.warn(text)

    def stop_requested(self) -> bool:
        """Return whether the user asked to stop."""
        return self._shown.stop_requested()

    def write(self, *lines: str) -> None:
        """Append to the log only: one line for each given line, whatever it contains."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        # Never fail a run because its log cannot be written; other files report a full disk.
        with suppress(OSError, InputError), open_to_append(self._path) as file:
            text = "".join(f"{stamp}  {one_line(line)}\n" for line in lines)
            file.write(text.encode("utf-8"))

    def _close(self) -> None:
        if self._meter:
            self.write(f"{self._meter.title}: {self._meter.end}")
        self._meter = None
