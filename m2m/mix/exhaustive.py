"""Exhaustive search: score every allowed mixture of equal weights on every example."""

from __future__ import annotations

from collections.abc import Sequence

from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.trial import Trial


class Exhaustive(Strategy):
    """Scores all mixtures, small ones first."""

    name = "exhaustive"
    cheaper = "racing", "mixtures are raced: most are scored on a few examples only"

    def __init__(self, setup: Setup) -> None:
        self._every = [Ask(mixture, setup.examples) for mixture in setup.space.subsets()]
        self.candidates, self._asked = len(self._every), False

    def cost(self) -> Cost:
        """Return the cost of all mixtures in full."""
        return Cost().plus(self.candidates, 1.0, new=True)

    def least_budget(self) -> float:
        """Return the whole cost: this search ignores any budget."""
        return float(self.candidates)

    def certain(self) -> list[Ask]:
        """Return all asks."""
        return self._every

    def ask(self) -> list[Ask]:
        """Return all asks at once, then none."""
        asked, self._asked = self._asked, True
        return [] if asked else self._every

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: every mixture is scored in any case."""


STRATEGY = Exhaustive
