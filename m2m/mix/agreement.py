"""Compare predicted scores with real ones: correlations and regrets, with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.mix.ranking import CONFIDENCE, Interval
from m2m.mix.scoreboard import Scoreboard

LEAST = 4  # fewer mixtures make a correlation meaningless


@dataclass(frozen=True)
class ScoredPair:
    """Scores of n mixtures, higher is better, with R replicates that carry their errors.

    Attributes:
        points: (n,).
        replicates: (n, R) on bootstrap resamples of the examples; the points R times if they do
            not have an error from examples.
    """

    points: F64
    replicates: F64

    @classmethod
    def of(cls, board: Scoreboard) -> ScoredPair:
        """Return a scoreboard with its sign turned so that higher is better."""
        sign = 1.0 if board.higher_is_better else -1.0
        return cls(sign * board.points, sign * board.replicates)

    @classmethod
    def exact(cls, points: F64, replicates: int) -> ScoredPair:
        """Return predictions that have no error of their own."""
        return cls(points, np.tile(points[:, None], (1, replicates)))

    def __getitem__(self, chosen: NDArray[np.intp]) -> ScoredPair:
        """Return the mixtures at these places."""
        return ScoredPair(self.points[chosen], self.replicates[chosen])

    def stderr(self, index: int) -> float:
        """Return the standard error of one mixture's score."""
        return float(self.replicates[index].std(ddof=1))


@dataclass(frozen=True)
class Agreement:
    """How well predicted scores of n mixtures agree with the real ones."""

    mixtures: int
    spearman: Interval
    pearson: Interval

    def as_json(self) -> dict[str, Any]:
        """Return `{"mixtures", "spearman", "spearman_ci95", "pearson", "pearson_ci95"}`."""
        return {
            "mixtures": self.mixtures,
            "spearman": self.spearman.estimate,
            "spearman_ci95": [self.spearman.low, self.spearman.high],
            "pearson": self.pearson.estimate,
            "pearson_ci95": [self.pearson.low, self.pearson.high],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Agreement:
        """Invert `as_json`."""
        spans = [
            Interval.from_json({"estimate": data[name], "ci95": data[f"{name}_ci95"]})
            for name in ("spearman", "pearson")
        ]
        return cls(int(data["mixtures"]), *spans)


Agreements = Mapping[str, Agreement | None]  # by group of mixtures; see m2m.mix.validation_plan


def agreement(
    predicted: ScoredPair, real: ScoredPair, rng: np.random.Generator
) -> Agreement | None:
    """Return Spearman and Pearson correlations with 95 % intervals; None for under four mixtures.

    Each bootstrap replicate draws the mixtures again, and takes predicted and real scores from one
    resample of the examples each. So the intervals include both errors: which mixtures were
    validated, and on how few examples. A replicate has more noise than the data that it imitates,
    so its correlations are too low; the bias-corrected percentiles (Efron 1981, section 7) correct
    this. If the noise decides the order of nearly equal scores, the estimate is outside the middle
    95 % of the replicates, and the corrected ends would pass it. The bias cannot be computed from
    the replicates then; the interval is that of the plain percentiles, extended to the estimate.
    """
    count, replicates = real.replicates.shape
    if count < LEAST:
        return None
    drawn = rng.integers(count, size=(replicates, count))
    columns = np.arange(replicates)[:, None]
    pairs = predicted.replicates[drawn, columns], real.replicates[drawn, columns]
    points = predicted.points[None], real.points[None]
    return Agreement(
        count,
        bias_corrected(float(correlation(*map(ranks, points))[0]), correlation(*map(ranks, pairs))),
        bias_corrected(float(correlation(*points)[0]), correlation(*pairs)),
    )


def correlation(x: F64, y: F64) -> F64:
    """Return Pearson's correlation of each row of two (R, n) arrays; nan if one is constant."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    coefficients: F64 = np.divide(
        (x * y).sum(axis=1), spread, out=np.full(len(x), np.nan), where=spread > 0
    )
    return coefficients


def ranks(values: F64) -> F64:
    """Return the rank of each value in its row of (R, n); equal values share their mean rank."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    mean_ranks: F64 = below + (equal + 1) / 2
    return mean_ranks


def bias_corrected(estimate: float, replicates: F64) -> Interval:
    """Return an interval of shifted percentiles; it always contains the estimate (`agreement`)."""
    known = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or not len(known):
        return Interval(estimate, np.nan, np.nan)
    normal = NormalDist()
    fraction = ((known < estimate).mean() + (known <= estimate).mean()) / 2
    shift = normal.inv_cdf(float(np.clip(fraction, 1 / len(known), 1 - 1 / len(known))))
    tail = normal.inv_cdf((1 + CONFIDENCE) / 2)
    if abs(shift) > tail:
        return holding(estimate, known)
    low, high = np.quantile(known, [normal.cdf(2 * shift + side * tail) for side in (-1, 1)])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def holding(estimate: float, replicates: F64) -> Interval:
    """Return the plain percentiles, extended to the estimate: resamples may be biased."""
    low, high = np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def regret(real: ScoredPair, choice: int | Sequence[int]) -> Interval:
    """Return how much the best of n fine-tunes beats a choice, or the mean of several choices.

    The best of n noisy scores is also a lucky one, so the result is rather too large.
    """
    chosen = np.atleast_1d(choice)
    best = int(np.argmax(real.points))
    lost = real.replicates[best] - real.replicates[chosen].mean(axis=0)
    return holding(float(real.points[best] - real.points[chosen].mean()), lost)
