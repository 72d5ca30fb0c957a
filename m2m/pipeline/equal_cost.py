"""Fine-tune the picks of the merge and its rivals for the same number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2m.evaluate.score import Score
from m2m.mix.agreement import LEAST, ScoredPair, regret
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.rival_predictors import MERGE
from m2m.mix.scoreboard import scoreboard
from m2m.mix.trial import Trial
from m2m.pipeline.finetunes import DEV, TEST, FineTuner, has_test, objectives_on, open_judge
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.trained_run import TrainedRun
from m2m.recipe import changed
from m2m.recipe.fields import UNTIL
from m2m.results.rivals import Pick

_NESTED = 4  # the best k datasets are fine-tuned for k up to this
_UNKNOWN = float("nan")


@dataclass(frozen=True)
class Pool:
    """Mixtures that were all fine-tuned for the same number of steps.

    Attributes:
        steps: of each.
        mixtures: n of them.
        dev, real: their scores on dev, and on the split that judges.
        shorter: by a smaller number of steps, dev scores of the fine-tunes of some of them.
        continued: whether the longer fine-tunes continue the shorter ones.
        errors: whether the scores have replicates, so that intervals can be given.
    """

    steps: int
    mixtures: Sequence[Mixture]
    dev: ScoredPair
    real: ScoredPair
    shorter: Mapping[int, Mapping[Mixture, float]]
    continued: bool = False
    errors: bool = True

    def places(self, mixtures: Sequence[Mixture]) -> list[int]:
        """Return the places of those of `mixtures` that are in the pool."""
        return [self.mixtures.index(mixture) for mixture in mixtures if mixture in self.mixtures]

    def pick(self, places: Sequence[int], weights: Sequence[float], merge: int) -> Pick:
        """Return the expected pick if each place is picked with that probability."""
        share = np.array(weights) / sum(weights)
        chosen = np.array(places)
        value = share @ self.real.points[chosen]
        values = share @ self.real.replicates[chosen]
        joined = ScoredPair(
            np.append(self.real.points, value), np.vstack([self.real.replicates, values])
        )
        behind = float(self.real.points[merge] - value)
        lost = regret(joined, len(self.mixtures))
        mixture = self.mixtures[places[0]] if len(places) == 1 else None
        if not self.errors:
            unknown = (_UNKNOWN, _UNKNOWN)
            lost = Interval(lost.estimate, *unknown)
            return Pick(mixture, Score(float(value)), lost, Interval(behind, *unknown))
        low, high = np.quantile(self.real.replicates[merge] - values, (0.025, 0.975))
        return Pick(
            mixture,
            Score(float(value), float(values.std(ddof=1))),
            lost,
            Interval(behind, float(low), float(high)),
        )


def open_pool(
    run: TrainedRun,
    trials: Sequence[Trial],
    picks: Mapping[str, Mixture],
    tops: Sequence[Mixture],
) -> Pool:
    """Fine-tune all picks for as many steps as the merge's pick, and score them.

    Args:
        run: the run, with trained experts.
        trials: scored fine-tunes of the recipe's regime.
        picks: by rival, the merge's among them.
        tops: the best dataset, the best two, ...; the first few are fine-tuned too.

    Raises:
        Interrupted: the user asked to stop; finished fine-tunes are kept.
    """
    tuner, inputs = FineTuner(run), run.inputs
    steps = tuner.steps(picks[MERGE])
    known = {trial.mixture: trial for trial in trials if tuner.steps(trial.mixture) == steps}
    first = [*picks.values(), *tops[:_NESTED]]
    missing = [mixture for mixture in dict.fromkeys(first) if mixture not in known]
    alike = _at(run, steps)
    known |= _judged(alike, FineTuner(alike).adapters(missing))
    every = [*known.values()]
    judged_on = TEST if has_test(inputs) else DEV
    return Pool(
        steps,
        [*known],
        scored_on(DEV, every, inputs),
        scored_on(judged_on, every, inputs),
        dict(_shorter(run, [*known], steps)),
    )


def _at(run: TrainedRun, steps: int) -> TrainedRun:
    """Return the run with the same number of steps for every fine-tune."""
    recipe = run.inputs.recipe
    if recipe.confirm.budget == UNTIL and recipe.train.steps == steps:
        return run  # first rungs have as many, and are used again
    recipe = changed(recipe, {"confirm": {"budget": steps}})
    return replace(run, inputs=replace(run.inputs, recipe=recipe))


def _judged(run: TrainedRun, tuned: Mapping[Mixture, Path]) -> dict[Mixture, Trial]:
    if not tuned:
        return {}
    with open_judge(run, tuned) as judge:
        return {mixture: judge.finetuned(mixture) for mixture in tuned}


def scored_on(split: str, trials: Sequence[Trial], inputs: Inputs) -> ScoredPair:
    """Return the scores of fine-tunes on one split, higher is better."""
    return ScoredPair.of(
        scoreboard(trials, objectives_on(split, inputs), inputs.recipe.search.seed)
    )


def _shorter(
    run: TrainedRun, mixtures: Sequence[Mixture], steps: int
) -> Iterator[tuple[int, dict[Mixture, float]]]:
    """Yield dev scores of fine-tunes that earlier commands made with fewer steps."""
    names = [place.name for place in run.files.finetunes.glob("*")]
    lengths = {int(name) for name in names if name.isdecimal()}
    for length in sorted({*lengths, run.inputs.recipe.train.steps}):
        if length < steps:
            alike = _at(run, length)
            done = FineTuner(alike).finished(mixtures)
            if len(done) >= LEAST:
                trials = _judged(alike, done)
                points = scored_on(DEV, [*trials.values()], run.inputs).points
                yield length, dict(zip(trials, map(float, points), strict=True))
