#!/usr/bin/env python3
"""Compare ways of making and scoring surrogates on the mixtures that `m2m validate` fine-tuned.

The fine-tunes stay as they are; every variant only scores the same mixtures' surrogates anew, and
keeps the scores in the run's `variants.jsonl`. Prints a table in Markdown and writes it to the
run's `variants-BUDGET.md`.

    validate_variants.py examples/swahili/recipe.toml --mixtures 24 [--only NAME]...

With `--experts FOLDER` surrogates are merges of other adapters, one folder for each dataset, such
as of a recipe with a shorter training; that table is printed only. With `--real FILE.csv`, an
earlier validation's `validate-BUDGET.csv`, nothing is fine-tuned but the experts; the real scores
then have no error of their own, and intervals are those of which mixtures were drawn.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import load_adapter
from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.metrics import METRICS
from m2m.formats.atomic import write_text
from m2m.formats.journal import Journal
from m2m.merge.geometry import gram_matrix
from m2m.mix.agreement import Agreement, ScoredPair, agreement, regret
from m2m.mix.mixture import Mixture, weight_matrix
from m2m.mix.scoreboard import scoreboard
from m2m.mix.study import Study
from m2m.mix.trial import Trial
from m2m.pipeline.finetunes import TEST, FineTuner, objectives_on, open_judge
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import changed, load_recipe
from m2m.store import run_lock

Weighting = Callable[[Mixture, np.ndarray], float]  # mixture, (k, k) inner products -> factor


def _as_long(mixture: Mixture, gram: np.ndarray) -> float:
    """What makes the merged delta as long as the experts' are on average."""
    weights = np.array(mixture.weights)
    return float(weights @ np.sqrt(gram.diagonal()) / np.sqrt(weights @ gram @ weights))


@dataclass(frozen=True)
class Variant:
    """One way: settings that are not the recipe's, a factor by mixture, metric, dev examples."""

    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factor: Weighting | None = None
    metric: str | None = None
    examples: int = 0


def _merge(**options: Any) -> Variant:
    return Variant({"merge": options})


VARIANTS = {
    "as the recipe says": Variant(),
    "scale 1.5 (times the mean)": _merge(scale=1.5),
    "scale 2": _merge(scale=2.0),
    "scale 0.5": _merge(scale=0.5),
    "mean": _merge(growth=0.0),
    "k^0.25 times the mean": _merge(growth=0.25),
    "sum / sqrt(k)": _merge(growth=0.5),
    "k^0.75 times the mean": _merge(growth=0.75),
    "sum": _merge(growth=1.0),
    "as long as the experts": Variant({"merge": {"growth": 0.0}}, factor=_as_long),
    "accuracy": Variant(metric="accuracy"),
    "accuracy_norm": Variant(metric="accuracy_norm"),
    "bits_per_byte": Variant(metric="bits_per_byte"),
    "half of the dev examples": Variant(examples=65),
    "32 dev examples": Variant(examples=32),
    "f16": Variant({"quantize": {"type": "f16"}}),
    "q4_0": Variant({"quantize": {"type": "q4_0"}}),
    "q4_k_m": Variant({"quantize": {"type": "q4_k_m"}}),
    "ties": _merge(method="ties"),
    "dare_linear": _merge(method="dare_linear"),
    "breadcrumbs": _merge(method="breadcrumbs"),
    "della": _merge(method="della"),
}


class Bench:
    """The real fine-tunes of a recipe, and the surrogates that variants make of their mixtures.

    experts: where the surrogates' adapters lie, if not in the run.
    real: an earlier validation's CSV, instead of fine-tunes.
    """

    def __init__(
        self,
        path: Path,
        mixtures: int,
        budget: str | None,
        experts: Path | None = None,
        real: Path | None = None,
    ) -> None:
        recipe = changed(
            load_recipe(path), {"validate": {"mixtures": mixtures}, "confirm": {"budget": budget}}
        )
        run = Run(recipe, Silent())
        self.inputs, self.folder = read_inputs(recipe), run.folder
        if experts is not None:
            self.experts = {dataset.name: experts / dataset.name for dataset in recipe.datasets}
        else:
            self.experts = {expert.dataset: expert.path for expert in run.train()}
        self.mixtures, self.real = self._finetuned(run) if real is None else _read(real)
        adapters = [load_adapter(folder) for folder in self.experts.values()]
        self.gram = gram_matrix(adapters)

    def _finetuned(self, run: Run) -> tuple[list[Mixture], ScoredPair]:
        """What `m2m validate` fine-tunes, scored on test."""
        mixtures = [validated.mixture for validated in run.validate().mixtures]
        experts = {adapter.dataset: adapter.path for adapter in run.train()}
        trained = TrainedRun(self.inputs, experts, Silent())
        tuned = FineTuner(trained).adapters(mixtures)
        with open_judge(trained, tuned) as judge:
            trials = [judge.finetuned(mixture) for mixture in mixtures]
        return mixtures, ScoredPair.of(scoreboard(trials, objectives_on(TEST, self.inputs), 0))

    def score(self, variant: Variant) -> tuple[Agreement | None, Agreement | None, float]:
        """Agreement over mixtures of two or more and over all, and the regret of the pick."""
        inputs = replace(self.inputs, recipe=changed(self.inputs.recipe, variant.changes))
        trials = [
            replace(trial, mixture=mixture)
            for mixture, trial in zip(self.mixtures, self._trials(inputs, variant), strict=True)
        ]
        aims = inputs.objectives
        if variant.metric:
            aims = [replace(objective, metric=METRICS[variant.metric]) for objective in aims]
        if variant.examples:
            trials = [_cut(trial, variant.examples) for trial in trials]
        scored = ScoredPair.of(scoreboard(trials, aims, 0))
        mixed = np.flatnonzero([len(mixture.datasets) > 1 for mixture in self.mixtures])
        rng = np.random.default_rng(0)
        lost = regret(self.real, int(np.argmax(scored.points))).estimate
        return (
            agreement(scored[mixed], self.real[mixed], rng),
            agreement(scored, self.real, rng),
            lost,
        )

    def _trials(self, inputs: Inputs, variant: Variant) -> Iterator[Trial]:
        with open_scorer(inputs, self.experts, inputs.dev) as scorer:
            study = Study(Journal(self.folder / "variants.jsonl"), scorer, lambda trial: 0.0)
            for mixture in self.mixtures:
                yield study.trial(self._weighted(mixture, variant.factor))

    def _weighted(self, mixture: Mixture, factor: Weighting | None) -> Mixture:
        if factor is None or len(mixture.datasets) == 1:
            return mixture
        chosen = np.flatnonzero(weight_matrix([mixture], list(self.experts))[0])
        times = factor(mixture, self.gram[np.ix_(chosen, chosen)])
        return Mixture(mixture.datasets, tuple(times * weight for weight in mixture.weights))


def mixture_of(row: Mapping[str, str]) -> Mixture:
    """Return the mixture of a row of `validate-BUDGET.csv`; recorded ones call it "datasets"."""
    return Mixture.uniform((row.get("mixture") or row["datasets"]).replace(" + ", "+").split("+"))


def _read(table: Path) -> tuple[list[Mixture], ScoredPair]:
    """Mixtures and their fine-tunes' scores on test, as a validation wrote them down."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    points = np.array([float(row["finetuned_test"]) for row in rows])
    mixtures = [mixture_of(row) for row in rows]
    return mixtures, ScoredPair.exact(points, REPLICATES)


def _cut(trial: Trial, examples: int) -> Trial:
    """The trial on its first examples only."""
    scores = {
        name: part.take(range(min(examples, len(part)))) for name, part in trial.scores.items()
    }
    return replace(trial, scores=scores)


def cells_of(result: Agreement | None) -> list[str]:
    """Spearman's and Pearson's correlations with their intervals, for a table."""
    if result is None:
        return ["-", "-"]
    return [
        f"{correlation.estimate:.2f} ({correlation.low:.2f} to {correlation.high:.2f})"
        for correlation in (result.spearman, result.pearson)
    ]


def main(arguments: Sequence[str]) -> None:
    """Print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--mixtures", type=int)
    parser.add_argument("--budget")
    parser.add_argument("--only", action="append", choices=VARIANTS)
    parser.add_argument("--experts", type=Path, help="folder of other adapters to merge")
    parser.add_argument("--real", type=Path, help="CSV of an earlier validation")
    options = parser.parse_args(arguments)
    with run_lock(load_recipe(options.recipe).folder):
        bench = Bench(
            options.recipe, options.mixtures, options.budget, options.experts, options.real
        )
        count = sum(len(mixture.datasets) > 1 for mixture in bench.mixtures)
        lines = [
            f"| variant | Spearman, {count} mixtures | Pearson | Spearman, with singles | Pearson "
            "| regret |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name in options.only or VARIANTS:
            mixed, every, lost = bench.score(VARIANTS[name])
            cells = [name, *cells_of(mixed), *cells_of(every), f"{lost:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        if options.experts:
            return
        budget = bench.inputs.recipe.confirm.budget
        write_text(bench.folder / f"variants-{budget}.md", "\n".join([*lines, "", ""]))


if __name__ == "__main__":
    main(sys.argv[1:])
