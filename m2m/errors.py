"""The errors of m2m: a message for the reader, and the next step to take.

Every error that a user can cause is an `M2MError`. Its message names the fault, its place, and the
found and expected values; its hint names the next step. Other errors are bugs with a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Self

from m2m.escaping import visible

_LATER_LINE = re.compile(r"\n(?!  )")


# Gravity of warnings: the result is worth nothing; it is unsure; small differences are not real.
WORTHLESS, UNSURE, NOISY, OTHER = range(4)


class WarningText(str):
    """A warning, with its gravity: the lower, the less the result is worth."""

    gravity: int

    def __new__(cls, text: str, gravity: int = OTHER) -> Self:
        """Make one of a sentence, which may be one already."""
        made = super().__new__(cls, text)
        made.gravity = min(gravity, getattr(text, "gravity", OTHER))
        return made


class M2MError(Exception):
    """An expected failure, shown to the user without a traceback (exit code 1).

    Args:
        message: the fault and its place, one line or several, without a full stop at the end.
        hint: the next step, or None if the message already contains it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def for_user(self, where: str = "") -> str:
        """Format the error for the user: the message after "Error: ", a blank line, the hint.

        All later lines are indented, so that text of strangers cannot forge an error or a hint.
        """
        head = "" if isinstance(self, Interrupted) else f"Error: {where}"
        parts = [head + self.message, *([f"hint: {self.hint}"] if self.hint else [])]
        return "\n\n".join(_LATER_LINE.sub("\n  ", visible(part)) for part in parts)


class InputError(M2MError):
    """A file or value that the user gave is missing, malformed or does not fit."""


class RecipeError(M2MError):
    """The recipe has mistakes; the message lists all of them."""


class ResourceError(M2MError):
    """Memory, disk or another part of this machine does not suffice."""


class DeviceError(ResourceError):
    """A GPU is lost, busy or too small, or lacks an operation; the processor could go on."""


class LimitError(M2MError):
    """A stranger's file asks for more memory or time than m2m gives it."""


class LlamaError(M2MError):
    """llama.cpp refused; the message carries its own last log lines."""


class TrainingError(M2MError):
    """Training diverged or could not continue."""


class BusyError(M2MError):
    """Another process is working in the same folder."""


class Interrupted(M2MError):
    """The work was stopped on request after its state was saved (exit code 130)."""


def refuse_other(name: str, value: object, kinds: Any, expected: str) -> None:
    """Raise InputError if an argument from Python is of another kind."""
    if not isinstance(value, kinds):
        raise InputError(f"{name}: expected {expected}, found {value!r:.60}", "see docs/python.md")


_SHOWN = 20  # mistakes in one message
_LINES = 5  # numbers of lines that have the same mistake
_AT_LINE = re.compile(r"line (\d+): (.+)", re.DOTALL)


class Problems:
    """Mistakes that are raised once, so that a user can correct all of them in one go.

    In an error, those that differ only in their "line 3: " are one, with lines and their number.

    Args:
        kept: number of mistakes that are kept; others are counted, as there can be millions. An
            error shows 20 different ones at most.
    """

    def __init__(self, kept: int = 1000) -> None:
        self._messages: list[str] = []
        self._count, self._kept = 0, kept

    def add(self, message: str) -> None:
        """Note one mistake: its place, the found and the expected value."""
        self._count += 1
        if self._count <= self._kept:
            self._messages.append(message)

    def __bool__(self) -> bool:
        return self._count > 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def by_fault(self) -> dict[str, list[int]]:
        """Return the kept mistakes without their "line 3: ", with their lines; 0 for no line."""
        found: dict[str, list[int]] = {}
        for message in self._messages:
            at = _AT_LINE.fullmatch(message)
            found.setdefault(at[2] if at else message, []).append(int(at[1]) if at else 0)
        return found

    def raise_if_any(self, kind: type[M2MError], heading: str, hint: str | None = None) -> None:
        """Raise `kind` with all mistakes under `heading`; do nothing if there are none."""
        if not self._messages:
            return
        if self._count == 1:
            raise kind(f"{heading}: {self._messages[0]}", hint)
        shown = [*self.by_fault().items()][:_SHOWN]
        lines = [f"{heading}: {self._count} problems", *(f"  - {_at(*fault)}" for fault in shown)]
        if more := self._count - sum(len(places) for _, places in shown):
            lines.append(f"  - and {more} more")
        raise kind("\n".join(lines), hint)


def _at(fault: str, places: Sequence[int]) -> str:
    """Say a fault with its lines: "lines 3, 7: no answer"."""
    named = [str(place) for place in places if place]
    if not named:
        return fault
    if len(named) > _LINES:
        return f"{len(named)} lines ({', '.join(named[:_LINES])}, ...): {fault}"
    return f"line{'s' * (len(named) > 1)} {', '.join(named)}: {fault}"
