"""How often people prefer one model's answers, and how far the people agree with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2m.arrays import F64
from m2m.evaluate.metric import resample
from m2m.mix.ranking import Interval, percentiles

# Krippendorff (Content Analysis, 2004, section 11.4.2) draws no conclusion from data below it.
RELIABLE = 0.667


def win_rate(outcomes: F64, questions: Sequence[int], rng: np.random.Generator) -> Interval:
    """Return the mean outcome, with a percentile bootstrap's 95 % interval over the questions.

    Args:
        outcomes: (n,) the judges' mean for each pair: 1 for this model, 0 for the other, 0.5 for a
            tie.
        questions: (n,) of the pairs; pairs of one question are drawn together.
        rng: draws the questions.
    """
    weights = resample(np.unique(questions, return_inverse=True)[1], rng)
    (low,), (high,) = percentiles((weights @ outcomes / weights.sum(axis=1))[None])
    return Interval(float(outcomes.mean()), float(low), float(high))


def krippendorff_alpha(units: Sequence[Sequence[str]], rng: np.random.Generator) -> Interval | None:
    """Return Krippendorff's alpha for nominal values, with a bootstrap's interval over the units.

    alpha = 1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability"): 1 is full agreement, 0 is what chance gives. Missing values are allowed.

    Args:
        units: for each thing that was judged, the values that the judges gave it.
        rng: draws the units.

    Returns:
        None if no unit has two values, or if all values are equal: agreement by chance cannot be
        told from real agreement then.
    """
    shared = [unit for unit in units if len(unit) > 1]
    values = sorted({value for unit in shared for value in unit})
    if len(values) < 2:
        return None
    counts = np.array([[unit.count(value) for value in values] for unit in shared], float)
    drawn = resample(len(counts), rng)
    estimate = _alpha(np.ones((1, len(counts))), counts)[0]
    replicates = _alpha(drawn, counts)
    known = replicates[np.isfinite(replicates)]  # a resample may have one value only
    (low,), (high,) = percentiles(known[None])
    return Interval(float(estimate), float(low), float(high))


def _alpha(weights: F64, counts: F64) -> F64:
    """Return alpha (R,) of the units (n, values) drawn `weights` (R, n) times; nan if unknown."""
    judges = counts.sum(axis=1)
    apart = (judges**2 - (counts**2).sum(axis=1)) / (judges - 1)
    totals, each = weights @ judges, weights @ counts
    observed = weights @ apart / totals
    expected = (totals**2 - (each**2).sum(axis=1)) / (totals * (totals - 1))
    alpha: F64 = np.full(len(weights), np.nan)
    known = expected > 0
    alpha[known] = 1 - observed[known] / expected[known]
    return alpha
