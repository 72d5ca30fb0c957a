"""The confirm step: really fine-tune the best mixtures and the baselines, and score them all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.evaluate.metrics import measure_all
from m2m.formats.journal import Journal
from m2m.mix.confirm import Contender, budget_steps, contenders, mixed_rows
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval, ahead
from m2m.mix.standing import metric_name, standing, target_name
from m2m.mix.study import Study, Trial
from m2m.pipeline.inputs import Corpus, Inputs
from m2m.pipeline.results import Confirmation, Confirmed, Measured, Searched
from m2m.pipeline.scoring import aims, open_scorer
from m2m.pipeline.tuning import Tuning
from m2m.progress import Progress
from m2m.recipe import Train
from m2m.store import fingerprint
from m2m.tuner.diet import mixed_held_out, replayed

DEV, TEST = "dev:", "test:"
_LONGEST_NAME = 80


def confirm(
    inputs: Inputs,
    experts: Mapping[str, Path],
    searched: Searched,
    folder: Path,
    progress: Progress,
) -> Confirmation:
    """Fine-tune the contenders and score base, best merge and fine-tunes on dev and test.

    Args:
        inputs: the run's.
        experts: adapter folders by dataset name.
        searched: the ranking.
        folder: of the run; adapters go to its `confirm/`, scores to its `confirm.jsonl`.
        progress: one bar per fine-tune.

    Raises:
        Interrupted: the user asked to stop; what is finished is kept.
    """
    chosen = contenders(searched.ranking, list(experts), inputs.recipe.confirm)
    tuned = _fine_tune(inputs, experts, chosen, folder, progress)
    tasks = {
        **{DEV + name: task for name, task in inputs.dev.items()},
        **{TEST + name: task for name, task in inputs.test.items()},
    }
    merged = searched.ranking[0].mixture
    finetuned = {_key(each): tuned[each] for each in chosen}
    with open_scorer(inputs, experts, tasks, folder, finetuned) as scorer:
        study = Study(Journal(folder / "confirm.jsonl"), scorer, lambda trial: 0.0)
        base, best = study.trial(BASE), study.trial(merged)
        trials = [study.trial(Mixture((_key(each),), (1.0,))) for each in chosen]
    first = inputs.recipe.targets[0].name
    confirmed = [
        Confirmed("base", BASE, "base", *_measured(base, first)),
        Confirmed("top 1", merged, "merged", *_measured(best, first)),
        *(
            Confirmed(each.label, each.mixture, "finetuned", *_measured(trial, first), tuned[each])
            for each, trial in zip(chosen, trials, strict=True)
        ),
    ]
    wanted = aims(inputs)
    winner = 2 + _best_on_dev(trials, inputs)
    return Confirmation(
        target=target_name(wanted),
        metric=metric_name(wanted),
        confirmed=confirmed,
        winner=confirmed[winner],
        ahead=_ahead_on_test([base, best, *trials], winner, inputs),
    )


def _fine_tune(
    inputs: Inputs,
    experts: Mapping[str, Path],
    chosen: Sequence[Contender],
    folder: Path,
    progress: Progress,
) -> dict[Contender, Path]:
    """Adapter folders of the contenders; a single dataset at an expert's budget is that expert."""
    tuning = Tuning(inputs, progress)
    recipe = inputs.recipe
    tuned: dict[Contender, Path] = {}
    for each in chosen:
        steps = budget_steps(recipe.confirm, recipe.train.steps, each.mixture)
        names = each.mixture.datasets
        if len(names) == 1 and steps == recipe.train.steps and not _borrows(recipe.train):
            tuned[each] = experts[names[0]]
            continue
        config = dataclasses.replace(recipe.train, steps=steps)
        corpus = _mixed(inputs, each, np.random.default_rng(config.seed))
        place = folder / "confirm" / _folder_name(each.mixture)
        tuned[each] = tuning.adapter(corpus, config, place).path
    return tuned


def _borrows(train: Train) -> bool:
    """Whether experts are trained on rows of other datasets too: a real fine-tune is not."""
    return train.replay > 0 and train.replay_from is None


def _mixed(inputs: Inputs, contender: Contender, rng: np.random.Generator) -> Corpus:
    """A mixture's rows, and those of the replay file where the recipe has one."""
    names, weights = contender.mixture.datasets, contender.mixture.weights
    corpora, train = [inputs.corpora[name] for name in names], inputs.recipe.train
    parts: dict[str, Any] = {"corpora": [each.fingerprint for each in corpora], "weights": weights}
    rows = {each.name: each.samples for each in corpora}
    samples = mixed_rows(rows, contender.mixture, rng)
    if train.replay and inputs.replay:
        samples = replayed(samples, [inputs.replay.samples], train.replay, rng)
        parts |= {"replay": train.replay, "source": inputs.replay.fingerprint}
    held_out = mixed_held_out([each.held_out for each in corpora], weights, rng)
    return Corpus(contender.label, samples, held_out, fingerprint(**parts))


def _folder_name(mixture: Mixture) -> str:
    """The datasets' names, or where these are too long for a file system, a digest of them."""
    name = "+".join(mixture.datasets)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return f"{len(mixture.datasets)}-datasets-{digest}"


def _key(contender: Contender) -> str:
    """A name that no dataset has."""
    return f"confirm/{contender.mixture.label}"


def _measured(trial: Trial, target: str) -> tuple[Measured, Measured]:
    """All metrics on dev and on test; nothing for a target without a test file."""
    test = trial.scores.get(TEST + target)
    return measure_all(trial.scores[DEV + target]), measure_all(test) if test else {}


def _best_on_dev(trials: Sequence[Trial], inputs: Inputs) -> int:
    """Which fine-tune is best by the recipe's own metrics on dev."""
    wanted = [dataclasses.replace(aim, target=DEV + aim.target) for aim in aims(inputs)]
    found = standing(trials, wanted, inputs.recipe.search.seed)
    return int(np.argmax(found.points if found.higher_is_better else -found.points))


def _ahead_on_test(trials: Sequence[Trial], winner: int, inputs: Inputs) -> list[Interval] | None:
    """How far the winner is ahead of each trial on test, by paired resamples; None without test."""
    wanted = [dataclasses.replace(aim, target=TEST + aim.target) for aim in aims(inputs)]
    if any(aim.target not in trials[winner].scores for aim in wanted):
        return None
    found = standing(trials, wanted, inputs.recipe.search.seed)
    return ahead(found.points, found.replicates, winner, found.higher_is_better)
