"""When not to trust a ranking: what the scores themselves give away, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from m2m.evaluate.metrics import METRICS
from m2m.export.gguf import LOW_SURVIVAL
from m2m.mix.mixture import BASE
from m2m.mix.standing import Aim, standing
from m2m.mix.study import Trial

STANDARD_ERRORS = 2.0


def cautions(trials: Sequence[Trial], aims: Sequence[Aim]) -> list[str]:
    """All warnings that some trials, the base's among them, give reason for."""
    found = [*_survival(trials)]
    for aim in aims:
        found += [*_chance(trials, aim), *_likelihood(trials, aim)]
    return found


def _survival(trials: Sequence[Trial]) -> list[str]:
    kept = [min(trial.survival.values()) for trial in trials if trial.survival]
    low = float(np.median(kept)) if kept else 1.0
    if low >= LOW_SURVIVAL or math.isnan(low):
        return []
    return [
        f"quantisation keeps the experts' deltas only to {low:.2f} (gain or cosine, median; below "
        f"{LOW_SURVIVAL}): part of this ranking is rounding noise; score in a finer type "
        "([quantize] type) or train longer"
    ]


def _chance(trials: Sequence[Trial], aim: Aim) -> list[str]:
    """Warn where nothing stands out above chance."""
    best = -math.inf
    for trial in trials:
        scores = trial.scores[aim.target]
        chance = aim.metric.chance(scores)
        if chance is None or trial.mixture == BASE:
            continue
        value = float(aim.metric.value(scores, None)[0])
        error = aim.metric.stderr(scores) or math.inf
        best = max(best, (value - chance) / error)
    if best > STANDARD_ERRORS or best == -math.inf:
        return []
    return [
        f"no mixture is more than {STANDARD_ERRORS:g} standard errors above chance on "
        f"{aim.target}: nothing was learned that this ranking could show; train longer ([train] "
        "steps) or add examples to the dev set"
    ]


def _likelihood(trials: Sequence[Trial], aim: Aim) -> list[str]:
    """Warn where the likelihood of the right answer would order the datasets otherwise."""
    singles = [trial for trial in trials if len(trial.mixture.datasets) == 1]
    if aim.metric.name == "bits_per_byte" or len(singles) < 2:
        return []
    own = standing(singles, [aim], seed=0)
    other = standing(singles, [Aim(aim.target, METRICS["bits_per_byte"])], seed=0)
    best = singles[int(np.argmax(own.points if own.higher_is_better else -own.points))]
    likeliest = singles[int(np.argmin(other.points))]
    if best is likeliest:
        return []
    return [
        f"by bits per byte {likeliest.mixture.label} would be the best single dataset on "
        f"{aim.target}, by {aim.metric.name} it is {best.mixture.label}: the likelihood of an "
        "answer rewards sounding like an answer; the ranking goes by what tells right from wrong"
    ]
