"""A metric: a pure function from per-example scores to a number, for many resamples at once.

`value` takes weights (R, n), how often each resample drew each example. So one bootstrap serves
every metric, and mixtures that answered the same examples are compared on the same resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.blas import one_blas_thread
from m2m.evaluate.score import Score
from m2m.evaluate.scores import Scores

REPLICATES = 1000


@dataclass(frozen=True)
class Metric:
    """A way to turn scores into a number.

    Attributes:
        name: in recipes and results.
        kinds: the kinds of task that it fits.
        higher_is_better: its direction; `sign` is 1 or -1.
        value: (scores, weights (R, n) or None) -> (R,); without weights every example counts once
            and R is 1.
        per_example: scores -> (n,) contributions, for pairing and its standard error.
        chance: scores -> the score of guessing, or of always giving one answer if that is more;
            None if this has no meaning.
        mean: whether the value is the plain mean of `per_example`.
        written: whether it judges the text that the model wrote, so that answers are generated.
        per_token: whether it counts tokens, so that only models with one tokenizer compare.
        best: the end of its scale: nothing can score better.
    """

    name: str
    kinds: tuple[str, ...]
    higher_is_better: bool
    value: Callable[[Scores, F64 | None], F64]
    per_example: Callable[[Scores], F64]
    chance: Callable[[Scores], float | None]
    mean: bool = False
    written: bool = False
    per_token: bool = False
    best: float = 1.0

    @property
    def sign(self) -> float:
        """Return the factor that turns the value so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    def stderr(self, scores: Scores, rng: np.random.Generator | None = None) -> float:
        """Return the standard error over different questions: a formula for a mean, else bootstrap.

        For a mean it is the cluster-robust one (Liang and Zeger 1986), which is sample deviation /
        sqrt(n) if all questions differ. The bootstrap (1000 resamples, `rng` or one seeded with 0)
        repeats any fit in each resample. One question has no standard error: nan.
        """
        n, clusters = scores.different, scores.clusters
        if n < 2:
            return float("nan")
        if self.mean:
            values = self.per_example(scores)
            sums = np.bincount(clusters, values - values.mean())
            return float(np.sqrt(n / (n - 1) * (sums @ sums)) / len(scores))
        draws = resample(clusters, rng or np.random.default_rng(0))
        with one_blas_thread():  # the products are small
            return float(self.value(scores, draws).std(ddof=1))

    def measure(self, scores: Scores, rng: np.random.Generator | None = None) -> Score:
        """Return the value on all examples, with its standard error."""
        return Score(float(self.value(scores, None)[0]), self.stderr(scores, rng))


def resample(
    clusters: int | NDArray[np.int64], rng: np.random.Generator, replicates: int = REPLICATES
) -> F64:
    """Return bootstrap weights (replicates, n): how often each resample drew each example.

    Args:
        clusters: (n,) numbers from 0, equal for equal questions, which are drawn together; or n,
            if all questions differ.
        rng: draws the examples.
        replicates: the number of resamples.
    """
    groups = np.arange(clusters) if isinstance(clusters, int) else clusters
    count = int(groups.max(initial=-1)) + 1
    drawn = rng.multinomial(count, np.full(count, 1.0 / max(count, 1)), size=replicates)
    return drawn.astype(np.float64)[:, groups]


def weights_of(scores: Scores, weights: F64 | None) -> F64:
    """Return weights (R, n); one row of ones if there are none."""
    return np.ones((1, len(scores))) if weights is None else np.asarray(weights, np.float64)


def mean_of(per_example: Callable[[Scores], F64]) -> Callable[[Scores, F64 | None], F64]:
    """Return the `value` of a metric that is the mean of its examples."""

    def value(scores: Scores, weights: F64 | None) -> F64:
        drawn = weights_of(scores, weights)
        mean: F64 = drawn @ per_example(scores) / drawn.sum(axis=1)
        return mean

    return value


def commonest(answers: Sequence[object]) -> float:
    """Return how often the commonest answer of the other examples is right."""
    most = max(Counter(answers).values())
    return (most - 1) / max(len(answers) - 1, 1)
