"""The confirm stage: really fine-tune the best mixtures and the baselines, and score them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.overlap import answer_match
from m2m.evaluate.score import Measured
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import Task, contrasted
from m2m.mix.contenders import UNION, Contender, contenders
from m2m.mix.evidence import right_answers, weigh, with_steps
from m2m.mix.facets import by_facet
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval, ahead
from m2m.mix.scoreboard import Objective, metric_name, scoreboard, target_name
from m2m.mix.trial import Trial
from m2m.mix.verdict import Verdict, judge
from m2m.mix.warnings import cut_answers
from m2m.pipeline.finetunes import DEV, TEST, has_test, objectives_on, training_rows
from m2m.pipeline.halving import Deadlines
from m2m.pipeline.inputs import REPLAY, Inputs
from m2m.pipeline.journals import claimed_warnings
from m2m.pipeline.leaks import find_leaks, shared
from m2m.pipeline.search import search_space
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.tuned import Tuned, tune
from m2m.results.answers import Answered, Answers
from m2m.results.confirmation import Confirmation, How, Model
from m2m.results.ranking import Ranking

_SHOWN = 5  # questions with the answers of base and winner
_LONGEST = 600  # characters of a question or an answer


def confirm(run: TrainedRun, ranking: Ranking, deadlines: Deadlines | None = None) -> Confirmation:
    """Fine-tune the contenders and score base, best merge and fine-tunes on dev and test.

    Adapters go to the run's `confirm/`, scores to its `confirm.jsonl`. Each fine-tune has a bar.

    Args:
        run: the run, with trained experts.
        ranking: the search's result.
        deadlines: of rungs and last training, with budget "until"; None: no limit.

    Raises:
        InputError: no dataset has rows.
        Interrupted: the user asked to stop; finished fine-tunes and scores are kept.
    """
    inputs, chosen = run.inputs, contenders_of(run.inputs, ranking)
    tuned = tune(run, chosen, ranking.best, deadlines)
    for part in (DEV, TEST):
        for warning in cut_answers(tuned.trials[tuned.best], objectives_on(part, inputs)):
            run.progress.warn(warning)
    objectives, every = inputs.objectives, [*_unlike(tuned), *tuned.trials]
    asked = {
        name: (count, len(inputs.test[name].examples)) for name, count in shared(inputs).items()
    }
    return Confirmation(
        target=target_name(objectives),
        metric=metric_name(objectives),
        models=_models(tuned, chosen, inputs),
        winning=len(_unlike(tuned)) + tuned.best,
        ahead=_ahead_on_test(tuned, inputs),
        verdict=_verdict(tuned, chosen, inputs, asked),
        shared=asked if has_test(inputs) else {},
        breakdowns=by_facet(
            [trial.scores for trial in every], objectives, {"dev": DEV, "test": TEST}
        ),
        budget=inputs.recipe.confirm.budget,
        scored_elsewhere=sum(trial.elsewhere for trial in every),
        warnings=claimed_warnings(every, run.files.finetune_scores, "confirm"),
        courses=tuned.courses,
        answers=shown_answers(
            inputs, TEST if has_test(inputs) else DEV, tuned.base, tuned.trials[tuned.best]
        ),
    )


def contenders_of(inputs: Inputs, ranking: Ranking) -> list[Contender]:
    """Return the mixtures that are really fine-tuned.

    Raises:
        InputError: no dataset has rows.
    """
    rows, allows = training_rows(inputs, inputs.usable_names), search_space(inputs).allows
    trainable = [p for p in ranking.places if rows.keys() >= {*p.mixture.datasets}]
    if not trainable and (ranking.places or not rows):
        raise InputError(
            f"{inputs.recipe.path}: no mixture of datasets that all have rows was scored, so there "
            "is nothing to fine-tune for real",
            "give `path` for datasets that have only an adapter, or use `m2m merge` on the best "
            "mixture of `m2m search`",
        )
    return contenders(trainable, rows, inputs.recipe.confirm, allows, inputs.controls)


def _unlike(tuned: Tuned) -> list[Trial]:
    """Return the models that are no fine-tunes: the base, and the best merge if there is one."""
    return [tuned.base, *([tuned.merged] if tuned.merged else [])]


def _models(tuned: Tuned, chosen: Sequence[Contender], inputs: Inputs) -> list[Model]:
    """Return base, best merge and fine-tunes with their scores on the first target."""
    first = inputs.objectives[0]

    def model(label: str, mixture: Mixture, how: How, trial: Trial, **about: Any) -> Model:
        scores = _measured(trial, first)
        return Model(label, mixture, how, *scores, right=_counts(trial, first), **about)

    models, merged = [model("base", BASE, "base", tuned.base)], tuned.merged
    if merged:
        steps = inputs.recipe.train.steps
        models.append(model("top 1", merged.mixture, "merged", merged, steps=steps))
    for i, contender in enumerate(chosen):
        about = {"adapter": tuned.adapters[i], "seen": tuned.seen[i], "steps": tuned.steps[i]}
        models.append(
            model(contender.label, contender.mixture, "finetuned", tuned.trials[i], **about)
        )
    return models


def _measured(trial: Trial, first: Objective) -> tuple[Measured, Measured]:
    """Return all metrics on dev and on test; empty for a target without a test file."""
    dev, test = trial.scores[DEV + first.target], trial.scores.get(TEST + first.target)
    also = first.metric.name
    return measure_all(dev, also=also), measure_all(test, also=also) if test else {}


def _counts(trial: Trial, first: Objective) -> dict[str, tuple[int, int]]:
    """Return (right answers, questions) of dev and test, if answers can be right or wrong."""
    found = {
        part.removesuffix(":"): trial.scores[part + first.target]
        for part in (DEV, TEST)
        if part + first.target in trial.scores
    }
    counts = {part: right_answers(scores, first.metric.name) for part, scores in found.items()}
    return {part: (round(n), len(found[part])) for part, n in counts.items() if n is not None}


def _verdict(
    tuned: Tuned,
    chosen: Sequence[Contender],
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
    evidence = weigh(
        [tuned.base, *tuned.trials, *tuned.earlier],
        ["the base model", *names],
        1 + tuned.best,
        objectives_on(TEST if tested else DEV, inputs),
        inputs.recipe.search.seed,
        [1 + tuned.best, *_equal(tuned, 1)] if tuned.equal else (),
    )
    if len({*tuned.steps}) > 1 or tuned.equal:
        evidence = with_steps(evidence, dict(zip(names, tuned.steps, strict=True)))
    rows = {leak.dataset: leak.rows for leak in find_leaks(inputs)}
    used = (*chosen[tuned.best].mixture.datasets, REPLAY)
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


def _equal(tuned: Tuned, before: int) -> list[int]:
    """Return for each contender the place of the winner after equal steps.

    Args:
        tuned: the contenders, which are followed by the winner's earlier trials.
        before: number of trials before the contenders.
    """
    after = before + len(tuned.trials)
    return [before + tuned.best if place < 0 else after + place for place in tuned.equal]


def _ahead_on_test(tuned: Tuned, inputs: Inputs) -> list[Interval] | None:
    """Return how far the winner is ahead of each model on test; None without test questions.

    If contenders have stopped after fewer steps, the winner counts as it was after as many.
    """
    if not has_test(inputs):
        return None
    # Several targets are standardised over the models that the verdict compares, without the merge.
    compared = [tuned.base, *tuned.trials, *tuned.earlier]
    before = _unlike(tuned)
    board = scoreboard(
        [*before, *compared[1:]],
        objectives_on(TEST, inputs),
        inputs.recipe.search.seed,
        reference=compared,
    )
    winner = len(before) + tuned.best
    against = [
        *[winner] * len(before),
        *(_equal(tuned, len(before)) or [winner] * len(tuned.trials)),
    ]
    return [
        ahead(board.points, board.replicates, place, board.higher_is_better)[i]
        for i, place in enumerate(against)
    ]


def shown_answers(inputs: Inputs, split: str, base: Trial, winner: Trial) -> Answers | None:
    """Return some questions of the first target, drawn by the search's seed; None for a text.

    Args:
        inputs: the run's.
        split: `DEV` or `TEST`.
        base, winner: complete scores of both models.
    """
    seed = inputs.recipe.search.seed
    objective = objectives_on(split, inputs)[0]
    name = inputs.objectives[0].target
    task = contrasted((inputs.test if split == TEST else inputs.dev)[name], seed)
    if task.kind == "text":
        return None
    models = [trial.scores[objective.target] for trial in (base, winner)]
    drawn = np.random.default_rng(seed).permutation(len(task.examples))[:_SHOWN]
    rows = []
    for place in sorted(map(int, drawn)):
        (first, first_right), (second, second_right) = (answer_of(task, s, place) for s in models)
        question, right = _question(task, place), _right(task, models[0], place)
        rows.append(
            Answered(_end(question), _start(right), first, second, first_right, second_right)
        )
    return Answers(name, split.rstrip(":"), len(task.examples), bool(models[0].predictions), rows)


def _question(task: Task, place: int) -> str:
    example = task.examples[place]
    return example.prompt or next(iter(example.contexts), "")


def _right(task: Task, scores: Scores, place: int) -> str:
    if scores.predictions:
        return " | ".join(scores.references[place])
    return task.examples[place].choices[int(scores.gold[place])]


def answer_of(task: Task, scores: Scores, place: int) -> tuple[str, bool]:
    """Return an answer, and whether `accuracy` or `answer_match` counts it as right.

    A written answer to a task file with `exact_match` is right if that says so.
    """
    if scores.predictions:
        text = scores.predictions[place]
        exact = scores.exact[place] if scores.exact else None
        right = answer_match(text, scores.references[place]) > 0 if exact is None else exact
        return _start(text), bool(right)
    count = int(scores.choices[place])
    chosen = int(np.argmax(scores.loglik[place, :count]))
    return _start(task.examples[place].choices[chosen]), chosen == int(scores.gold[place])


def _start(text: str) -> str:
    """Return a text, or the beginning of a long one."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _end(text: str) -> str:
    """Return a text, or the end of a long one: the question is asked there."""
    return text if len(text) <= _LONGEST else f"... {text[-_LONGEST:]}"
