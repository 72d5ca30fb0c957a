"""Real fine-tunes of mixtures: the truth that surrogates are compared with.

A mixture is one adapter folder and one line of the run's `confirm.jsonl`, both identified by a
fingerprint of all their inputs. Confirmation and validation share them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import read_extra
from m2m.dataset.samples import lines_of
from m2m.formats.journal import Journal
from m2m.mix.contenders import budget_steps, mixed_rows
from m2m.mix.mixture import Mixture
from m2m.mix.scoreboard import Objective
from m2m.mix.study import Study
from m2m.mix.trial import Trial
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.experts import Job, device_name, made
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import train_all
from m2m.progress import Progress
from m2m.recipe.fields import UNTIL
from m2m.results.confirmation import RowsSeen
from m2m.store import fingerprint
from m2m.tuner.row_mix import mixed_held_out, replayed, times_seen

DEV, TEST = "dev:", "test:"
_LONGEST_NAME = 80


class FineTuner:
    """Fine-tunes mixtures for as many steps as the recipe's regime gives them; keeps them all.

    Args:
        run: adapters go to its `confirm/STEPS/`; each fine-tune has a bar.
    """

    def __init__(self, run: TrainedRun) -> None:
        self._run, self._inputs = run, run.inputs
        self._folder = run.files.finetunes

    def steps(self, mixture: Mixture) -> int:
        """Return the optimiser steps of this mixture's fine-tune."""
        recipe = self._inputs.recipe
        return budget_steps(recipe.confirm, recipe.train.steps, mixture)

    def is_expert(self, mixture: Mixture) -> bool:
        """Return whether its fine-tune is an expert: one dataset, an expert's budget and rows."""
        train = self._inputs.recipe.train
        alone = len(mixture.datasets) == 1 and self.steps(mixture) == train.steps
        here = alone and self._inputs.corpora[mixture.datasets[0]].expert is None
        # With `replay`, experts are trained on rows of other datasets too; real fine-tunes are not.
        return here and not (train.replay > 0 and train.replay_from is None)

    def adapters(self, mixtures: Collection[Mixture]) -> dict[Mixture, Path]:
        """Return the folders of the mixtures' adapters; train those that are missing.

        The base's memory is freed at the end, because scoring comes next and needs it.

        Raises:
            Interrupted: the user asked to stop; the state is saved.
        """
        jobs = self.jobs(mixtures)
        train_all(self._inputs, [*jobs.values()], self._run.progress)
        experts = self._run.experts
        return {
            mixture: jobs[mixture].folder if mixture in jobs else experts[mixture.datasets[0]]
            for mixture in mixtures
        }

    def jobs(self, mixtures: Collection[Mixture]) -> dict[Mixture, Job]:
        """Return the trainings of the mixtures whose fine-tune is not an expert."""
        return {mixture: self._job(mixture) for mixture in mixtures if not self.is_expert(mixture)}

    def finished(self, mixtures: Collection[Mixture]) -> dict[Mixture, Path]:
        """Return the folders of the adapters that exist already; nothing is trained."""
        folders = {}
        for mixture in mixtures:
            if self.is_expert(mixture):
                folders[mixture] = self._run.experts[mixture.datasets[0]]
            elif made(self._inputs.base, job := self._job(mixture)):
                folders[mixture] = job.folder
        return folders

    def seen(self, mixture: Mixture, adapter: Path) -> dict[str, RowsSeen]:
        """Return how many rows of each of its datasets a mixture's fine-tune saw."""
        job, steps = self._job(mixture), read_extra(adapter)["steps"]
        return rows_seen(self._inputs, mixture, times_seen(job.corpus.samples, job.config, steps))

    def _job(self, mixture: Mixture) -> Job:
        recipe, steps = self._inputs.recipe, self.steps(mixture)
        corpus, device = mixed_corpus(self._inputs, mixture), device_name(self._inputs)
        place = self._folder / str(steps) / folder_name(mixture)
        if recipe.confirm.budget == UNTIL:  # the same training as that of a first rung
            config = dataclasses.replace(recipe.train, patience=0)
            return Job(corpus, config, place, steps, last=True, device=device)
        return Job(corpus, dataclasses.replace(recipe.train, steps=steps), place, device=device)


def rows_seen(inputs: Inputs, mixture: Mixture, counts: Mapping[int, int]) -> dict[str, RowsSeen]:
    """Return how many rows of each dataset of a mixture a training saw.

    Args:
        inputs: the run's inputs.
        mixture: the mixture.
        counts: how often the training saw each row, as `times_seen` returns them.
    """
    seen = {}
    for name in mixture.datasets:
        samples = inputs.corpora[name].samples
        times = np.fromiter((counts.get(s.key, 0) for s in samples), np.int64, len(samples))
        lines = lines_of(samples)
        rows, unseen = (len(np.unique(some)) for some in (lines, lines[times == 0]))
        seen[name] = RowsSeen(rows - unseen, rows, int(times.sum()) / len(times))
    return seen


def training_rows(inputs: Inputs, names: Iterable[str]) -> dict[str, int]:
    """Return the number of rows of each dataset that are trained on, if it has any."""
    counts = {name: len(inputs.corpora[name].samples) for name in names}
    return {name: count for name, count in counts.items() if count}


def mixed_corpus(inputs: Inputs, mixture: Mixture) -> Corpus:
    """Return a mixture's rows, with those of the replay file if the recipe has one."""
    corpora, train = [inputs.corpora[name] for name in mixture.datasets], inputs.recipe.train
    rng = np.random.default_rng(train.seed)
    parts: dict[str, Any] = {
        "corpora": [corpus.fingerprint for corpus in corpora],
        "weights": mixture.weights,
    }
    samples = mixed_rows({corpus.name: corpus.samples for corpus in corpora}, mixture, rng)
    if train.replay and inputs.replay:
        samples = replayed(samples, [inputs.replay.samples], train.replay, rng)
        parts |= {"replay": train.replay, "source": inputs.replay.fingerprint}
    held_out = mixed_held_out([corpus.held_out for corpus in corpora], mixture.weights, rng)
    return Corpus(mixture.label, samples, held_out, fingerprint(**parts))


def folder_name(mixture: Mixture) -> str:
    """Return the datasets' names, or a digest if they are too long or their weights differ."""
    name = "+".join(mixture.datasets)
    if mixture == Mixture.uniform(mixture.datasets) and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(repr(mixture).encode("utf-8")).hexdigest()[:8]
    return f"{len(mixture.datasets)}-datasets-{digest}"


class Judge:
    """Scores fine-tunes and merged mixtures on dev and test; see `open_judge`."""

    def __init__(self, study: Study, settings_key: str, progress: Progress) -> None:
        self._study, self._progress = study, progress
        self.settings_key = settings_key

    def merged(self, mixture: Mixture) -> Trial:
        """Score a mixture's surrogate, or the base."""
        trial = self._study.trial(mixture)
        self._progress.advance(detail=mixture.label)
        return trial

    def finetuned(self, mixture: Mixture) -> Trial:
        """Score a mixture's real fine-tune."""
        return self.named(_key(mixture), mixture)

    def named(self, name: str, mixture: Mixture) -> Trial:
        """Score one of several fine-tunes of a mixture, by the name that it was opened with."""
        trial = self._study.trial(Mixture((name,), (1.0,)))
        self._progress.advance(detail=mixture.label)
        return dataclasses.replace(trial, mixture=mixture)


@contextmanager
def open_judge(
    run: TrainedRun,
    tuned: Mapping[Mixture, Path],
    named: Mapping[str, Path] | None = None,
    *,
    dev_only: bool = False,
    unlike: int = 0,
) -> Iterator[Judge]:
    """Open a judge of fine-tunes whose trials are kept in the run's `confirm.jsonl`; one bar.

    Args:
        run: the run, which also gives the experts of merged mixtures.
        tuned: adapter folders of the fine-tunes.
        named: more adapter folders, by names from `stage_name`.
        dev_only: whether the test questions stay unread.
        unlike: number of models that will be scored and are no fine-tunes, for the bar.
    """
    tasks = {DEV + name: task for name, task in run.inputs.dev.items()}
    if not dev_only:
        tasks |= {TEST + name: task for name, task in run.inputs.test.items()}
    finetuned = {_key(mixture): path for mixture, path in tuned.items()} | dict(named or {})
    with open_scorer(
        run.inputs, run.experts, tasks, finetuned=finetuned, scratch=run.own
    ) as scorer:
        study = Study(Journal(run.files.finetune_scores), scorer)
        title = "scoring on dev" if dev_only else "scoring on dev and test"
        if total := len(finetuned) + unlike:
            run.progress.start(title, total, "models")
        yield Judge(study, scorer.settings_key, run.progress)
        run.progress.finish()


def _key(mixture: Mixture) -> str:
    """Return a name that no dataset has."""
    return f"confirm/{folder_name(mixture)}"


def stage_name(mixture: Mixture, steps: int) -> str:
    """Return the name of a mixture's fine-tune of that many steps; no dataset has it."""
    return f"confirm/{steps}/{folder_name(mixture)}"


def objectives_on(split: str, inputs: Inputs) -> list[Objective]:
    """Return the recipe's targets and metrics for the `DEV` or the `TEST` scores of a judge."""
    return [
        dataclasses.replace(objective, target=split + objective.target)
        for objective in inputs.objectives
    ]


def has_test(inputs: Inputs) -> bool:
    """Return whether all targets have test examples."""
    return inputs.test.keys() == inputs.dev.keys()
