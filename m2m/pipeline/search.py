"""The search stage: score mixtures, rank them, estimate how much each dataset helps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from m2m.adapter import load_adapter
from m2m.dataset.characters import words_of_lost
from m2m.errors import NOISY, Interrupted, WarningText
from m2m.evaluate.metrics import best_possible
from m2m.evaluate.normalised import task_texts
from m2m.evaluate.same import question_keys
from m2m.evaluate.tasks import Task
from m2m.formats.journal import Journal
from m2m.merge.geometry import base_norm, gram_matrix
from m2m.mix.example_order import ExampleOrder
from m2m.mix.make_strategy import make_strategy
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import metric_name, pareto, scoreboard, target_name
from m2m.mix.space import Space, make_space
from m2m.mix.strategy import Strategy
from m2m.mix.study import Study
from m2m.mix.tables import write_tables
from m2m.mix.trial import Trial
from m2m.mix.unmerged import unmerged
from m2m.mix.warnings import (
    Deltas,
    above_chance,
    control_warnings,
    delta_warnings,
    few_questions,
    mixture_warnings,
)
from m2m.mix.worth import worth
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.journals import claimed_warnings
from m2m.pipeline.leaks import find_leaks, shared_warnings
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.recipe.strategies import NONE
from m2m.results.ranking import NOT_SEARCHED, OnFront, Ranking


def search_space(inputs: Inputs) -> Space:
    """Return the mixtures that the recipe allows.

    Raises:
        InputError: no mixture is allowed.
    """
    tokens = {name: sum(map(len, corpus.samples)) for name, corpus in inputs.corpora.items()}
    return make_space(inputs.recipe.search, inputs.recipe.datasets, tokens)


def planned_strategy(inputs: Inputs, examples: int = 1) -> Strategy:
    """Build the strategy; its name and candidates are the same for any number of examples.

    Raises:
        InputError: the strategy has no mixture to choose from, or too many.
    """
    recipe, space = inputs.recipe, search_space(inputs)
    return make_strategy(recipe.search, space, examples, inputs.objectives, recipe.growth)


def readings(inputs: Inputs) -> list[str]:
    """Say which rows `where` picked, how answers were read, and where characters were lost."""
    words = {corpus.name: corpus.reading for corpus in inputs.corpora.values()}
    words |= {name: _reading(task) for name, task in inputs.dev.items()}
    for name, task in inputs.test.items():
        if (reading := _reading(task)) != words.get(name):
            words[f"{name} (test)"] = reading
    return [f"{name}: {reading}" for name, reading in words.items() if reading]


def _reading(task: Task) -> str:
    return "; ".join(filter(None, [task.reading, words_of_lost(task_texts(task), "example")]))


def search(run: TrainedRun) -> Ranking:
    """Score on the dev sets the mixtures that the recipe's strategy asks for.

    Scores are kept in the run's `study.jsonl`. Each batch of mixtures has a bar.

    Raises:
        InputError: the constraints leave no mixture, or too many for the strategy.
        Interrupted: the user asked to stop; scored mixtures are in the journal.
    """
    inputs, recipe = run.inputs, run.inputs.recipe
    if not recipe.searches:
        return _nothing(inputs)
    objectives = inputs.objectives
    space = search_space(inputs)

    def value(trial: Trial) -> float:
        return float(objectives[0].metric.value(trial.scores[objectives[0].target], None)[0])

    with open_scorer(inputs, run.experts, inputs.dev) as scorer:
        study = Study(Journal(run.files.study), scorer, value, scorer.expect)
        order = ExampleOrder.stratified(study.trial(BASE), objectives, recipe.search.seed)
        strategy = planned_strategy(inputs, len(order))
        trials = study.run(strategy, order, run.progress)
    board = scoreboard(trials, objectives, recipe.search.seed, growth=recipe.growth)
    base = board.mixtures.index(BASE)
    chosen = [i for i, mixture in enumerate(board.mixtures) if space.allows(mixture)]
    ranking = rank(
        [board.mixtures[i] for i in chosen],
        board.points[chosen],
        board.replicates[chosen],
        board.higher_is_better,
        [trials[i].examples for i in chosen],
    )
    finalists = [place.mixture for place in ranking[: max(2, recipe.confirm.top)]]
    rounded = rounding_warnings(run, finalists)
    claimed = claimed_warnings(trials, run.files.study, "search")
    complete = [trial for trial in trials if trial.complete]
    front = pareto([trials[i] for i in chosen], objectives) if len(objectives) > 1 else []
    alone = (
        [board]
        if len(objectives) == 1
        else [
            scoreboard(trials, [objective], recipe.search.seed, growth=recipe.growth)
            for objective in objectives
        ]
    )
    above = above_chance(alone, trials, objectives)
    better = [mixtures for mixtures in above.values() if mixtures is not None]
    added = worth(
        board.mixtures,
        board.points,
        board.replicates,
        board.higher_is_better,
        above=frozenset().union(*better) if better else None,
        best=best_possible(objectives[0].metric, trials[base].scores[objectives[0].target])
        if len(objectives) == 1
        else None,
        seed=recipe.search.seed,
    )
    different = sum(scores.different for scores in trials[base].scores.values())
    column = f"{target_name(objectives)} {metric_name(objectives)}"
    write_tables(run.files.path, ranking, space.names, column, board.higher_is_better)
    return Ranking(
        target=target_name(objectives),
        metric=metric_name(objectives),
        higher_is_better=board.higher_is_better,
        strategy=strategy.name,
        candidates=strategy.candidates,
        scored_tokens=sum(trial.scored_tokens for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        base_score=float(board.points[base]),
        places=ranking,
        examples=len(order),
        different=different,
        worth=added.datasets,
        verdicts=added.verdicts,
        smallest_effect=added.smallest,
        pairs_left_out=added.left_out,
        warnings=[
            *control_warnings(ranking, inputs.controls),
            *few_questions(target_name(objectives), len(order), different),
            *warnings(run, complete, above),
            *rounded,
            *claimed,
        ],
        scored=len(trials),
        scored_elsewhere=sum(trial.elsewhere for trial in trials),
        steps=recipe.train.steps,
        notes=[*strategy.notes, *readings(inputs)],
        interactions=added.interactions,
        pareto=[OnFront(trial.mixture, scores) for trial, scores in front]
        if recipe.search.combine == "pareto"
        else [],
        unmerged=unmerged(trials, objectives, recipe.growth, recipe.search.seed, ranking),
    )


def _nothing(inputs: Inputs) -> Ranking:
    """Return the result of a run that searches nothing: all datasets are trained on at once."""
    objectives = inputs.objectives
    questions = [key for task in inputs.dev.values() for key in question_keys(task)]
    return Ranking(
        target=target_name(objectives),
        metric=metric_name(objectives),
        higher_is_better=objectives[0].metric.higher_is_better,
        strategy=NONE,
        candidates=0,
        scored_tokens=0,
        seconds=0.0,
        base_score=math.nan,
        places=[],
        examples=len(questions),
        different=len({*questions}),
        warnings=[
            *(leak.warning for leak in find_leaks(inputs)),
            *few_questions(target_name(objectives), len(questions), len({*questions})),
            *shared_warnings(inputs),
        ],
        notes=[NOT_SEARCHED, *readings(inputs)],
    )


def warnings(
    run: TrainedRun, trials: Sequence[Trial], above: Mapping[str, frozenset[Mixture] | None]
) -> list[str]:
    """Return every reason not to trust the ranking of these trials, each with a remedy."""
    inputs, experts = run.inputs, run.experts
    adapters = [load_adapter(folder) for folder in experts.values()]
    deltas = Deltas(list(experts), gram_matrix(adapters), base_norm(inputs.base, adapters))
    sentences = mixture_warnings(trials, inputs.objectives, inputs.recipe.search.seed, above)
    sentences += delta_warnings(deltas, inputs.recipe.growth)
    sentences += [leak.warning for leak in find_leaks(inputs)]
    return sentences + shared_warnings(inputs)


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
    text = (
        f"Rounding changes which mixture is best: {pick.mixture.label} as {quantize.type}, "
        f"{best.mixture.label} as {quantize.export}, the export type ({best.score:z.3f} against "
        f"{pick.score:z.3f}, {clear}). Confirm both, or export a finer type ([quantize] export)."
    )
    return [WarningText(text, NOISY)]
