"""Search strategies: which mixtures to score next.

A strategy is asked for mixtures and told their scores. It never sees a model; the study does the
work, remembers it and replays it after an interruption, so a strategy keeps no state on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from m2m.mix.mixture import Mixture, subsets
from m2m.recipe import Search


class Strategy(Protocol):
    """Proposes mixtures until it has seen enough."""

    name: str
    candidates: int

    def ask(self) -> Mixture | None:
        """The next mixture to score, never one asked before; None when done."""

    def tell(self, mixture: Mixture, value: float) -> None:
        """The score of a mixture that was asked."""


class Exhaustive:
    """Every subset of the datasets, small ones first: 2^N - 1 mixtures."""

    name = "exhaustive"

    def __init__(self, names: Sequence[str], max_datasets: int = 0) -> None:
        self._left = list(subsets(names, max_datasets))[::-1]
        self.candidates = len(self._left)

    def ask(self) -> Mixture | None:
        """The next subset in order of size."""
        return self._left.pop() if self._left else None

    def tell(self, mixture: Mixture, value: float) -> None:
        """Nothing to learn: every subset is scored anyway."""


def make_strategy(search: Search, names: Sequence[str]) -> Strategy:
    """The strategy that a recipe asks for."""
    return Exhaustive(names, search.max_datasets)
