#!/usr/bin/env python3
"""Hold merges against the fine-tunes of all mixtures that `validate_peer.py` made, in Markdown.

    scripts/research/validate_peer_table.py RECIPE FOLDER

Every row is one way of predicting the fine-tunes' test scores; what was not made is left out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from validate_peer_plan import GROWTHS, PLAIN, REGIMES, SCALES, SEEDS, WAYS, key, only
from validate_variants import cells_of, mixture_of

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded
from m2m.evaluate.tasks import Task
from m2m.mix.agreement import ScoredPair, agreement, regret
from m2m.mix.mixture import Mixture, weight_matrix
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.trial import Trial
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.recipe import load_recipe

HEAD = (
    "variant",
    "mixtures",
    *("Spearman", "Pearson"),
    "Spearman, with singles",
    "Pearson",
    "regret",
)


class Results:
    """What `validate_peer.py` wrote: log-likelihoods of all choices by split and model."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        (self._aim,) = inputs.objectives
        self._tasks = {"dev": only(inputs.dev), "test": only(inputs.test)}
        self._arrays: dict[str, Any] = {}
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as arrays:
                self._arrays |= dict(arrays)

    def mixtures(self, split: str, name: str) -> list[Mixture]:
        """Those with a score under a name, small ones first."""
        start = f"{split} {name}|"
        keys = [array.removeprefix(start) for array in self._arrays if array.startswith(start)]
        scored = [Mixture.uniform(label.split("+")) for label in keys]
        return sorted(scored, key=lambda mixture: (len(mixture.datasets), mixture.datasets))

    def scored(
        self,
        split: str,
        name: str | Callable[[Mixture], str],
        mixtures: Sequence[Mixture],
        metric: str = "",
        examples: int | None = None,
    ) -> ScoredPair:
        """Scores under a name, which may depend on the mixture."""
        task, trials = self._tasks[split], []
        for mixture in mixtures:
            own = name if isinstance(name, str) else name(mixture)
            scores = self._scores(task, self._arrays[f"{split} {own}|{key(mixture)}"])
            scores = scores.take(range(len(scores))[:examples])
            trials.append(Trial(mixture, {self._aim.target: scores}, {}, 0, 0.0))
        chosen = METRICS[metric] if metric else self._aim.metric
        return ScoredPair.of(scoreboard(trials, [Objective(self._aim.target, chosen)], 0))

    def _scores(self, task: Task, loglik: Any) -> Scores:
        counts = [len(example.choices) for example in task.examples]
        parts = np.split(loglik.astype(np.float64), np.cumsum(counts)[:-1])
        return Scores(
            kind=task.kind,
            loglik=padded([part.tolist() for part in parts]),
            bytes=padded([[len(c.encode()) for c in example.choices] for example in task.examples]),
            tokens=padded([[1.0] * count for count in counts]),
            gold=np.array([example.gold for example in task.examples], np.int64),
        )


class Regime:
    """A regime's fine-tunes; a single dataset's fine-tune is its expert."""

    def __init__(self, results: Results, name: str) -> None:
        self.name, self.results = name, results
        several = [m for m in results.mixtures("test", f"{name}-0") if len(m.datasets) > 1]
        self.mixtures = [*results.mixtures("test", PLAIN), *several]
        self.real = self.finetunes("test", self.mixtures)

    def finetunes(self, split: str, mixtures: Sequence[Mixture], seed: int = 0) -> ScoredPair:
        """Scores of fine-tunes of a seed."""

        def name(mixture: Mixture) -> str:
            return SEEDS[seed] if len(mixture.datasets) == 1 else f"{self.name}-{seed}"

        return self.results.scored(split, name, mixtures)

    def rows(self) -> Iterator[str]:
        """The table: each way of predicting against the fine-tunes' test scores."""
        yield f"| {' | '.join(HEAD)} |"
        yield f"|{' --- |' * len(HEAD)}"
        plain, every = f"{PLAIN}|{self.name}", self.mixtures
        known = self._of_these(self.results.mixtures("dev", plain))
        singles = [m for m in every if len(m.datasets) == 1]
        yield self._row(PLAIN, known, self.results.scored("dev", plain, known))
        alone = self.results.scored("dev", plain, singles)
        weights = weight_matrix(known, [key(single) for single in singles])
        mean = ScoredPair(weights @ alone.points, weights @ alone.replicates)
        yield self._row("mean of singles", known, mean)
        yield self._row("fine-tunes' own dev scores", every, self.finetunes("dev", every))
        again = self._of_these(self.results.mixtures("test", f"{self.name}-1"))
        if again:
            again = [*singles, *again]
            real = self.finetunes("test", again, seed=1)
            yield self._row("fine-tunes of another seed", again, real)
        for metric in ("accuracy", "accuracy_norm", "bits_per_byte"):
            scored = self.results.scored("dev", plain, known, metric)
            yield self._row(metric, known, scored)
        for count in (65, 32, 16):
            scored = self.results.scored("dev", plain, known, examples=count)
            yield self._row(f"{count} questions", known, scored)
        names = [f"growth {g:g}" for g in GROWTHS] + [f"scale {s:g}" for s in SCALES]
        for name in [*names, *list(WAYS)[1:]]:
            place = f"{name}|{self.name}"
            some = self._of_these(self.results.mixtures("dev", place))
            if some:
                yield self._row(name, some, self.results.scored("dev", place, some))

    def _of_these(self, others: Sequence[Mixture]) -> list[Mixture]:
        """The regime's mixtures that are among others."""
        kept = set(others)
        return [mixture for mixture in self.mixtures if mixture in kept]

    def _row(self, name: str, mixtures: Sequence[Mixture], scored: ScoredPair) -> str:
        real = self.real[np.array([self.mixtures.index(mixture) for mixture in mixtures])]
        several = np.flatnonzero([len(mixture.datasets) > 1 for mixture in mixtures])
        rng = np.random.default_rng(0)
        mixed, whole = agreement(scored[several], real[several], rng), agreement(scored, real, rng)
        lost = regret(real, int(np.argmax(scored.points))).estimate
        cells = [name, str(len(several)), *cells_of(mixed), *cells_of(whole), f"{lost:.3f}"]
        return f"| {' | '.join(cells)} |"

    def against(self, table: Path) -> str:
        """How m2m's own fine-tunes, as a validation wrote them down, go with these."""
        with table.open(encoding="utf-8", newline="") as file:
            rows = {
                key(mixture_of(row)): float(row["finetuned_test"]) for row in csv.DictReader(file)
            }
        places = [i for i, mixture in enumerate(self.mixtures) if key(mixture) in rows]
        if not places:
            return f"none of m2m's own fine-tunes ({table.name}) is among these"
        own = np.array([rows[key(self.mixtures[i])] for i in places])
        these = self.real[np.array(places)]
        agreed = agreement(
            ScoredPair.exact(own, these.replicates.shape[1]), these, np.random.default_rng(0)
        )
        apart = np.abs(own - these.points)
        return (
            f"m2m's own {len(own)} fine-tunes ({table.name}): Spearman {cells_of(agreed)[0]}, "
            f"apart by {apart.mean():.3f} on average and {apart.max():.3f} at most"
        )


def compare(inputs: Inputs, folder: Path) -> Iterator[str]:
    """The tables, line by line."""
    results = Results(inputs, folder)
    for name in REGIMES:
        if not results.mixtures("test", f"{name}-0"):
            continue
        regime = Regime(results, name)
        yield f"\n## {name}\n"
        yield from regime.rows()
        table = inputs.recipe.path.parent / f"validate-{name}.csv"
        if table.exists():
            yield f"\n{regime.against(table)}"
    control = results.mixtures("test", "float32-0")
    control = sorted({*control} & {*results.mixtures("test", "fixed-0")}, key=key)
    if control:
        both = [results.scored("test", name, control) for name in ("float32-0", "fixed-0")]
        apart = np.abs(both[0].points - both[1].points)
        yield (
            f"\n{len(control)} fine-tunes again in float32: apart by {apart.mean():.4f} on average "
            f"and {apart.max():.4f} at most"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for line in compare(read_inputs(load_recipe(options.recipe)), options.folder):
        print(line, flush=True)
