"""From trials to points and bootstrap replicates, for one target or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metrics import REPLICATES, Metric, resample
from m2m.mix.estimate import Draws, FirstOrder, estimate
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial

Floats = NDArray[np.float64]
COMBINED = "standardised"


@dataclass(frozen=True)
class Aim:
    """A target with the metric that it is judged by, and its share among several."""

    target: str
    metric: Metric
    weight: float = 1.0


@dataclass(frozen=True)
class Standing:
    """Scores of n mixtures and of R bootstrap resamples of the examples, the same for all.

    Attributes:
        points: (n,).
        replicates: (n, R).
    """

    mixtures: tuple[Mixture, ...]
    points: Floats
    replicates: Floats
    higher_is_better: bool

    @property
    def sign(self) -> float:
        """What turns the scores so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def best(self) -> int:
        """Place of the mixture with the best score."""
        return int(np.argmax(self.sign * self.points))


def standing(
    trials: Sequence[Trial],
    aims: Sequence[Aim],
    seed: int,
    *,
    growth: float = 0.0,
    reference: Sequence[Trial] = (),
    of_these: bool = False,
    resamples: int = REPLICATES,
) -> Standing:
    """Evaluate every trial on all examples and on the resamples that `seed` draws.

    One target keeps its metric's own unit. Several are standardised over the mixtures (mean 0,
    deviation 1, higher is better) and averaged with their weights; the replicates go through the
    same map. What is not scored in full is estimated (see `estimate`), with wider replicates.

    Args:
        trials: n of them.
        aims: targets, metrics and weights.
        seed: of the resamples.
        growth: of the merged deltas with the number of datasets, the recipe's.
        reference: more trials: base and experts to predict from, mixtures to standardise over.
        of_these: whether the examples count as all there are: then only what was not scored varies.
        resamples: R.
    """
    mixtures = tuple(trial.mixture for trial in trials)
    every = [*reference, *trials]
    points, replicates = np.zeros(len(trials)), np.zeros((len(trials), resamples))
    total = sum(aim.weight for aim in aims)
    for i, aim in enumerate(aims):
        clusters = max((t.scores[aim.target] for t in every), key=len).clusters
        draws = Draws(clusters, resample(clusters, np.random.default_rng([seed, i]), resamples))
        known = FirstOrder.of(every, aim.target, growth)
        found = estimate(trials, aim.target, aim.metric, draws, known, of_these=of_these)
        if len(aims) == 1:
            return Standing(mixtures, found.points, found.replicates, aim.metric.higher_is_better)
        unit = _reference(reference, aim) if reference else found.points
        factor = aim.metric.sign * aim.weight / total / (unit.std() or 1.0)
        points += factor * (found.points - unit.mean())
        replicates += factor * (found.replicates - unit.mean())
    return Standing(mixtures, points, replicates, True)


def pareto(trials: Sequence[Trial], aims: Sequence[Aim]) -> list[tuple[Trial, dict[str, float]]]:
    """Complete trials that no other beats on one target without losing on another, with scores."""
    complete = [trial for trial in trials if trial.complete]
    if not complete:
        return []
    scores = np.column_stack([_reference(complete, aim) for aim in aims])
    signed = scores * [aim.metric.sign for aim in aims]
    found = []
    for trial, own, row in zip(complete, scores, signed, strict=True):
        beaten = ((signed >= row).all(axis=1) & (signed > row).any(axis=1)).any()
        if not beaten:
            names = [aim.target for aim in aims]
            found.append((trial, dict(zip(names, map(float, own), strict=True))))
    return found


def _reference(trials: Sequence[Trial], aim: Aim) -> Floats:
    complete = [trial for trial in trials if trial.complete]
    return np.array([aim.metric.value(each.scores[aim.target], None)[0] for each in complete])


def metric_name(aims: Sequence[Aim]) -> str:
    """What the ranking is by."""
    return aims[0].metric.name if len(aims) == 1 else COMBINED


def target_name(aims: Sequence[Aim]) -> str:
    """Which targets the ranking is for."""
    return " + ".join(aim.target for aim in aims)
