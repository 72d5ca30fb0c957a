"""Guided search: a model of the mixtures proposes, examples decide.

This is for more datasets than can be raced. Base and experts predict every mixture to first order
(see `estimate`); a Gaussian process learns how the mixtures differ from that. Each batch holds the
mixtures with the greatest upper confidence bounds (Srinivas et al. 2010), found by local search. It
starts on a few examples; the better half goes on to twice as many (successive halving, Jamieson and
Talwalkar 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from m2m.arrays import F64
from m2m.counted import counted
from m2m.mix.estimate import FirstOrder
from m2m.mix.gaussian import GaussianProcess, fit
from m2m.mix.mixture import BASE, Mixture, weight_matrix
from m2m.mix.racing import BEGINNING, KEEP, rounds
from m2m.mix.scoreboard import scoreboard
from m2m.mix.space import Space
from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.trial import Trial

BUDGET = 150.0  # evaluations of all examples
FIRST = 16  # examples of each target on which a proposal starts
BATCH = 16
BOLDEST = 2.5  # standard deviations in the upper bound of a batch's boldest proposal
RANDOM, CLIMBS, CLIMBERS = 150, 4, 6  # local search: random starts, steps, mixtures per step
RESAMPLES = 100


class Guided(Strategy):
    """Searches a space that is too large for a race; its own budget is 150 evaluations."""

    name = "guided"

    def __init__(self, setup: Setup) -> None:
        self._setup, self._space, self._examples = setup, setup.space, setup.examples
        self._rng = np.random.default_rng(setup.seed)
        self._budget = self._left = setup.budget or BUDGET
        self._rounds = rounds(FIRST * len(setup.objectives), setup.examples)
        self._reference: list[Trial] = []
        # By mixture: the estimate, its variance, whether it is on all examples.
        self._estimates: dict[Mixture, tuple[float, float, bool]] = {}
        self._predicted: dict[Mixture, float] = {}
        self._plan = self._search()
        self.candidates = setup.space.most

    @property
    def notes(self) -> list[str]:
        """Say how much of the space was scored."""
        whole = sum(complete for _, _, complete in self._estimates.values())
        return [
            f"guided: {counted(len(self._estimates), 'mixture')} scored, {whole} of them on all "
            f"{counted(self._examples, 'example')}; mixtures that were not proposed may be better"
        ]

    def cost(self) -> Cost:
        """Return the cost of the experts, the batches that the budget allows, and the last few."""
        asks, examples = self._setup.experts(), self._examples
        experts = len(asks)
        expected = Cost().plus(experts, 1.0, new=True)
        left = self._budget - self._charge(experts, examples)
        unseen = max(self._space.most - sum(self._space.allows(ask.mixture) for ask in asks), 0)
        while batch := min(BATCH, unseen, self._reach(left, self._rounds[0])):
            unseen -= batch
            before = 0
            for count in self._rounds:
                batch = min(batch, self._reach(left, count - before))
                expected = expected.plus(batch, (count - before) / examples, new=not before)
                left -= self._charge(batch, count - before)
                batch, before = max(1, batch // 2) if batch else 0, count
        last = min(KEEP, expected.mixtures - experts)
        # The best few: in experience they are at about half of the examples by then.
        return expected.plus(last, 0.5, new=False)

    def least_budget(self) -> float:
        """Return the budget for the experts, one batch to its end and the last few."""
        return len(self._space.names) + BATCH * 2 * self._rounds[0] / self._examples + KEEP

    def certain(self) -> list[Ask]:
        """Return the experts: all proposals depend on their scores."""
        return self._setup.experts()

    def ask(self) -> list[Ask]:
        """Return the experts in full, then batches on more and more examples."""
        return next(self._plan, [])

    def tell(self, trials: Sequence[Trial]) -> None:
        """Store the estimate of each trial's score on all examples."""
        self._reference += [trial for trial in trials if len(trial.mixture.datasets) <= 1]
        mixed = [trial for trial in trials if trial.mixture != BASE]
        if not mixed:
            return
        board = scoreboard(
            mixed,
            self._setup.objectives,
            self._setup.seed,
            growth=self._setup.growth,
            reference=self._reference,
            of_these=True,
            resamples=RESAMPLES,
        )
        self._sign = board.sign
        for trial, point, drawn in zip(mixed, board.points, board.replicates, strict=True):
            estimate = self._sign * float(point), float(drawn.var()), trial.complete
            self._estimates[trial.mixture] = estimate

    def _search(self) -> Iterator[list[Ask]]:
        total = self._examples
        experts = [ask.mixture for ask in self._setup.experts()]
        yield self._asks(experts, 0, total)
        while batch := self._payable(self._propose(), self._rounds[0]):
            before = 0
            for count in self._rounds:
                if not (batch := self._payable(batch, count - before)):
                    break
                yield self._asks(batch, before, count)
                before = count
                batch = sorted(batch, key=self._estimate, reverse=True)[: max(1, len(batch) // 2)]
        unfinished = [mixture for mixture in self._estimates if not self._estimates[mixture][2]]
        ahead = sorted(filter(self._space.allows, unfinished), key=self._estimate, reverse=True)
        if ahead:
            yield self._asks(ahead[:KEEP], 0, total)

    def _payable(self, mixtures: list[Mixture], examples: int) -> list[Mixture]:
        return mixtures[: self._reach(self._left, examples)]

    def _reach(self, left: float, examples: int) -> int:
        """Return how many mixtures the budget allows if the last few are still scored in full."""
        return max(int((left - KEEP) * self._examples / (examples + BEGINNING)), 0)

    def _charge(self, mixtures: int, examples: int) -> float:
        """Return the cost of a block of examples for some mixtures, in evaluations of all."""
        return mixtures * (examples + BEGINNING) / self._examples

    def _asks(self, mixtures: Sequence[Mixture], before: int, count: int) -> list[Ask]:
        self._left -= self._charge(len(mixtures), count - before)
        return [Ask(mixture, count) for mixture in mixtures]

    def _estimate(self, mixture: Mixture) -> float:
        return self._estimates[mixture][0]

    def _propose(self) -> list[Mixture]:
        """Return the next batch: per boldness the unseen mixture with the greatest upper bound."""
        process = self._process()
        start = sorted(filter(self._space.allows, self._estimates), key=self._estimate)[-CLIMBERS:]
        pool = climb(self._space, lambda some: self._bounds(process, some, 1.0), self._rng, start)
        left = [mixture for mixture in pool if mixture not in self._estimates]
        batch: list[Mixture] = []
        for boldness in np.linspace(0.0, BOLDEST, BATCH):
            if not left:
                break
            best = left[int(np.argmax(self._bounds(process, left, float(boldness))))]
            left.remove(best)
            batch.append(best)
        return batch

    def _process(self) -> GaussianProcess:
        """Return a process fitted to the differences between estimates and predictions."""
        mixtures = list(self._estimates)
        values, noise = np.array([self._estimates[mixture][:2] for mixture in mixtures]).T
        weights = weight_matrix(mixtures, self._space.names)
        return fit(weights, values - self._prior(mixtures), noise)

    def _bounds(
        self, process: GaussianProcess, mixtures: Sequence[Mixture], boldness: float
    ) -> F64:
        mean, spread = process.predict(weight_matrix(mixtures, self._space.names))
        bounds: F64 = self._prior(mixtures) + mean + boldness * spread
        return bounds

    def _prior(self, mixtures: Sequence[Mixture]) -> F64:
        """Return (n,) scores that base and experts predict."""
        new = [mixture for mixture in mixtures if mixture not in self._predicted]
        if new:
            guides = {
                objective.target: FirstOrder.of(
                    self._reference, objective.target, self._setup.growth
                )
                for objective in self._setup.objectives
            }
            scores = [
                {name: guide.predict(mixture) for name, guide in guides.items() if guide}
                for mixture in new
            ]
            trials = [
                Trial(mixture, {n: s for n, s in known.items() if s}, {}, 0, 0.0)
                for mixture, known in zip(new, scores, strict=True)
            ]
            board = scoreboard(
                trials,
                self._setup.objectives,
                0,
                reference=self._reference,
                of_these=True,
                resamples=1,
            )
            self._predicted |= dict(zip(new, self._sign * board.points, strict=True))
        return np.array([self._predicted[mixture] for mixture in mixtures])


STRATEGY = Guided


def climb(
    space: Space,
    value: Callable[[Sequence[Mixture]], F64],
    rng: np.random.Generator,
    start: Sequence[Mixture],
) -> list[Mixture]:
    """Return all mixtures that a local search from random ones and `start` visits, each once.

    Args:
        space: the allowed mixtures.
        value: returns (n,) values of n mixtures, higher is better.
        rng: draws the random ones.
        start: more mixtures to start from.
    """
    drawn = [space.draw(rng) for _ in range(RANDOM)]
    pool = dict.fromkeys([*(mixture for mixture in drawn if mixture), *filter(space.allows, start)])
    tried: set[Mixture] = set()
    for _ in range(CLIMBS):
        known = list(pool)
        order = [known[i] for i in np.argsort(-value(known), kind="stable")] if known else []
        climbers = [mixture for mixture in order if mixture not in tried][:CLIMBERS]
        tried |= set(climbers)
        for mixture in climbers:
            pool |= dict.fromkeys(space.neighbours(mixture))
    return list(pool)
