"""Estimate a mixture's score on all examples from its scores on a few of them.

To first order in the merged delta, a mixture's log-likelihoods are the base's plus the weighted
changes that its experts make by themselves. Base and experts are scored on every example, so this
costs nothing, and it is close: on the starter's 255 mixtures it predicts the scores with a Pearson
correlation of .95 and each example's bits with .92. It serves as a *control variate* (Cochran 1977,
chapter 7; Owen 2013, chapter 8): on the scored examples only the difference between score and
prediction is estimated, and that varies far less than the score.

    residual = value(actual, scored) - beta * value(predicted, scored)
    estimate = beta * value(predicted, all) + residual

Wrong predictions do no harm: beta is fitted, and at 0 they are left out.

Residuals on six examples are mostly the luck of these six: on the starter their noise is 0.1 to 0.2
bits, and the predictions are wrong by only 0.02. So a mixture's difference from the residuals of
the others on the same examples is shrunk to the fraction of such differences that is real
(empirical Bayes: James and Stein 1961; Efron and Morris 1973),

    fraction = true variance / (true variance + noise),

and their common part is shrunk in the same way. The true variance is estimated from how much the
residuals of many mixtures differ beyond their noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.blas import one_blas_thread
from m2m.evaluate.metric import Metric, resample
from m2m.evaluate.scores import Scores
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.trial import Trial

ROUNDING = 1e-12  # of a variance
MANY = 8  # differences between partial trials that are needed to estimate the real part


@dataclass(frozen=True)
class FirstOrder:
    """Predicts a mixture's scores from those of the base and of the experts by themselves.

    `growth` is the recipe's: how the merged delta grows with the number of datasets.
    """

    base: Scores
    experts: Mapping[str, Scores]
    growth: float = 0.0

    @classmethod
    def of(cls, trials: Sequence[Trial], target: str, growth: float = 0.0) -> FirstOrder | None:
        """Make it from the complete trials of base and single datasets; None without a base."""
        complete = [trial for trial in trials if trial.complete]
        base = [trial.scores[target] for trial in complete if trial.mixture == BASE]
        experts = {
            trial.mixture.datasets[0]: trial.scores[target]
            for trial in complete
            if len(trial.mixture.datasets) == 1
        }
        return cls(base[0], experts, growth) if base else None

    def predict(self, mixture: Mixture) -> Scores | None:
        """Return the mixture's scores; None if one of its datasets was not scored alone."""
        if not all(name in self.experts for name in mixture.datasets):
            return None
        loglik = self.base.loglik.copy()
        coefficients = mixture.coefficients(self.growth)
        for name, coefficient in zip(mixture.datasets, coefficients, strict=True):
            loglik += coefficient * (self.experts[name].loglik - self.base.loglik)
        return replace(self.base, loglik=loglik)


@dataclass(frozen=True)
class Draws:
    """Resamples of a target's N examples; equal questions are drawn together.

    Attributes:
        clusters: (N,) numbers from 0, equal for equal questions.
        weights: (R, N) how often each resample draws each example.
        name: equal for equal draws, which are kept apart by it; None if nothing is kept.
    """

    clusters: NDArray[np.int64]
    weights: F64
    name: Hashable = None

    @classmethod
    def seeded(cls, clusters: NDArray[np.int64], seed: Sequence[int], resamples: int) -> Draws:
        """Return the draws of a seed, with a name for them."""
        name = (clusters.tobytes(), *seed, resamples)
        weights = resample(clusters, np.random.default_rng(seed), resamples)
        return cls(clusters, weights, hashlib.sha256(repr(name).encode()).digest())

    @classmethod
    def of(cls, weights: F64) -> Draws:
        """Return draws of examples that all differ."""
        return cls(np.arange(weights.shape[1]), weights)

    def copies(self, places: Sequence[int]) -> F64:
        """Return (n,) how many examples each of `places` stands for, with unscored equal ones."""
        seen = np.bincount(self.clusters[places], minlength=int(self.clusters.max()) + 1)
        counts: F64 = (np.bincount(self.clusters) / np.maximum(seen, 1))[self.clusters[places]]
        return counts


@dataclass(frozen=True)
class Estimates:
    """Scores of n mixtures on all examples (n,), and on R resamples (n, R)."""

    points: F64
    replicates: F64


def estimate(
    trials: Sequence[Trial],
    target: str,
    metric: Metric,
    draws: Draws,
    first_order: FirstOrder | None,
    *,
    of_these: bool = False,
) -> Estimates:
    """Return scores of complete and partial trials, with resamples that carry the uncertainty.

    Args:
        trials: n of them.
        target: whose examples.
        metric: scores them; a value that it fits (a temperature) is fitted in every resample.
        draws: resamples of the target's examples.
        first_order: the prediction, if there is one.
        of_these: whether the examples count as the whole population, not as a sample: then only
            the examples that were not scored add uncertainty.
    """
    with one_blas_thread():
        parts = [_Part.of(trial, target, metric, draws, first_order, of_these) for trial in trials]
    beta = _beta(parts)
    values = np.stack([part.combined(beta) for part in parts])
    guesses = {i: beta * part.far for i, part in enumerate(parts) if part.far is not None}
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in guesses:
        groups.setdefault(tuple(trials[i].places[target]), []).append(i)
    if len(guesses) - len(groups) >= MANY:
        for rows, shrunk in _shrunk(values, guesses, list(groups.values()), beta):
            values[rows] = shrunk
    return Estimates(values[:, 0].copy(), values[:, 1:])


def _shrunk(
    values: F64, guesses: Mapping[int, F64], groups: Sequence[list[int]], beta: float
) -> Iterator[tuple[list[int], F64]]:
    """Yield each group's trials with values (m, 1 + R), residuals shrunk to their real part.

    The posterior variance of a shrunk residual is the noise times that fraction. Its resamples vary
    by the noise, so they are shrunk by the root of the fraction.
    """
    every = []
    for rows in groups:
        guess = np.stack([guesses[i] for i in rows])
        residuals = values[rows] - guess
        common = residuals.mean(axis=0)
        every.append((rows, guess, common, residuals - common))
    free = sum(len(rows) - 1 for rows in groups)
    noise = [own[:, 1:].var(axis=1) for *_, own in every]
    luck = float(sum(map(np.sum, noise))) / free
    if luck <= ROUNDING * max(float(common[1:].var()) for _, _, common, _ in every):
        return  # all are alike: how much of their common part is real cannot be estimated
    seen = sum(float(own[:, 0] @ own[:, 0]) for *_, own in every) / free
    # At least the error of a variance of this many: real differences may have stayed unseen.
    true = max(seen - luck, luck * float(np.sqrt(2.0 / free)))
    for (rows, guess, common, own), variances in zip(every, noise, strict=True):
        # The common part must return the part of the predictions that beta removes.
        shift = true + ((1.0 - beta) / max(beta, 0.1) * float(guess[:, 0].mean())) ** 2
        together = _drawn_in(common, shift, float(common[1:].var()))
        # One fraction for all: the best have the most noise, but must not be shrunk more.
        yield rows, guess + together + _drawn_in(own, true, float(variances.mean()))


def _drawn_in(values: F64, true: float, noise: float) -> F64:
    """Return (..., 1 + R) values and their resamples, shrunk towards 0 to their real part."""
    fraction = true / (true + noise)
    point = values[..., :1]
    shrunk: F64 = fraction * point + fraction**0.5 * (values - point)
    return shrunk


@dataclass(frozen=True)
class _Part:
    """Values of one trial, each (1 + R,): on the examples as they are, then on the resamples.

    Attributes:
        widen: factor for the resamples' spread; None if all examples were scored.
        actual: from the scores of these examples.
        near: from the predictions for these examples.
        far: from the predictions for all examples.
    """

    widen: float | None
    actual: F64
    near: F64 | None
    far: F64 | None

    @classmethod
    def of(
        cls,
        trial: Trial,
        target: str,
        metric: Metric,
        draws: Draws,
        first_order: FirstOrder | None,
        of_these: bool,
    ) -> _Part:
        scores, every = trial.scores[target], draws.weights
        if len(scores) == every.shape[1]:
            # All examples are scored: nothing about them is uncertain.
            return cls(None, _known_values(metric, scores, draws, fixed=of_these), None, None)
        places = list(trial.places[target])
        copies = draws.copies(places)  # equal questions count as often as in the target
        few = every[:, places] * copies
        few = np.where(few.any(axis=1, keepdims=True), few, copies)
        actual = _values(metric, scores, few, copies)
        predicted = first_order.predict(trial.mixture) if first_order else None
        # A resample of n has (n - 1) / n of the right variance. If N questions are the whole
        # population, n of them leave a fraction of (N - n) / N uncertain.
        seen = len(np.unique(draws.clusters[places]))
        widen = math.sqrt(seen / max(seen - 1, 1))
        if of_these:
            widen *= math.sqrt(1 - seen / len(np.unique(draws.clusters)))
        if predicted is None:
            return cls(widen, actual, None, None)
        near = _values(metric, predicted.take(places), few, copies)
        return cls(widen, actual, near, _values(metric, predicted, every, fixed=of_these))

    def combined(self, beta: float) -> F64:
        """Return (1 + R,): the estimate, and its resamples."""
        if self.widen is None:
            return self.actual
        left = self.actual if self.near is None else self.actual - beta * self.near
        values: F64 = left[0] + self.widen * (left - left[0])
        if self.far is not None:
            values = values + beta * self.far
        return values


# Values of scores that are still in use. Every step of a search, each warning and each verdict ask
# for those of the same trials on the same draws.
_KNOWN: WeakKeyDictionary[Scores, dict[Hashable, F64]] = WeakKeyDictionary()


def _known_values(metric: Metric, scores: Scores, draws: Draws, *, fixed: bool) -> F64:
    """Return `_values` on all draws, computed once for draws with a name."""
    if draws.name is None:
        return _values(metric, scores, draws.weights, fixed=fixed)
    known = _KNOWN.setdefault(scores, {})
    key = (metric, draws.name, fixed)
    if key not in known:
        known[key] = _values(metric, scores, draws.weights, fixed=fixed)
        known[key].flags.writeable = False
    return known[key]


def _values(
    metric: Metric,
    scores: Scores,
    draws: F64,
    copies: F64 | None = None,
    *,
    fixed: bool = False,
) -> F64:
    """Return (1 + R,): the value on all examples and on the resamples; `fixed`: always on all."""
    point = metric.value(scores, None if copies is None else copies[None])
    resampled = np.repeat(point, len(draws)) if fixed else metric.value(scores, draws)
    return np.concatenate([point, resampled])


def _beta(parts: Sequence[_Part]) -> float:
    """Return the coefficient, 0 to 1, by which the differences vary least over all trials."""
    product = square = 0.0
    for part in parts:
        if part.near is not None:
            near, actual = part.near[1:] - part.near[1:].mean(), part.actual[1:]
            product += float(near @ (actual - actual.mean()))
            square += float(near @ near)
    return min(max(product / square, 0.0), 1.0) if square else 0.0
