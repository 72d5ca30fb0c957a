"""Search strategies: which mixtures to score next, and on how many examples.

A strategy is asked for mixtures and gets their trials. It never sees a model; the study does the
work, remembers it and replays it after an interruption, so a strategy keeps no state on disk and
its answers follow from its seed and from the trials that it got. It also says before its first ask
how much it will take and which asks depend on no answer; plans, time limits and shares use that.

A new strategy is a module here and a line in `m2m/recipe/strategies.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from m2m.mix.mixture import Mixture
from m2m.mix.scoreboard import Objective
from m2m.mix.space import Space
from m2m.mix.trial import Trial


@dataclass(frozen=True)
class Ask:
    """Score `mixture` on the first `examples` examples of the common order."""

    mixture: Mixture
    examples: int


@dataclass(frozen=True)
class Cost:
    """The work of scoring mixtures.

    Attributes:
        evaluations: of all examples; a block of them is a part of one.
        loads: models that are merged and loaded: one for each block.
        mixtures: how many are scored, in full or not.
    """

    evaluations: float = 0.0
    loads: float = 0.0
    mixtures: float = 0.0

    def plus(self, mixtures: float, examples: float, *, new: bool) -> Cost:
        """After a block of `examples` (a share of all) for some mixtures, new ones or not."""
        return self + Cost(mixtures * examples, mixtures, mixtures * new)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.evaluations + other.evaluations,
            self.loads + other.loads,
            self.mixtures + other.mixtures,
        )

    def less(self, done: Cost) -> Cost:
        """The rest if some was done already."""
        return Cost(
            max(self.evaluations - done.evaluations, 0.0),
            max(self.loads - done.loads, 0.0),
            self.mixtures,
        )


@dataclass(frozen=True)
class Setup:
    """Everything that a strategy knows before the first score.

    Attributes:
        space: the allowed mixtures.
        examples: of all targets together.
        objectives: targets and metrics.
        seed: of everything random.
        budget: evaluations of all examples that the search may take; 0: as the strategy has it.
        growth: of the merged deltas with the number of datasets.
    """

    space: Space
    examples: int
    objectives: Sequence[Objective]
    seed: int = 0
    budget: float = 0.0
    growth: float = 0.0

    def experts(self) -> list[Ask]:
        """Every single dataset on all examples: the estimates of other mixtures need them."""
        names = self.space.names
        return [Ask(Mixture.uniform([name]), self.examples) for name in names]


class Strategy(ABC):
    """Proposes mixtures until it has seen enough.

    Attributes:
        name: in recipes and results.
        cheaper: the name of a strategy that takes less, and in words the loss; None for one that
            takes less if its budget is smaller.
        candidates: how many mixtures could be chosen.
    """

    name: ClassVar[str]
    cheaper: ClassVar[tuple[str, str] | None] = None
    candidates: int

    @abstractmethod
    def __init__(self, setup: Setup) -> None:
        """Raise InputError if the mixtures are too many for the strategy."""

    @property
    def notes(self) -> list[str]:
        """Sentences for readers of the result about how it came about."""
        return []

    @abstractmethod
    def cost(self) -> Cost:
        """The whole search without the base model, as expected before the first ask."""

    @abstractmethod
    def least_budget(self) -> float:
        """The budget with which a search still sees something of all that it can start on."""

    @abstractmethod
    def certain(self) -> list[Ask]:
        """The first asks, up to the first that depends on an answer; other machines can do them."""

    @abstractmethod
    def ask(self) -> list[Ask]:
        """The next mixtures to score, each new or on more examples than before; none when done."""

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Take the trials of the last asks, in their order; before the first, the base model's."""
