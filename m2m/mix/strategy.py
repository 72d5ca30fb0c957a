"""Search strategies: which mixtures to score next, and on how many examples.

A strategy is asked for mixtures and told their trials. It never sees a model; the study does the
work, remembers it and replays it after an interruption, so a strategy keeps no state on disk and
its answers follow from its seed and from what it was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial


@dataclass(frozen=True)
class Ask:
    """Score `mixture` on the first `examples` examples of the common order."""

    mixture: Mixture
    examples: int


class Strategy(Protocol):
    """Proposes mixtures until it has seen enough.

    Attributes:
        name: in recipes and results.
        candidates: how many mixtures could be chosen.
    """

    name: str
    candidates: int

    @property
    def notes(self) -> list[str]:
        """What a reader of the result should know about how it was found."""

    def ask(self) -> list[Ask]:
        """The next mixtures to score, each anew or on more examples than before; none when done."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """What was asked for, in that order; before the first ask, the base model's trial."""
