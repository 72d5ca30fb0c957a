"""What a training run tells others, and how it is asked to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from m2m.progress import Progress

if TYPE_CHECKING:
    from m2m.tuner.result import TrainResult


@dataclass(frozen=True)
class Step:
    """One optimiser step that was made.

    Attributes:
        number: counted from 1.
        loss: mean nats per trained token.
        learning_rate: that the step used.
        gradient_norm: before clipping.
        tokens: processed by the step.
        seconds: it took.
    """

    number: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float


class Callback(Protocol):
    """Follows a run; every method is called from the training thread."""

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Training begins, after `done_steps` of an earlier process."""

    def on_step(self, step: Step) -> None:
        """A step was made."""

    def on_end(self, result: TrainResult) -> None:
        """All steps were made and the adapter is written."""

    def stop_requested(self) -> bool:
        """Whether to save and stop; asked after each step."""


class ShowProgress:
    """A `Callback` that moves one bar of a `Progress`.

    Args:
        progress: where to show it.
        title: of the bar.
    """

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._title = title

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Open the bar, at where an earlier process left it."""
        self._progress.start(self._title, total_steps, "steps")
        if done_steps:
            self._progress.advance(done_steps, f"going on after step {done_steps}")

    def on_step(self, step: Step) -> None:
        """Move the bar by one step."""
        speed = step.tokens / step.seconds if step.seconds else 0.0
        self._progress.advance(1, f"loss {step.loss:z.3f}, {speed:.0f} tokens/s")

    def on_end(self, result: TrainResult) -> None:
        """Close the bar."""
        self._progress.finish()

    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""
        return self._progress.stop_requested()
