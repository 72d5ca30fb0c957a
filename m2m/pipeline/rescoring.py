"""Check whether rounding to the export type would change which mixture is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from m2m.errors import Interrupted
from m2m.formats.journal import Journal
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import scoreboard
from m2m.mix.study import Study
from m2m.mix.trial import Trial
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun


def rounding_warnings(run: TrainedRun, finalists: Sequence[Mixture]) -> list[str]:
    """Score the finalists, best first, at the export type; warn if another one leads there.

    Nothing is scored if mixtures were ranked at that type already.

    Raises:
        Interrupted: the user asked to stop; finished scores are in the journal.
    """
    inputs, progress, quantize = run.inputs, run.progress, run.inputs.recipe.quantize
    if quantize.export == quantize.type or len(finalists) < 2:
        return []
    recipe = replace(inputs.recipe, quantize=replace(quantize, type=quantize.export))
    progress.start(f"finalists as {quantize.export}", len(finalists), "mixtures")
    trials: list[Trial] = []
    with open_scorer(replace(inputs, recipe=recipe), run.experts, inputs.dev) as scorer:
        study = Study(Journal(run.files.study), scorer)
        for mixture in finalists:
            if progress.stop_requested():
                raise Interrupted(f"stopped after {len(trials)} of {len(finalists)} finalists")
            trials.append(study.trial(mixture))
            progress.advance(detail=mixture.label)
    progress.finish()
    board = scoreboard(trials, inputs.objectives, recipe.search.seed)
    ranked = rank(board.mixtures, board.points, board.replicates, board.higher_is_better)
    best = ranked[0]
    if best.mixture == finalists[0]:
        return []
    pick = next(place for place in ranked if place.mixture == finalists[0])
    clear = "no clear difference" if pick.tied_with_best else "a clear difference"
    return [
        f"Rounding changes which mixture is best: {pick.mixture.label} as {quantize.type}, "
        f"{best.mixture.label} as {quantize.export}, the export type ({best.score:z.3f} against "
        f"{pick.score:z.3f}, {clear}). Confirm both, or export a finer type ([quantize] export)."
    ]
