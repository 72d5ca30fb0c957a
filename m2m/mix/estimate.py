"""A mixture's score on all examples, told from a few of them.

To first order in the merged delta, a mixture's log-likelihoods are the base's plus the weighted
changes that its experts make by themselves. Base and experts are scored on every example, so this
costs nothing, and it is close: on the starter's 255 mixtures it predicts the scores with a Pearson
correlation of .95 and each example's bits with .92. It serves as a *control variate* (Cochran 1977,
chapter 7; Owen 2013, chapter 8): on the scored examples only the difference between score and
prediction is estimated, and that varies far less than the score.

    residual = value(actual, scored) - beta * value(predicted, scored)
    estimate = beta * value(predicted, all) + residual

The predictions may be wrong without doing harm: beta is fitted, and at 0 they are left out.

Residuals on six examples are mostly the luck of these six: on the starter their noise is 0.1 to 0.2
bits, where the predictions are wrong by 0.02. So what a mixture's residual differs from those of
the others on the same examples is shrunk by how much such differences are real (empirical Bayes:
James and Stein 1961; Efron and Morris 1973),

    share = true variance / (true variance + noise),

and what they have in common likewise. How much is real is told by how far the residuals of many
mixtures differ beyond their noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m2m.blas import one_blas_thread
from m2m.evaluate.metrics import Metric
from m2m.evaluate.scores import Scores
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.trial import Trial

Floats = NDArray[np.float64]
ROUNDING = 1e-12  # of a variance
MANY = 8  # differences between partial trials that it takes to tell how much of them is real


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
        """From the complete trials of base and single datasets; None without a base."""
        complete = [trial for trial in trials if trial.complete]
        base = [trial.scores[target] for trial in complete if trial.mixture == BASE]
        experts = {
            trial.mixture.datasets[0]: trial.scores[target]
            for trial in complete
            if len(trial.mixture.datasets) == 1
        }
        return cls(base[0], experts, growth) if base else None

    def predict(self, mixture: Mixture) -> Scores | None:
        """The mixture's scores; None where one of its datasets was not scored by itself."""
        if not all(name in self.experts for name in mixture.datasets):
            return None
        loglik = self.base.loglik.copy()
        coefficients = mixture.coefficients(self.growth)
        for name, coefficient in zip(mixture.datasets, coefficients, strict=True):
            loglik += coefficient * (self.experts[name].loglik - self.base.loglik)
        return replace(self.base, loglik=loglik)


@dataclass(frozen=True)
class Draws:
    """Resamples of a target's N examples, equal questions together.

    Attributes:
        clusters: (N,) numbers from 0, equal for equal questions.
        weights: (R, N) how often each resample draws each example.
    """

    clusters: NDArray[np.int64]
    weights: Floats

    @classmethod
    def of(cls, weights: Floats) -> Draws:
        """Of examples that all differ."""
        return cls(np.arange(weights.shape[1]), weights)

    def copies(self, places: Sequence[int]) -> Floats:
        """(n,) how many examples each of those at `places` stands for, by its equal ones."""
        seen = np.bincount(self.clusters[places], minlength=int(self.clusters.max()) + 1)
        share: Floats = (np.bincount(self.clusters) / np.maximum(seen, 1))[self.clusters[places]]
        return share


@dataclass(frozen=True)
class Estimates:
    """Of n mixtures: scores on all examples (n,), and those of R resamples (n, R)."""

    points: Floats
    replicates: Floats


def estimate(
    trials: Sequence[Trial],
    target: str,
    metric: Metric,
    draws: Draws,
    first_order: FirstOrder | None,
    *,
    of_these: bool = False,
) -> Estimates:
    """Scores of complete and partial trials, with resamples that carry the doubt.

    Args:
        trials: n of them.
        target: whose examples.
        metric: how they are scored; what it fits (a temperature) is fitted anew in every resample.
        draws: resamples of the target's examples.
        first_order: the prediction, if there is one.
        of_these: whether the examples count as all there are, not as a sample of others: then only
            what was not scored is in doubt.
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
    values: Floats, guesses: Mapping[int, Floats], groups: Sequence[list[int]], beta: float
) -> Iterator[tuple[list[int], Floats]]:
    """The values (m, 1 + R) of each group's trials with residuals shrunk to what is real in them.

    A shrunk residual's doubt is the noise times the share, as the posterior has it; so its
    resamples, which vary by the noise, are drawn in by the root of the share.
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
        return  # they are all alike: nothing tells how much of what they have in common is real
    seen = sum(float(own[:, 0] @ own[:, 0]) for *_, own in every) / free
    # Not below what a variance of so many can be wrong by: what was not seen may still be there.
    true = max(seen - luck, luck * float(np.sqrt(2.0 / free)))
    for (rows, guess, common, own), each in zip(every, noise, strict=True):
        # What beta takes from the predictions is for the common part to give back.
        shift = true + ((1.0 - beta) / max(beta, 0.1) * float(guess[:, 0].mean())) ** 2
        together = _drawn_in(common, shift, float(common[1:].var()))
        # One share for all: the best vary most, and must not be held back more than others.
        yield rows, guess + together + _drawn_in(own, true, float(each.mean()))


def _drawn_in(values: Floats, true: float, noise: float) -> Floats:
    """(..., 1 + R) values and their resamples, shrunk towards 0 to what is real in them."""
    share = true / (true + noise)
    point = values[..., :1]
    shrunk: Floats = share * point + share**0.5 * (values - point)
    return shrunk


@dataclass(frozen=True)
class _Part:
    """Values of one trial, each (1 + R,): on the examples as they are, then on the resamples.

    Attributes:
        widen: by what the resamples' spread is to be multiplied; None if all examples were scored.
        actual: by the scores of these examples.
        near: by the predictions for these examples.
        far: by the predictions for all examples.
    """

    widen: float | None
    actual: Floats
    near: Floats | None
    far: Floats | None

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
            # All scored: of these examples nothing is in doubt.
            return cls(None, _values(metric, scores, every, fixed=of_these), None, None)
        places = list(trial.places[target])
        copies = draws.copies(places)  # equal questions count as often as the target has them
        few = every[:, places] * copies
        few = np.where(few.any(axis=1, keepdims=True), few, copies)
        actual = _values(metric, scores, few, copies)
        predicted = first_order.predict(trial.mixture) if first_order else None
        # A resample of n varies by (n - 1) / n of what it should; and of N questions that are all
        # there are, n leave a share of (N - n) / N in doubt.
        seen = len(np.unique(draws.clusters[places]))
        widen = math.sqrt(seen / max(seen - 1, 1))
        if of_these:
            widen *= math.sqrt(1 - seen / len(np.unique(draws.clusters)))
        if predicted is None:
            return cls(widen, actual, None, None)
        near = _values(metric, predicted.take(places), few, copies)
        return cls(widen, actual, near, _values(metric, predicted, every, fixed=of_these))

    def combined(self, beta: float) -> Floats:
        """(1 + R,): the estimate, and its resamples."""
        if self.widen is None:
            return self.actual
        left = self.actual if self.near is None else self.actual - beta * self.near
        values: Floats = left[0] + self.widen * (left - left[0])
        if self.far is not None:
            values = values + beta * self.far
        return values


def _values(
    metric: Metric,
    scores: Scores,
    draws: Floats,
    copies: Floats | None = None,
    *,
    fixed: bool = False,
) -> Floats:
    """(1 + R,): the value on all examples, and on the resamples; `fixed`: on all in each."""
    point = metric.value(scores, None if copies is None else copies[None])
    resampled = np.repeat(point, len(draws)) if fixed else metric.value(scores, draws)
    return np.concatenate([point, resampled])


def _beta(parts: Sequence[_Part]) -> float:
    """The coefficient that makes the differences vary least, pooled over the trials; 0 to 1."""
    product = square = 0.0
    for part in parts:
        if part.near is not None:
            near, actual = part.near[1:] - part.near[1:].mean(), part.actual[1:]
            product += float(near @ (actual - actual.mean()))
            square += float(near @ near)
    return min(max(product / square, 0.0), 1.0) if square else 0.0
