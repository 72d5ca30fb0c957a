"""The events that a training run reports, and the request to stop it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from m2m.progress import Progress

if TYPE_CHECKING:
    from m2m.tuner.result import TrainResult


@dataclass(frozen=True)
class Step:
    """One finished optimiser step.

    Attributes:
        number: number of the step, counted from 1.
        loss: mean nats per trained token.
        learning_rate: learning rate of the step.
        gradient_norm: norm before clipping.
        tokens: tokens that the step processed.
        seconds: duration of the step.
        held_out: mean loss of the held-out rows, if this step measured it.
    """

    number: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    held_out: float | None = None


class Callback(Protocol):
    """Follow a training run; the training thread calls every method."""

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Handle the start, after `done_steps` steps of an earlier process."""

    def on_step(self, step: Step) -> None:
        """Handle a finished step."""

    def on_end(self, result: TrainResult) -> None:
        """Handle the end: all steps are done and the adapter is written."""

    def stop_requested(self) -> bool:
        """Return whether to save and stop; called after each step."""


class ShowProgress:
    """Show training as one bar of a `Progress`.

    Args:
        progress: the display that gets the bar.
        title: title of the bar.
    """

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._title = title

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Open the bar at the step that an earlier process reached."""
        self._progress.start(self._title, total_steps, "steps")
        if done_steps:
            detail = f"going on after step {done_steps}"
            self._progress.advance(done_steps, detail, earlier=True)

    def on_step(self, step: Step) -> None:
        """Move the bar by one step."""
        speed = step.tokens / step.seconds if step.seconds else 0.0
        self._progress.advance(1, f"loss {step.loss:z.3f}, {speed:.0f} tokens/s")

    def on_end(self, result: TrainResult) -> None:
        """Close the bar."""
        self._progress.finish()

    def stop_requested(self) -> bool:
        """Return whether the user asked to stop."""
        return self._progress.stop_requested()
