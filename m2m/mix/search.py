"""The strategies by name, and the plainest of them: score everything."""

from __future__ import annotations

from collections.abc import Sequence

from m2m.mix.guided import Guided
from m2m.mix.racing import Racing
from m2m.mix.space import Space
from m2m.mix.standing import Aim
from m2m.mix.strategy import Ask, Strategy
from m2m.mix.trial import Trial
from m2m.recipe import Search

RACED = 12  # datasets up to which "auto" races


class Exhaustive:
    """Every allowed subset of the datasets on every example, small ones first."""

    name = "exhaustive"

    def __init__(self, space: Space, examples: int) -> None:
        self._asks = [Ask(mixture, examples) for mixture in space.subsets()]
        self.candidates = len(self._asks)
        self.notes: list[str] = []

    def ask(self) -> list[Ask]:
        """All at once, then nothing."""
        asks, self._asks = self._asks, []
        return asks

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing to learn: every subset is scored anyway."""


def make_strategy(
    search: Search, space: Space, examples: int, aims: Sequence[Aim], growth: float = 0.0
) -> Strategy:
    """The strategy that a recipe asks for.

    Args:
        search: the recipe's.
        space: the allowed mixtures.
        examples: of all targets together.
        aims: targets and metrics.
        growth: of the merged deltas with the number of datasets, the recipe's.
    """
    if search.strategy == "exhaustive":
        return Exhaustive(space, examples)
    large = len(space.names) > RACED and space.most > 1 << RACED
    if search.strategy == "guided" or space.parts or (search.strategy == "auto" and large):
        return Guided(space, examples, aims, search.seed, search.budget, growth)
    return Racing(space, examples, aims, search.seed, search.budget, growth)
