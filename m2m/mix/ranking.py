"""Turn scores with errors into a ranking that shows its uncertainty.

All mixtures answer the same examples, or the first of them, so they are compared pair by pair: one
bootstrap resamples the examples, and every mixture is scored on the same resamples. A mixture is
*tied with the best* unless it is shown to be worse than another one, tested against all others at
once: among 255 noisy scores some lead by luck alone. The tied mixtures are a 95 % confidence set of
the truly best one (multiple comparisons with the best, Hsu 1981, by the maximum statistic of
Westfall and Young 1993).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.formats.json_fields import Inline, JsonFields, Key, Newer
from m2m.mix.mixture import Mixture

CONFIDENCE = 0.95
SEEN = 0.0005  # a difference that prints as 0.000 does not count, even if it is certain


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """Return 1 or -1 if the interval is on that side of zero by at least `SEEN`; else 0."""
        return 1 if self.low >= SEEN else -1 if self.high <= -SEEN else 0

    def __str__(self) -> str:
        """Format for people: "0.036 (-0.108 to 0.187)", the ends if they are known."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        ends = f" ({self.low:z.3f} to {self.high:z.3f})" if known else ""
        return f"{self.estimate:z.3f}{ends}"

    @property
    def signed(self) -> str:
        """Format a difference for people: "+0.036 (-0.108 to +0.187)"."""
        return f"{self.estimate:+z.3f} ({self.low:+z.3f} to {self.high:+z.3f})"

    @property
    def ends(self) -> str:
        """Format only the interval: "-0.108 to 0.187"."""
        return f"{self.low:z.3f} to {self.high:z.3f}"

    @property
    def in_full(self) -> str:
        """Format for a sentence: "+0.036, 95 % interval -0.108 to +0.187"."""
        return f"{self.estimate:+z.3f}, 95 % interval {self.low:+z.3f} to {self.high:+z.3f}"

    def as_json(self) -> dict[str, Any]:
        """Return `{"estimate", "ci95"}`."""
        return {"estimate": self.estimate, "ci95": [self.low, self.high]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Interval:
        """Invert `as_json`; JSON has null for a number that is not known."""
        ends = data["ci95"]
        low, high = (math.nan if end is None else float(end) for end in ends)
        estimate = data["estimate"]
        return cls(math.nan if estimate is None else float(estimate), low, high)


@dataclass(frozen=True)
class Ranked(JsonFields):
    """One mixture's place in a ranking."""

    mixture: Inline[Mixture]
    score: float
    stderr: float
    ci95: tuple[float, float]
    behind: Annotated[Interval, Key("behind_best")]
    examples: Newer[int] = field(default=0, kw_only=True)
    rank: int
    tied_with_best: bool


def rank(
    mixtures: Sequence[Mixture],
    points: F64,
    replicates: F64,
    higher_is_better: bool = True,
    examples: Sequence[int] = (),
) -> list[Ranked]:
    """Order mixtures by score, best first, with errors, distances to the best and ties.

    The best mixture is the best of those with the most examples: scores on a few examples are
    easily too good, and a mixture that left a race early was never checked.

    Args:
        mixtures: n of them.
        points: (n,) scores on all examples.
        replicates: (n, R) scores on the R bootstrap resamples, the same for every mixture.
        higher_is_better: the direction of the metric.
        examples: (n,) numbers of examples that each was scored on; empty: all on the same.
    """
    sign = 1.0 if higher_is_better else -1.0
    counts = np.array(examples or [0] * len(points))
    order = np.argsort(-sign * points, kind="stable")
    first = int(np.argmax(counts[order] == counts.max()))
    order = np.concatenate([order[first : first + 1], np.delete(order, first)])
    behind = ahead(points, replicates, int(order[0]), higher_is_better)
    tied = _tied(sign * points, sign * replicates, np.flatnonzero(counts == counts.max()))
    low, high = percentiles(replicates)
    errors = replicates.std(axis=1, ddof=1)
    return [
        Ranked(
            mixture=mixtures[i],
            rank=place,
            score=float(points[i]),
            stderr=float(errors[i]),
            ci95=(float(low[i]), float(high[i])),
            behind=behind[i],
            tied_with_best=bool(tied[i]),
            examples=int(counts[i]),
        )
        for place, i in enumerate(order, start=1)
    ]


def ahead(
    points: F64, replicates: F64, index: int, higher_is_better: bool = True
) -> list[Interval]:
    """Return how far one of n is ahead of each, with paired 95 % intervals; of itself by nothing.

    Args:
        points: (n,) scores on all examples.
        replicates: (n, R) scores on the same R resamples.
        index: place of that one.
        higher_is_better: the direction of the metric.
    """
    sign = 1.0 if higher_is_better else -1.0
    low, high = percentiles(sign * (replicates[index] - replicates) + 0.0)  # no -0.0
    estimates = sign * (points[index] - points) + 0.0
    return [Interval(*map(float, interval)) for interval in zip(estimates, low, high, strict=True)]


def dataset_worth(
    mixtures: Sequence[Mixture], points: F64, replicates: F64, higher_is_better: bool = True
) -> dict[str, Interval]:
    """Return each dataset's effect, the mean over every scored pair of mixtures with and without.

    Over all subsets this is the Banzhaf value of the dataset (Banzhaf 1965; for data valuation,
    Wang and Jia 2023), positive if the dataset helps; the interval is the bootstrap's.
    """
    sign = 1.0 if higher_is_better else -1.0
    place = {frozenset(mixture.datasets): i for i, mixture in enumerate(mixtures)}
    worth: dict[str, Interval] = {}
    for name in dict.fromkeys(name for mixture in mixtures for name in mixture.datasets):
        pairs = [
            (place[known | {name}], i)
            for known, i in place.items()
            if name not in known and known | {name} in place
        ]
        if not pairs:
            continue
        with_it, without = np.array(pairs).T
        gains = sign * (replicates[with_it] - replicates[without]).mean(axis=0)
        (low,), (high,) = percentiles(gains[None])
        estimate = sign * (points[with_it] - points[without]).mean()
        worth[name] = Interval(float(estimate), float(low), float(high))
    return worth


def percentiles(replicates: F64) -> tuple[F64, F64]:
    """Return the ends (n,), (n,) of the 95 % intervals of (n, R) replicates."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=1)
    return low, high


def _tied(scores: F64, replicates: F64, against: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which mixtures are not shown to be worse than any of `against` (higher is better).

    For each mixture i, take the largest of the standardised distances (score_j - score_i) / se_ij
    over these j, and compare it with the 95 % point of its distribution by chance, if all were
    equal. The choice of the j is free, because only the test of the truly best one must not fail.
    Mixtures that were scored on few examples would raise the 95 % point and show nothing.
    """
    rivals = replicates[against] - replicates[against].mean(axis=1, keepdims=True)
    noise = replicates - replicates.mean(axis=1, keepdims=True)
    tied = np.empty(len(scores), dtype=np.bool_)
    for i, score in enumerate(scores):
        chance = rivals - noise[i]
        errors = chance.std(axis=1)
        other = errors > 0
        if not other.any():
            tied[i] = score > scores[against].max() - SEEN
            continue
        chance = chance[other] / errors[other, None]
        critical = np.quantile(chance.max(axis=0), CONFIDENCE)
        ahead_by = scores[against] - score
        # A distance that prints as 0.000 does not count.
        distance = np.where(ahead_by >= SEEN, ahead_by, 0.0)[other] / errors[other]
        tied[i] = distance.max() <= max(critical, 0.0) and not (ahead_by[~other] >= SEEN).any()
    return tied
