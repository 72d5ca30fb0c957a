"""No search: no mixture is scored, and all datasets are trained on at once."""

from __future__ import annotations

from collections.abc import Sequence

from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.trial import Trial
from m2m.recipe.strategies import NONE


class NoSearch(Strategy):
    """Asks for nothing and costs nothing."""

    name = NONE

    def __init__(self, setup: Setup) -> None:
        self.candidates = 0

    def cost(self) -> Cost:
        """Return no cost."""
        return Cost()

    def least_budget(self) -> float:
        """Return no budget."""
        return 0.0

    def certain(self) -> list[Ask]:
        """Return no asks."""
        return []

    def ask(self) -> list[Ask]:
        """Return no asks."""
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing."""
