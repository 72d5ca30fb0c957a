"""How long work tells what it is doing: a small protocol that the command line draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what a run is doing; one bar is open at a time."""

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
