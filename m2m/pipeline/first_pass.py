"""A first short training of every dataset, if there is no time for an expert of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2m.evaluate.score import Score
from m2m.mix.mixture import Mixture
from m2m.mix.scoreboard import scoreboard
from m2m.pipeline.finetunes import DEV, objectives_on
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.ladder import Ladder
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Progress

FIRST_PASS = "first pass"  # the stage


def first_pass(
    inputs: Inputs, names: Sequence[str], steps: int, keep: int, progress: Progress
) -> dict[str, Score]:
    """Train each dataset alone for some steps; return those that did worst on dev, with scores.

    The experts of the others go on from the states that they have then. A killed pass goes on, too.

    Args:
        inputs: the run's inputs.
        names: the datasets.
        steps: of each.
        keep: number of datasets that are not returned, those that the recipe requires first.
        progress: gets one bar for each dataset.

    Raises:
        Interrupted: the user asked to stop; states and scores are kept.
    """
    ladder = Ladder(TrainedRun(inputs, {}, progress))
    mixtures = [Mixture.uniform([name]) for name in names]
    trials = [stop.trial for stop in ladder.climb(mixtures, steps)]
    board = scoreboard(trials, objectives_on(DEV, inputs), inputs.recipe.search.seed)
    for mixture in mixtures:
        ladder.forget(mixture, steps)
    errors = board.replicates.std(axis=1, ddof=1)
    required = np.isin(names, inputs.recipe.search.required)
    order = np.lexsort((-board.sign * board.points, ~required))
    for place in order[keep:]:
        ladder.leave(mixtures[place])
    return {
        names[place]: Score(float(board.points[place]), float(errors[place]))
        for place in order[keep:]
    }
