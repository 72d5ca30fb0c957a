"""From trials to points and bootstrap replicates, for one target or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metrics import Metric, resample
from m2m.mix.mixture import Mixture
from m2m.mix.study import Trial

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

    def without(self, index: int) -> Standing:
        """The standing of all mixtures but one."""
        others = [i for i in range(len(self.mixtures)) if i != index]
        mixtures = tuple(self.mixtures[i] for i in others)
        return Standing(
            mixtures, self.points[others], self.replicates[others], self.higher_is_better
        )


def standing(trials: Sequence[Trial], aims: Sequence[Aim], seed: int) -> Standing:
    """Evaluate every trial on all examples and on the resamples that `seed` draws.

    One target keeps its metric's own unit. Several are standardised over the mixtures (mean 0,
    deviation 1, higher is better) and averaged with their weights; the replicates go through the
    same map.
    """
    mixtures = tuple(trial.mixture for trial in trials)
    parts = [_one(trials, aim, np.random.default_rng([seed, i])) for i, aim in enumerate(aims)]
    if len(aims) == 1:
        return Standing(mixtures, *parts[0], aims[0].metric.higher_is_better)
    total = sum(aim.weight for aim in aims)
    points, replicates = np.zeros(len(trials)), np.zeros(parts[0][1].shape)
    for aim, (values, drawn) in zip(aims, parts, strict=True):
        sign = 1.0 if aim.metric.higher_is_better else -1.0
        factor = sign * aim.weight / total / (values.std() or 1.0)
        points += factor * (values - values.mean())
        replicates += factor * (drawn - values.mean())
    return Standing(mixtures, points, replicates, True)


def _one(trials: Sequence[Trial], aim: Aim, rng: np.random.Generator) -> tuple[Floats, Floats]:
    scores = [trial.scores[aim.target] for trial in trials]
    draws = resample(len(scores[0]), rng)
    points = np.array([aim.metric.value(each, None)[0] for each in scores])
    return points, np.stack([aim.metric.value(each, draws) for each in scores])


def metric_name(aims: Sequence[Aim]) -> str:
    """What the ranking is by."""
    return aims[0].metric.name if len(aims) == 1 else COMBINED


def target_name(aims: Sequence[Aim]) -> str:
    """Which targets the ranking is for."""
    return " + ".join(aim.target for aim in aims)
