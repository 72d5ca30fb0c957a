"""The validate stage: compare surrogates with the real fine-tunes of a planned sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.score import Score
from m2m.formats.atomic import write_text
from m2m.formats.journal import Journal
from m2m.mix.agreement import ScoredPair, regret
from m2m.mix.mixture import Mixture
from m2m.mix.rival_predictors import (
    ALL,
    HIDDEN,
    MERGE,
    RIVALS,
    TOKENS,
    UNION,
    KnownScores,
    nested,
    picks_of,
)
from m2m.mix.scoreboard import metric_name, scoreboard, target_name
from m2m.mix.study import Study
from m2m.mix.trial import Trial
from m2m.mix.validation_plan import SURROGATE, by_group, plan
from m2m.pipeline.equal_cost import open_pool, scored_on
from m2m.pipeline.experts import Job
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
from m2m.pipeline.rivals import FineTunes, compare, known_scores
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.recipe.strategies import NONE
from m2m.results.folder import parsed
from m2m.results.ranking import Ranking
from m2m.results.table import as_csv
from m2m.results.validation import Validated, Validation, mixture_table

_LIKE = (TOKENS, HIDDEN)  # always higher for a better mixture, whatever the metric


def validate(run: TrainedRun, ranking: Ranking) -> Validation:
    """Fine-tune the planned mixtures, score them, and compare the scores with the predictions.

    `[confirm] budget` names the regime. The run's `validate.jsonl` keeps the plan, and
    `validate-BUDGET.csv` the data of the scatter plot; adapters and scores go to the files of the
    confirm stage. Each fine-tune has a bar.

    Raises:
        Interrupted: the user asked to stop; finished fine-tunes and scores are kept.
    """
    inputs, files = run.inputs, run.files
    known, tuner = known_scores(run), FineTuner(run)
    picks, chosen = _planned(run, ranking, known, tuner)
    tuned = tuner.adapters(chosen)
    with open_judge(run, tuned) as judge:
        trials = [judge.finetuned(mixture) for mixture in chosen]
    predicted = _predictions(known, _surrogates(run, chosen))
    pool = open_pool(run, trials, picks, nested(known))
    validation = _compare(inputs, ranking, predicted, trials, tuner, picks)
    split = TEST if validation.judged_on == "test" else DEV
    finetunes = FineTunes(
        chosen,
        [tuner.steps(mixture) for mixture in chosen],
        validation.judged_on,
        scored_on(split, trials, inputs),
    )
    recipe = inputs.recipe
    budget = len(run.experts) * recipe.train.steps + recipe.confirm.top * pool.steps
    rivals = compare(known, predicted, finetunes, picks, pool, budget)
    validation = replace(validation, rivals=rivals)
    write_text(files.validation(validation.budget, ".csv"), as_csv(mixture_table(validation)))
    return validation


def planned_jobs(run: TrainedRun, ranking: Ranking) -> list[Job]:
    """Return the trainings of the planned fine-tunes, in the order of the plan."""
    tuner = FineTuner(run)
    return [*tuner.jobs(_planned(run, ranking, known_scores(run), tuner)[1]).values()]


def _planned(
    run: TrainedRun, ranking: Ranking, known: KnownScores, tuner: FineTuner
) -> tuple[dict[str, Mixture], list[Mixture]]:
    """Return the picks of the merge and of its rivals, and all mixtures of the plan."""
    picks = _picks(ranking, known)
    journal = Journal(run.files.validation_plan)
    return picks, _chosen(run.inputs, ranking, picks, tuner, journal)


def refuse_without_rows(inputs: Inputs) -> None:
    """Raise InputError, before anything is trained, if a dataset has an adapter and no rows.

    A recipe that searches nothing is refused too.
    """
    if not inputs.recipe.searches:
        raise InputError(
            f'{inputs.recipe.path}: strategy = "{NONE}" has no ranking to validate',
            "delete the strategy in [search], or take another one",
        )
    names = inputs.expert_names
    if bare := [name for name in names if name not in training_rows(inputs, names)]:
        raise InputError(
            f"{inputs.recipe.path}: {', '.join(bare)}: an adapter without rows cannot be "
            "fine-tuned for real, and `m2m validate` does that with every dataset",
            "give `path` for it, or leave it out: [search] excluded",
        )


def _picks(ranking: Ranking, known: KnownScores) -> dict[str, Mixture]:
    """Return the mixture that the merge, and each rival that fine-tunes nothing, takes."""
    ranked = [place.mixture for place in ranking.places]
    by_rival = {MERGE: ranked[0], **picks_of(known, ranked)}
    if by_rival.get(UNION) == by_rival[ALL]:
        del by_rival[UNION]
    return by_rival


def _chosen(
    inputs: Inputs,
    ranking: Ranking,
    picks: Mapping[str, Mixture],
    tuner: FineTuner,
    journal: Journal,
) -> list[Mixture]:
    """Return the plan, with an earlier plan's mixtures first, and the single datasets for free."""
    recipe, ranked = inputs.recipe, [place.mixture for place in ranking.places]
    lines = journal.replay()
    known = parsed(
        journal.path,
        lambda: [Mixture.from_json(mixture) for mixture in (lines[-1]["plan"] if lines else [])],
    )
    earlier = [mixture for mixture in known if {*mixture.datasets} <= {*inputs.expert_names}]
    best = [mixture for mixture in ranked if len(mixture.datasets) > 1][:1]
    rng = np.random.default_rng(recipe.validate.seed)
    first = [*best, *picks.values(), *earlier]
    planned = plan(ranked, first, recipe.validate.mixtures, rng)
    entry = {"plan": [mixture.as_json() for mixture in planned]}
    if not lines or (lines[-1] != entry and len(planned) >= len(earlier)):
        journal.append(entry)
    singles = [mixture for mixture in ranked if tuner.is_expert(mixture)]
    return list(dict.fromkeys([*planned, *singles, *picks.values()]))


def _surrogates(run: TrainedRun, chosen: Sequence[Mixture]) -> list[Trial]:
    """Score the surrogates of the chosen mixtures on dev, as the search does."""
    with open_scorer(run.inputs, run.experts, run.inputs.dev) as scorer:
        study = Study(Journal(run.files.study), scorer)
        return [study.trial(mixture) for mixture in chosen]


def _compare(
    inputs: Inputs,
    ranking: Ranking,
    predicted: Mapping[str, ScoredPair],
    trials: Sequence[Trial],
    tuner: FineTuner,
    picks: Mapping[str, Mixture],
) -> Validation:
    """Compute correlations, regrets and the table of all validated mixtures."""
    chosen, seed = [trial.mixture for trial in trials], inputs.recipe.search.seed
    splits = {"dev": DEV} | ({"test": TEST} if has_test(inputs) else {})
    boards = {s: scoreboard(trials, objectives_on(on, inputs), seed) for s, on in splits.items()}
    real = {split: ScoredPair.of(board) for split, board in boards.items()}
    judged_on, higher = [*splits][-1], boards["dev"].higher_is_better
    place = {mixture: index for index, mixture in enumerate(chosen)}
    choices = {choice: [place[pick]] for choice, pick in picks.items()}
    choices["random"] = [i for i, mixture in enumerate(chosen) if len(mixture.datasets) > 1]
    ranks = {place.mixture: place.rank for place in ranking.places}
    objectives, tasks = inputs.objectives, {"dev": inputs.dev, "test": inputs.test}
    return Validation(
        target=target_name(objectives),
        metric=metric_name(objectives),
        higher_is_better=higher,
        budget=inputs.recipe.confirm.budget,
        judged_on=judged_on,
        examples={s: sum(len(task.examples) for task in tasks[s].values()) for s in splits},
        mixtures=[
            Validated(
                mixture,
                ranks.get(mixture),
                tuner.steps(mixture),
                {
                    name: float(scores.points[i]) * (1 if higher or name in _LIKE else -1)
                    for name, scores in predicted.items()
                },
                predicted[SURROGATE].stderr(i),
                {s: Score(float(boards[s].points[i]), real[s].stderr(i)) for s in splits},
            )
            for i, mixture in enumerate(chosen)
        ],
        agreements={
            name: {split: by_group(scores, truth, chosen, seed) for split, truth in real.items()}
            for name, scores in predicted.items()
        },
        repeatability=by_group(real["dev"], real["test"], chosen, seed) if "test" in real else None,
        picks=picks,
        regret={choice: regret(real[judged_on], places) for choice, places in choices.items()},
    )


def _predictions(known: KnownScores, surrogates: Sequence[Trial]) -> dict[str, ScoredPair]:
    """Return the scores that each predictor gives to the mixtures that were fine-tuned."""
    chosen = [trial.mixture for trial in surrogates]
    predicted = {SURROGATE: known.scored(surrogates)}
    for name, rival in RIVALS.items():
        scores = rival.predict and rival.predict(known, chosen, REPLICATES)
        if scores:
            predicted[name] = scores
    return predicted
