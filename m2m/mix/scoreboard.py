"""Compute points and bootstrap replicates from trials, for one target or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2m.arrays import F64
from m2m.evaluate.metric import REPLICATES, Metric
from m2m.mix.estimate import Draws, FirstOrder, estimate
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial

COMBINED = "standardised"


@dataclass(frozen=True)
class Objective:
    """A target with the metric that judges it, and its weight among several."""

    target: str
    metric: Metric
    weight: float = 1.0


@dataclass(frozen=True)
class Scoreboard:
    """Scores of n mixtures and of R bootstrap resamples of the examples, the same for all.

    Attributes:
        points: (n,).
        replicates: (n, R).
    """

    mixtures: tuple[Mixture, ...]
    points: F64
    replicates: F64
    higher_is_better: bool

    @property
    def sign(self) -> float:
        """Return the factor that turns the scores so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def best(self) -> int:
        """Return the place of the mixture with the best score."""
        return int(np.argmax(self.sign * self.points))


def scoreboard(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    seed: int,
    *,
    growth: float = 0.0,
    reference: Sequence[Trial] = (),
    of_these: bool = False,
    resamples: int = REPLICATES,
) -> Scoreboard:
    """Evaluate every trial on all examples and on the resamples that `seed` draws.

    One target keeps its metric's own unit. Several are standardised over the mixtures (mean 0,
    deviation 1, higher is better) and averaged with their weights; the replicates go through the
    same map. Partial trials are estimated (see `estimate`), with wider replicates.

    Args:
        trials: n of them.
        objectives: targets, metrics and weights.
        seed: of the resamples.
        growth: of the merged deltas with the number of datasets, the recipe's.
        reference: more trials: base and experts to predict from, mixtures to standardise over.
        of_these: whether these examples are the population: only unscored ones then add variance.
        resamples: R.
    """
    mixtures = tuple(trial.mixture for trial in trials)
    every = [*reference, *trials]
    points, replicates = np.zeros(len(trials)), np.zeros((len(trials), resamples))
    total = sum(objective.weight for objective in objectives)
    for i, objective in enumerate(objectives):
        clusters = max((t.scores[objective.target] for t in every), key=len).clusters
        draws = Draws.seeded(clusters, (seed, i), resamples)
        known = FirstOrder.of(every, objective.target, growth)
        estimates = estimate(
            trials, objective.target, objective.metric, draws, known, of_these=of_these
        )
        if len(objectives) == 1:
            return Scoreboard(
                mixtures, estimates.points, estimates.replicates, objective.metric.higher_is_better
            )
        unit = _reference(reference, objective) if reference else estimates.points
        factor = objective.metric.sign * objective.weight / total / (unit.std() or 1.0)
        points += factor * (estimates.points - unit.mean())
        replicates += factor * (estimates.replicates - unit.mean())
    return Scoreboard(mixtures, points, replicates, True)


def pareto(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> list[tuple[Trial, dict[str, float]]]:
    """Return each complete trial, with scores, that no other beats without losing on a target."""
    complete = [trial for trial in trials if trial.complete]
    if not complete:
        return []
    scores = np.column_stack([_reference(complete, objective) for objective in objectives])
    signed = scores * [objective.metric.sign for objective in objectives]
    front = []
    for trial, own, row in zip(complete, scores, signed, strict=True):
        beaten = ((signed >= row).all(axis=1) & (signed > row).any(axis=1)).any()
        if not beaten:
            names = [objective.target for objective in objectives]
            front.append((trial, dict(zip(names, map(float, own), strict=True))))
    return front


def _reference(trials: Sequence[Trial], objective: Objective) -> F64:
    complete = [trial for trial in trials if trial.complete]
    return np.array(
        [objective.metric.value(trial.scores[objective.target], None)[0] for trial in complete]
    )


def metric_name(objectives: Sequence[Objective]) -> str:
    """Return the name of the measure that orders the ranking."""
    return objectives[0].metric.name if len(objectives) == 1 else COMBINED


def target_name(objectives: Sequence[Objective]) -> str:
    """Return the targets of the ranking, for people."""
    return " + ".join(objective.target for objective in objectives)
