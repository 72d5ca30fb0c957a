"""Make the strategy that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from m2m.errors import InputError
from m2m.mix.scoreboard import Objective
from m2m.mix.space import Space
from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.trial import Trial
from m2m.recipe import Search
from m2m.recipe.strategies import AUTO, NONE, STRATEGIES


def make_strategy(
    search: Search,
    space: Space,
    examples: int,
    objectives: Sequence[Objective],
    growth: float = 0.0,
) -> Strategy:
    """Return the strategy that a recipe asks for.

    Args:
        search: the recipe's.
        space: the allowed mixtures.
        examples: of all targets together.
        objectives: targets and metrics.
        growth: of the merged deltas with the number of datasets, the recipe's.

    Raises:
        InputError: the strategy is unknown, or there are too many mixtures for it.
    """
    setup = Setup(space, examples, objectives, search.seed, search.budget, growth)
    if search.strategy == NONE:
        return NoSearch(setup)
    name = _automatic(space) if search.strategy == AUTO else search.strategy
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name!r}", f"choose {AUTO} or {', '.join(STRATEGIES)}")
    kind: type[Strategy] = import_module(f"m2m.mix.{name}").STRATEGY
    return kind(setup)


def _automatic(space: Space) -> str:
    """Return the name of the first strategy in the list that suits the space."""
    for name, known in STRATEGIES.items():
        most = known.auto_up_to
        if most is None or (space.parts and not known.any_weights):
            continue
        if not most or len(space.names) <= most or space.most <= 1 << most:
            return name
    raise AssertionError("the list has a strategy for every space")


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
