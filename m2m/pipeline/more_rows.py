"""Measure how much more rows of each dataset would help: train on halves of its rows.

The steps are those of an expert, whatever the number of rows. With half of the steps, half of the
rows would look worse only because the training was shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from m2m.arrays import F64
from m2m.counted import counted
from m2m.dataset.samples import lines_of
from m2m.errors import InputError
from m2m.evaluate.metrics import best_possible
from m2m.evaluate.score import Score
from m2m.formats.spooled import drawn
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.scoreboard import metric_name, scoreboard, target_name
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.experts import Job, expert_job, made
from m2m.pipeline.finetunes import DEV, objectives_on, open_judge
from m2m.pipeline.inputs import Inputs, expert_corpus
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import train_all
from m2m.progress import Progress
from m2m.recipe.strategies import NONE
from m2m.results.more_rows import MoreRows, RowsGain
from m2m.store import fingerprint

_LEAST = 20  # rows: an adapter of fewer than ten says nothing about the kind of data


def more_rows(run: TrainedRun, names: Sequence[str]) -> MoreRows:
    """Train two adapters on the halves of each dataset, and compare with the one on all rows.

    Args:
        run: the run; the trainings go to its `halves/`, the scores to its `confirm.jsonl`.
        names: of the datasets, from `measurable`.

    Raises:
        Interrupted: the user asked to stop; finished trainings and scores are kept.
    """
    inputs = run.inputs
    jobs = {(name, half): _job(inputs, name, half) for name in names for half in (1, 2)}
    run.progress.note(
        f"{len(jobs)} trainings of {counted(inputs.recipe.train.steps, 'step')}, on both halves of "
        f"{', '.join(names)}: about twice the time of the trainings on all rows"
    )
    train_all(inputs, [*jobs.values()], run.progress)
    folders = {f"halves/{half}/{name}": job.folder for (name, half), job in jobs.items()}
    folders |= {f"halves/all/{name}": run.experts[name] for name in names}
    with open_judge(run, {}, folders, dev_only=True) as judge:
        trials = [judge.named(key, Mixture.uniform([key[7:]])) for key in folders]
    objectives = objectives_on(DEV, inputs)
    board = scoreboard(trials, objectives, inputs.recipe.search.seed)
    count = len(names)
    points, values = board.points, board.sign * board.replicates
    pairs, whole = values[: 2 * count].reshape(count, 2, -1), values[2 * count :]
    parts = points[: 2 * count].reshape(count, 2)
    gains = board.sign * (points[2 * count :] - parts.mean(axis=1))
    rng = np.random.default_rng(inputs.recipe.search.seed)
    ends = interval_ends(parts, whole - pairs.mean(axis=1), rng)
    perfect = math.inf
    if len(objectives) == 1:
        metric = objectives[0].metric
        perfect = best_possible(metric, trials[0].scores[objectives[0].target])
    scores = [
        Score(float(point), float(error))
        for point, error in zip(points, values.std(axis=1, ddof=1), strict=True)
    ]
    return MoreRows(
        target_name(inputs.objectives),
        metric_name(inputs.objectives),
        inputs.recipe.train.steps,
        sum(len(task.examples) for task in inputs.dev.values()),
        [
            RowsGain(
                name,
                len(_lines(inputs.corpora[name])),
                scores[2 * count + i],
                (scores[2 * i], scores[2 * i + 1]),
                Interval(float(gains[i]), float(ends[0, i]), float(ends[1, i])),
                abs(perfect - scores[2 * count + i].value) if math.isfinite(perfect) else None,
            )
            for i, name in enumerate(names)
        ],
    )


def interval_ends(parts: F64, gains: F64, rng: np.random.Generator) -> F64:
    """Return the ends of the gains' 95 % intervals, (2, n).

    Which rows are in a half is chance too, and so is the training. The n differences of halves that
    say how large it is are few, so the intervals are those of Student's t for n.

    Args:
        parts: (n, 2) scores of the halves of n datasets.
        gains: (n, R) gains on resamples of the questions.
        rng: draws the chance.
    """
    own = np.diff(parts, axis=1) ** 2 / 2
    chance = np.sqrt(np.maximum(own, own.mean())) * rng.standard_t(len(parts), gains.shape)
    ends: F64 = np.quantile(gains + chance, (0.025, 0.975), axis=1)
    return ends


def measurable(inputs: Inputs, wanted: Sequence[str], progress: Progress) -> list[str]:
    """Return the datasets to halve: those named and those halved before, or all but controls.

    Raises:
        InputError: there is none, or a name is unknown, or a named dataset has too few rows.
    """
    if not inputs.recipe.searches:
        raise InputError(
            f'{inputs.recipe.path}: strategy = "{NONE}" trains no dataset by itself',
            "take another strategy in [search]; if --hours cut it, name a new folder with --out",
        )
    if inputs.recipe.train.patience:
        raise InputError(
            f"{inputs.recipe.path}: with [train] patience, trainings on half of the rows end at "
            "other steps than those on all rows, so their scores cannot be compared",
            "add `--set train.patience=0 --out DIR`: a new folder gets trainings of equal steps",
        )
    rows = {name: len(_lines(inputs.corpora[name])) for name in inputs.untrained_names}
    large = [name for name, count in rows.items() if count >= _LEAST]
    real = [name for name in large if name not in inputs.controls]
    if wrong := [name for name in wanted if name not in large]:
        raise InputError(
            f"{inputs.recipe.path}: {'; '.join(_why_not(inputs, name, rows) for name in wrong)}",
            f"take some of: {', '.join(real) or 'none'}",
        )
    chosen = [
        name
        for name in large
        if name in wanted
        or (not wanted and name in real)
        or all(made(inputs.base, _job(inputs, name, half)) for half in (1, 2))
    ]
    if not chosen:
        raise InputError(
            f"{inputs.recipe.path}: no dataset with at least {_LEAST} rows is trained on here",
            "halves of fewer rows say nothing; add rows first",
        )
    for name in () if wanted else inputs.expert_names:
        if name not in (*large, *inputs.controls):
            progress.note(f"not measured: {_why_not(inputs, name, rows)}")
    return chosen


def _why_not(inputs: Inputs, name: str, rows: Mapping[str, int]) -> str:
    """Say why a dataset cannot be halved."""
    if name in rows:
        return f"{name} has {counted(rows[name], 'row')} to train on, and halves need {_LEAST}"
    if name in inputs.expert_names:
        return f"{name} has an adapter from elsewhere, and nothing is trained on its rows"
    if name in (entry.name for entry in inputs.recipe.datasets):
        return f"this run leaves {name} out ([search] excluded, licences, or --hours)"
    return f"there is no dataset {name!r}"


def _job(inputs: Inputs, name: str, half: int) -> Job:
    """Return the training of an expert on one half of its rows; all else is the same."""
    corpus, job = inputs.corpora[name], expert_job(inputs, name)
    chosen = halves(corpus, inputs.recipe.train.seed)[half - 1]
    among = np.isin(lines_of(corpus.samples), [*chosen])
    part = replace(
        corpus,
        samples=drawn(corpus.samples, np.flatnonzero(among)),
        fingerprint=fingerprint(rows=corpus.fingerprint, half=half),
    )
    # Before it has another name: no half replays rows of the other one.
    own = replace(expert_corpus(inputs, part), name=f"{name}, half {half}")
    folder = inputs.files.halves / str(half) / name
    return replace(job, corpus=own, folder=folder, state=None)


def halves(corpus: Corpus, seed: int) -> tuple[set[int], set[int]]:
    """Return the lines of two halves of a dataset's rows, drawn by `seed`."""
    lines = np.random.default_rng(seed).permutation(_lines(corpus)).tolist()
    return {*lines[::2]}, {*lines[1::2]}


def _lines(corpus: Corpus) -> list[int]:
    """Return the lines of the rows that are trained on; a row can be several samples."""
    lines: list[int] = np.unique(lines_of(corpus.samples)).tolist()
    return lines
