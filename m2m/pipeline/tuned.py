"""The fine-tunes of the confirm stage with their scores, made in one of two ways.

Usually every contender is trained once, for as many steps as the recipe's budget says. With budget
"until" they are halved, and the last one trains as long as it pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2m.adapter import read_extra
from m2m.mix.contenders import Contender
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.scoreboard import scoreboard
from m2m.mix.trial import Trial
from m2m.pipeline.finetunes import (
    DEV,
    FineTuner,
    objectives_on,
    open_judge,
    stage_name,
)
from m2m.pipeline.halving import Deadlines, Halving
from m2m.pipeline.trained_run import TrainedRun
from m2m.recipe.fields import UNTIL
from m2m.results.confirmation import RowsSeen
from m2m.results.courses import Courses


@dataclass(frozen=True)
class Tuned:
    """n contenders, really fine-tuned and scored on dev and test.

    Attributes:
        base: trial of the base.
        merged: trial of the best merge; None if nothing was searched.
        trials: (n,) of the contenders.
        adapters, steps, seen: (n,) of each: its folder, its steps, the rows that it saw.
        best: place of the winner, which dev chose.
        earlier: trials of the winner after as many steps as others had.
        equal: (n,) places in `earlier` of the winner after as many steps; -1: the winner itself.
        courses: the course of all contenders, if they were halved.
    """

    base: Trial
    merged: Trial | None
    trials: Sequence[Trial]
    adapters: Sequence[Path]
    steps: Sequence[int]
    seen: Sequence[dict[str, RowsSeen]]
    best: int
    earlier: Sequence[Trial] = ()
    equal: Sequence[int] = ()
    courses: Courses | None = None


def tune(
    run: TrainedRun,
    chosen: Sequence[Contender],
    merged: Mixture | None,
    deadlines: Deadlines | None,
) -> Tuned:
    """Fine-tune the contenders as `[confirm] budget` says, and score them.

    Args:
        run: the run, with trained experts.
        chosen: the contenders.
        merged: the mixture whose merge is scored too; None without a search.
        deadlines: of rungs and last training, with budget "until"; None: no limit.
    """
    mixtures = [contender.mixture for contender in chosen]
    if run.inputs.recipe.confirm.budget == UNTIL:
        return _halved(run, mixtures, merged, deadlines)
    tuner = FineTuner(run)
    adapters = tuner.adapters(mixtures)
    with open_judge(run, adapters, unlike=2 if merged else 1) as judge:
        base, best = judge.merged(BASE), judge.merged(merged) if merged else None
        trials = [judge.finetuned(mixture) for mixture in mixtures]
    inputs = run.inputs
    board = scoreboard(trials, objectives_on(DEV, inputs), inputs.recipe.search.seed)
    return Tuned(
        base,
        best,
        trials,
        [adapters[mixture] for mixture in mixtures],
        [int(read_extra(adapters[mixture])["steps"]) for mixture in mixtures],
        [tuner.seen(mixture, adapters[mixture]) for mixture in mixtures],
        board.best,
    )


def _halved(
    run: TrainedRun,
    mixtures: Sequence[Mixture],
    merged: Mixture | None,
    deadlines: Deadlines | None,
) -> Tuned:
    """Halve the contenders; the test questions are read once, after all training."""
    halving = Halving(run, deadlines)
    halved, ladder = halving.run(mixtures), halving.ladder
    winner = halved.winner
    last = {m: halved.best if m == winner else halved.stops[m][-1] for m in mixtures}
    steps = [last[mixture].steps for mixture in mixtures]
    earlier = sorted({*steps} - {halved.best.steps})
    scored = [*zip(mixtures, steps, strict=True), *((winner, count) for count in earlier)]
    folders = {stage_name(*stop): ladder.adapter(*stop) for stop in scored}
    with open_judge(run, {}, folders, unlike=2 if merged else 1) as judge:
        base, best = judge.merged(BASE), judge.merged(merged) if merged else None
        trials = [judge.named(stage_name(*stop), stop[0]) for stop in scored]
    return Tuned(
        base,
        best,
        trials[: len(mixtures)],
        [folders[stage_name(*stop)] for stop in scored[: len(mixtures)]],
        steps,
        [ladder.seen(mixture, last[mixture].steps) for mixture in mixtures],
        mixtures.index(winner),
        trials[len(mixtures) :],
        [earlier.index(count) if count in earlier else -1 for count in steps],
        halving.courses(halved),
    )
