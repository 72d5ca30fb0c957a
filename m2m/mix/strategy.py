"""Search strategies: they choose the next mixtures to score, and on how many examples.

The study asks a strategy for mixtures and gives it their trials. A strategy never sees a model; the
study does the work, stores it and replays it after an interruption. So a strategy keeps no state on
disk, and its answers follow from its seed and its trials. Before the first ask it also gives its
cost and the asks that depend on no answer; plans, time limits and shares use these.

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
        evaluations: in evaluations of all examples; a block of them is a part of one.
        loads: models that are merged and loaded: one for each block.
        mixtures: how many are scored, in full or not.
    """

    evaluations: float = 0.0
    loads: float = 0.0
    mixtures: float = 0.0

    def plus(self, mixtures: float, examples: float, *, new: bool) -> Cost:
        """Add a block of `examples` (a fraction of all) for some mixtures, new or not."""
        return self + Cost(mixtures * examples, mixtures, mixtures * new)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.evaluations + other.evaluations,
            self.loads + other.loads,
            self.mixtures + other.mixtures,
        )

    def less(self, done: Cost) -> Cost:
        """Return the rest if some work was done already."""
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
        budget: evaluations of all examples that the search may use; 0: the strategy's own.
        growth: of the merged deltas with the number of datasets.
    """

    space: Space
    examples: int
    objectives: Sequence[Objective]
    seed: int = 0
    budget: float = 0.0
    growth: float = 0.0

    def experts(self) -> list[Ask]:
        """Return each single dataset on all examples, which the estimates of mixtures need."""
        names = self.space.names
        return [Ask(Mixture.uniform([name]), self.examples) for name in names]


class Strategy(ABC):
    """Proposes mixtures until it has seen enough.

    Attributes:
        name: in recipes and results.
        cheaper: the name of a strategy that costs less, with its disadvantage in words; None if a
            smaller budget makes this one cheaper.
        candidates: how many mixtures could be chosen.
    """

    name: ClassVar[str]
    cheaper: ClassVar[tuple[str, str] | None] = None
    candidates: int

    @abstractmethod
    def __init__(self, setup: Setup) -> None:
        """Raise InputError if there are too many mixtures for the strategy."""

    @property
    def notes(self) -> list[str]:
        """Return sentences for readers of the result about how it was found."""
        return []

    @abstractmethod
    def cost(self) -> Cost:
        """Return the cost of the search without the base model, estimated before the first ask."""

    @abstractmethod
    def least_budget(self) -> float:
        """Return the budget that still covers a part of everything that the search can start on."""

    @abstractmethod
    def certain(self) -> list[Ask]:
        """Return the scores that are needed whatever the results; other machines can make them."""

    @abstractmethod
    def ask(self) -> list[Ask]:
        """Return the next mixtures to score, new or on more examples; an empty list ends it."""

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Take the trials of the last asks, in their order; before the first, the base model's."""
