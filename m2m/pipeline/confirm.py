"""The confirm stage: really fine-tune the best mixtures and the baselines, and score them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from m2m.evaluate.metrics import measure_all
from m2m.evaluate.score import Measured
from m2m.mix.contenders import UNION, Contender, budget_steps, contenders
from m2m.mix.evidence import weigh
from m2m.mix.facets import by_facet
from m2m.mix.mixture import BASE
from m2m.mix.ranking import Interval, ahead
from m2m.mix.scoreboard import metric_name, scoreboard, target_name
from m2m.mix.trial import Trial
from m2m.mix.verdict import Verdict, judge
from m2m.mix.warnings import cut_answers
from m2m.pipeline.finetunes import (
    DEV,
    TEST,
    FineTuner,
    has_test,
    objectives_on,
    open_judge,
    training_rows,
)
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.journals import claimed_warnings
from m2m.pipeline.leaks import REPLAY, find_leaks, shared
from m2m.pipeline.trained_run import TrainedRun
from m2m.results.confirmation import Confirmation, Model
from m2m.results.ranking import Ranking


def confirm(run: TrainedRun, ranking: Ranking) -> Confirmation:
    """Fine-tune the contenders and score base, best merge and fine-tunes on dev and test.

    Adapters go to the run's `confirm/`, scores to its `confirm.jsonl`. Each fine-tune has a bar.

    Raises:
        Interrupted: the user asked to stop; finished fine-tunes and scores are kept.
    """
    inputs = run.inputs
    rows = training_rows(inputs, run.experts)
    chosen = contenders(ranking.places, rows, inputs.recipe.confirm)
    tuner = FineTuner(run)
    tuned = tuner.adapters([contender.mixture for contender in chosen])
    merged = ranking.places[0].mixture
    with open_judge(run, tuned) as judge:
        base, best = judge.merged(BASE), judge.merged(merged)
        trials = [judge.finetuned(contender.mixture) for contender in chosen]
    first = inputs.recipe.targets[0].name
    confirmed = [
        Model("base", BASE, "base", *_measured(base, first)),
        Model("top 1", merged, "merged", *_measured(best, first)),
        *(
            Model(
                contender.label,
                contender.mixture,
                "finetuned",
                *_measured(trial, first),
                tuned[contender.mixture],
                tuner.seen(contender.mixture, tuned[contender.mixture]),
                tuner.steps(contender.mixture),
            )
            for contender, trial in zip(chosen, trials, strict=True)
        ),
    ]
    objectives = inputs.objectives
    best_on_dev = _best_on_dev(trials, inputs)
    winner = 2 + best_on_dev
    for part in (DEV, TEST):
        for warning in cut_answers(trials[best_on_dev], objectives_on(part, inputs)):
            run.progress.warn(warning)
    every = [base, best, *trials]
    claimed = claimed_warnings(every, run.files.finetune_scores, "confirm")
    asked = {
        name: (count, len(inputs.test[name].examples)) for name, count in shared(inputs).items()
    }
    return Confirmation(
        target=target_name(objectives),
        metric=metric_name(objectives),
        models=confirmed,
        winning=winner,
        ahead=_ahead_on_test(every, winner, inputs),
        verdict=_verdict([base, *trials], chosen, best_on_dev, inputs, asked),
        shared=asked if has_test(inputs) else {},
        breakdowns=by_facet(
            [trial.scores for trial in every], objectives, {"dev": DEV, "test": TEST}
        ),
        budget=inputs.recipe.confirm.budget,
        scored_elsewhere=sum(trial.elsewhere for trial in every),
        warnings=claimed,
    )


def _measured(trial: Trial, target: str) -> tuple[Measured, Measured]:
    """Return all metrics on dev and on test; empty for a target without a test file."""
    test = trial.scores.get(TEST + target)
    return measure_all(trial.scores[DEV + target]), measure_all(test) if test else {}


def _best_on_dev(trials: Sequence[Trial], inputs: Inputs) -> int:
    """Return the index of the fine-tune that is best on dev by the recipe's own metrics."""
    return scoreboard(trials, objectives_on(DEV, inputs), inputs.recipe.search.seed).best


def _verdict(
    trials: Sequence[Trial],
    chosen: Sequence[Contender],
    best: int,
    inputs: Inputs,
    shared: Mapping[str, tuple[int, int]],
) -> Verdict:
    """Judge the best fine-tune on the test questions; on dev if a target has no test file."""
    tested, count = has_test(inputs), len(inputs.corpora)
    names = [
        UNION if UNION in contender.label and count > 1 else contender.mixture.short(count)
        for contender in chosen
    ]
    names = [
        name if names.count(name) == 1 else f"{name} ({contender.label})"
        for name, contender in zip(names, chosen, strict=True)
    ]
    recipe = inputs.recipe
    steps = [budget_steps(recipe.confirm, recipe.train.steps, each.mixture) for each in chosen]
    if len({*steps}) > 1:  # a longer training is a reason of its own
        names = [f"{name} ({length:,} steps)" for name, length in zip(names, steps, strict=True)]
    evidence = weigh(
        trials,
        ["the base model", *names],
        1 + best,
        objectives_on(TEST if tested else DEV, inputs),
        inputs.recipe.search.seed,
    )
    rows = {leak.dataset: leak.rows for leak in find_leaks(inputs)}
    used = (*chosen[best].mixture.datasets, REPLAY)
    bad = [
        n
        for n, contender in zip(names, chosen, strict=True)
        if rows.keys() & contender.mixture.datasets
    ]
    return judge(
        dataclasses.replace(
            evidence,
            others=[rival for rival in evidence.others if rival.name not in bad],
            leaks={name: count for name, count in rows.items() if name in used},
            leaked=bad,
            untested=[target for target in inputs.dev if target not in inputs.test],
            shared=shared if tested else {},
        )
    )


def _ahead_on_test(trials: Sequence[Trial], winner: int, inputs: Inputs) -> list[Interval] | None:
    """Return how far the winner is ahead of each model on test; None without test questions."""
    if not has_test(inputs):
        return None
    # Several targets are standardised over the models that the verdict compares, without the merge.
    compared, seed = [trials[0], *trials[2:]], inputs.recipe.search.seed
    board = scoreboard(trials, objectives_on(TEST, inputs), seed, reference=compared)
    return ahead(board.points, board.replicates, winner, board.higher_is_better)
