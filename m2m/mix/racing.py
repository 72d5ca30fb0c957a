"""Racing: every mixture starts on a few examples, and mixtures that can no longer win drop out.

Hoeffding races (Maron and Moore 1994) and F-race (Birattari et al. 2002), with three changes. The
scores are estimated with control variates (see `estimate`), which makes a few examples enough. All
survivors are compared at once, by paired resamples of the examples, so that mixtures which win and
lose together need not be separated first. And the *loss* is bounded: with probability 1 - `error`,
over all rounds together, no mixture that dropped out beats the best of the rest by more than the
`margin`, half a standard error of a mixture's score on all examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.counted import counted
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.scoreboard import scoreboard
from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.trial import Trial

ERROR = 0.05
MARGIN = 0.5  # standard errors of the best single dataset's score
FIRST = 6  # examples of each target on which every mixture is scored
FRACTION = 0.097  # of the cost of scoring all: lengths vary, and the cost must stay below 1/8
BEGINNING = 1  # cost, in examples, of decoding the prompts' common beginning, again in each block
LEAST = 3.0  # evaluations of all examples for each dataset, even if FRACTION gives fewer
RESAMPLES = 400
KEEP = 4  # mixtures that are scored in full, so that the top of the ranking is firm
STAYS = 0.4  # expected fraction of mixtures that stay after a round; measured on the starter


def rounds(first: int, total: int) -> list[int]:
    """Return how many examples the mixtures are scored on after each round: doubling."""
    counts = [min(first, total)]
    while counts[-1] < total:
        counts.append(min(2 * counts[-1], total))
    return counts


class Racing(Strategy):
    """Races all allowed subsets of the datasets.

    Its own budget is an eighth of the cost of all mixtures, but at least three evaluations for each
    dataset.

    Attributes:
        risk: the estimated probability that a better mixture (by more than the margin) dropped out.
        margin: in the unit of the ranking.
    """

    name = "racing"

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._every = self._racing = list(setup.space.subsets())
        self.candidates = len(self._every)
        self._rounds = rounds(FIRST * len(setup.objectives), setup.examples)
        self._level = ERROR / max(len(self._rounds) - 1, 1)
        own = max(FRACTION * self.candidates, LEAST * len(setup.space.names))
        self._budget = self._left = setup.budget or own
        self._count = 0  # examples that all mixtures in the race were scored on
        self._reference: list[Trial] = []
        self._trials: dict[Mixture, Trial] = {}
        self._history: list[tuple[int, int]] = []  # of each round: mixtures, and their questions
        self.risk = self.margin = 0.0

    @property
    def notes(self) -> list[str]:
        """Say how the race went, and the probability that it lost a better mixture."""
        sure = 1 - max(ERROR, self.risk)
        end = (
            f"With {100 * sure:.0f} % probability no mixture that stopped early is better than the "
            f"best by more than {self.margin:.3g} on these questions."
        )
        if len(self._history) < 2:
            return []
        (all_, first), *later = self._history
        went_on = ", ".join(f"{count} went on to {questions}" for count, questions in later)
        return [
            f"Race: every dataset alone answered all {self._rounds[-1]} questions, and "
            f"{counted(all_, 'mixture')} of several the first {first}; of these {went_on}. {end}"
        ]

    def cost(self) -> Cost:
        """Return the expected cost: each round keeps at most a fraction `STAYS`."""
        counts, total = self._rounds, self._rounds[-1]
        experts = len(self._setup.space.names)
        expected, left = Cost().plus(experts, 1.0, new=True), self._budget - experts
        mixed = len(self._mixed())
        there, before = float(self.candidates), 0
        for count in counts:
            fraction = (count - before + BEGINNING) / total
            if before:
                there = min(there, max(KEEP, min(there * STAYS, left / fraction)))
            if there <= KEEP:
                count = total
            # Experts are scored already; the best of them usually stays to the end.
            scored = min(there - (mixed < self.candidates), mixed) if before else mixed
            expected = expected.plus(scored, (count - before) / total, new=not before)
            left -= fraction * scored
            if count == total:
                break
            before = count
        return expected

    def least_budget(self) -> float:
        """Return the budget of experts and first round: the last few are always scored in full."""
        first, total = self._rounds[0], self._rounds[-1]
        experts = len(self._setup.space.names)
        return experts + len(self._mixed()) * (first + BEGINNING) / total

    def certain(self) -> list[Ask]:
        """Return the experts and the first round, which is most of the mixtures of a race."""
        first = self._rounds[-1] if self.candidates <= KEEP else self._rounds[0]
        return [*self._setup.experts(), *(Ask(mixture, first) for mixture in self._mixed())]

    def _mixed(self) -> list[Mixture]:
        return [mixture for mixture in self._every if len(mixture.datasets) > 1]

    def ask(self) -> list[Ask]:
        """Return the experts in full; then, round by round, the mixtures still in the race."""
        total = self._rounds[-1]
        if not self._trials:
            experts = self._setup.experts()
            self._left -= len(experts)
            return experts
        while self._count < total:
            before = self._count
            self._count = next(count for count in self._rounds if count > before)
            fraction = (self._count - before + BEGINNING) / total
            if before:
                self._drop(fraction)
            if len(self._racing) <= KEEP:
                self._count = total
            asks = [Ask(mixture, self._count) for mixture in self._racing if self._open(mixture)]
            if asks:
                self._left -= fraction * len(asks)
                self._history.append((len(asks), self._count))
                return asks
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """Store the trials; all estimates depend on those of the base and the experts."""
        for trial in trials:
            if len(trial.mixture.datasets) <= 1:
                self._reference.append(trial)
            if trial.mixture != BASE:
                self._trials[trial.mixture] = trial

    def _open(self, mixture: Mixture) -> bool:
        return mixture not in self._trials or not self._trials[mixture].complete

    def _drop(self, fraction: float) -> None:
        """Remove mixtures that cannot win, and those for which the budget is not enough."""
        self.margin = self.margin or self._find_margin()
        trials = [self._trials[mixture] for mixture in self._racing]
        board = scoreboard(
            trials,
            self._setup.objectives,
            self._setup.seed,
            growth=self._setup.growth,
            reference=self._reference,
            of_these=True,
            resamples=RESAMPLES,
        )
        order = promise(board.sign * board.points, board.sign * board.replicates)
        risks = losses(board.sign * board.replicates[order], self.margin)
        most = max(len(order) - KEEP, 0)
        out = int(np.flatnonzero(risks[: most + 1] <= self._level)[-1])
        open_ = np.array([self._open(self._racing[i]) for i in order])
        while out < most and fraction * open_[out:].sum() > self._left:
            out += 1
        self.risk += float(risks[out])
        left = set(order[out:].tolist())
        self._racing = [mixture for i, mixture in enumerate(self._racing) if i in left]

    def _find_margin(self) -> float:
        board = scoreboard(
            self._reference, self._setup.objectives, self._setup.seed, reference=self._reference
        )
        return MARGIN * float(board.replicates[board.best].std(ddof=1))


STRATEGY = Racing


def promise(points: F64, replicates: F64) -> NDArray[np.int64]:
    """Return the order of (n,) mixtures, from the least to the most likely to beat the leader."""
    behind = replicates - replicates[int(points.argmax())]
    spread = behind.std(axis=1)
    distance = (points - points.max()) / np.where(spread > 0, spread, 1.0)
    # Two cases without uncertainty: the leader itself, and mixtures that are surely worse.
    distance = np.where((spread > 0) | (points == points.max()), distance, -np.inf)
    order: NDArray[np.int64] = np.lexsort((points, distance))
    return order


def losses(replicates: F64, margin: float) -> F64:
    """Return the probability that dropping the first k of n mixtures loses more than the margin.

    Args:
        replicates: (n, R), higher is better.
        margin: by how much the best of the dropped must beat the best of the others.

    Returns:
        (n,) for k = 0 to n - 1.
    """
    dropped = np.maximum.accumulate(replicates, axis=0)[:-1]
    kept = np.maximum.accumulate(replicates[::-1], axis=0)[::-1][1:]
    risks = (dropped > kept + margin).mean(axis=1)
    return np.concatenate([[0.0], risks])
