"""Guided search: a model of the mixtures proposes, examples decide.

For more datasets than can be raced. Base and experts predict every mixture to first order (see
`estimate`); a Gaussian process learns where mixtures differ from that. Batches of the mixtures with
the greatest upper confidence bounds (Srinivas et al. 2010), found by local search, start on a few
examples; the better half of each goes on to twice as many (successive halving, Jamieson and
Talwalkar 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.mix.estimate import FirstOrder
from m2m.mix.gaussian import Process, fit
from m2m.mix.mixture import BASE, Mixture, weight_matrix
from m2m.mix.racing import BEGINNING, KEEP, rounds
from m2m.mix.space import Space
from m2m.mix.standing import Aim, standing
from m2m.mix.strategy import Ask
from m2m.mix.trial import Trial

Floats = NDArray[np.float64]
BUDGET = 150.0  # evaluations of all examples
FIRST = 16  # examples of each target that a proposal starts on
BATCH = 16
BOLDEST = 2.5  # standard deviations in the upper bound of a batch's boldest proposal
RANDOM, CLIMBS, CLIMBERS = 150, 4, 6  # of the local search: random starts, steps, mixtures a step
RESAMPLES = 100


class Guided:
    """Searches a space that is too large to be raced.

    Args:
        space: the allowed mixtures.
        examples: of all targets together.
        aims: targets and metrics.
        seed: of proposals and resamples.
        budget: evaluations of all examples that it may take; 0: 150.
        growth: of the merged deltas with the number of datasets.
    """

    name = "guided"

    def __init__(
        self,
        space: Space,
        examples: int,
        aims: Sequence[Aim],
        seed: int,
        budget: float = 0.0,
        growth: float = 0.0,
    ) -> None:
        self._space, self._aims, self._seed, self._growth = space, aims, seed, growth
        self._rng = np.random.default_rng(seed)
        self._examples = examples
        self._left = budget or BUDGET
        self._reference: list[Trial] = []
        self._found: dict[Mixture, tuple[float, float, bool]] = {}  # estimate, its variance, whole
        self._predicted: dict[Mixture, float] = {}
        self._plan = self._search()
        self.candidates = space.most

    @property
    def notes(self) -> list[str]:
        """How much of the space was looked at."""
        whole = sum(complete for _, _, complete in self._found.values())
        return [
            f"guided: {len(self._found)} mixtures scored, {whole} of them on all "
            f"{self._examples} examples; mixtures that were not proposed may be better"
        ]

    def ask(self) -> list[Ask]:
        """The experts in full, then batches on more and more examples."""
        return next(self._plan, [])

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember what each trial says about all examples."""
        self._reference += [trial for trial in trials if len(trial.mixture.datasets) <= 1]
        mixed = [trial for trial in trials if trial.mixture != BASE]
        if not mixed:
            return
        found = standing(
            mixed,
            self._aims,
            self._seed,
            growth=self._growth,
            reference=self._reference,
            of_these=True,
            resamples=RESAMPLES,
        )
        self._sign = found.sign
        for trial, point, drawn in zip(mixed, found.points, found.replicates, strict=True):
            told = self._sign * float(point), float(drawn.var()), trial.complete
            self._found[trial.mixture] = told

    def _search(self) -> Iterator[list[Ask]]:
        total = self._examples
        experts = [Mixture.uniform([name]) for name in self._space.names]
        yield self._asks(experts, 0, total)
        counts = rounds(FIRST * len(self._aims), total)
        while batch := self._payable(self._propose(), counts[0]):
            before = 0
            for count in counts:
                if not (batch := self._payable(batch, count - before)):
                    break
                yield self._asks(batch, before, count)
                before = count
                batch = sorted(batch, key=self._estimate, reverse=True)[: max(1, len(batch) // 2)]
        unfinished = [each for each in self._found if not self._found[each][2]]
        ahead = sorted(filter(self._space.allows, unfinished), key=self._estimate, reverse=True)
        if ahead:
            yield self._asks(ahead[:KEEP], 0, total)

    def _payable(self, mixtures: list[Mixture], examples: int) -> list[Mixture]:
        """As many as the budget reaches, when the last few are still to be scored in full."""
        left = self._left - KEEP
        return mixtures[: max(int(left * self._examples / (examples + BEGINNING)), 0)]

    def _asks(self, mixtures: Sequence[Mixture], before: int, count: int) -> list[Ask]:
        self._left -= len(mixtures) * (count - before + BEGINNING) / self._examples
        return [Ask(mixture, count) for mixture in mixtures]

    def _estimate(self, mixture: Mixture) -> float:
        return self._found[mixture][0]

    def _propose(self) -> list[Mixture]:
        """The next batch: for each boldness the unseen mixture of the greatest upper bound."""
        process = self._process()
        start = sorted(filter(self._space.allows, self._found), key=self._estimate)[-CLIMBERS:]
        pool = climb(self._space, lambda some: self._bounds(process, some, 1.0), self._rng, start)
        left = [each for each in pool if each not in self._found]
        batch: list[Mixture] = []
        for boldness in np.linspace(0.0, BOLDEST, BATCH):
            if not left:
                break
            best = left[int(np.argmax(self._bounds(process, left, float(boldness))))]
            left.remove(best)
            batch.append(best)
        return batch

    def _process(self) -> Process:
        """Fitted to what the estimates have beyond the predictions."""
        mixtures = list(self._found)
        values, noise = np.array([self._found[each][:2] for each in mixtures]).T
        weights = weight_matrix(mixtures, self._space.names)
        return fit(weights, values - self._prior(mixtures), noise)

    def _bounds(self, process: Process, mixtures: Sequence[Mixture], boldness: float) -> Floats:
        mean, spread = process.predict(weight_matrix(mixtures, self._space.names))
        bounds: Floats = self._prior(mixtures) + mean + boldness * spread
        return bounds

    def _prior(self, mixtures: Sequence[Mixture]) -> Floats:
        """(n,) what base and experts predict."""
        new = [each for each in mixtures if each not in self._predicted]
        if new:
            guides = {
                aim.target: FirstOrder.of(self._reference, aim.target, self._growth)
                for aim in self._aims
            }
            scores = [
                {name: guide.predict(each) for name, guide in guides.items() if guide}
                for each in new
            ]
            trials = [
                Trial(each, {n: s for n, s in known.items() if s}, {}, 0, 0.0)
                for each, known in zip(new, scores, strict=True)
            ]
            found = standing(
                trials, self._aims, 0, reference=self._reference, of_these=True, resamples=1
            )
            self._predicted |= dict(zip(new, self._sign * found.points, strict=True))
        return np.array([self._predicted[each] for each in mixtures])


def climb(
    space: Space,
    value: Callable[[Sequence[Mixture]], Floats],
    rng: np.random.Generator,
    start: Sequence[Mixture],
) -> list[Mixture]:
    """All that a local search from random mixtures and `start` comes by; none twice.

    Args:
        space: the allowed mixtures.
        value: of n mixtures (n,), higher is better.
        rng: draws the random ones.
        start: more mixtures to start from.
    """
    drawn = [space.draw(rng) for _ in range(RANDOM)]
    pool = dict.fromkeys([*(each for each in drawn if each), *filter(space.allows, start)])
    tried: set[Mixture] = set()
    for _ in range(CLIMBS):
        known = list(pool)
        order = [known[i] for i in np.argsort(-value(known), kind="stable")] if known else []
        climbers = [each for each in order if each not in tried][:CLIMBERS]
        tried |= set(climbers)
        for each in climbers:
            pool |= dict.fromkeys(space.neighbours(each))
    return list(pool)
