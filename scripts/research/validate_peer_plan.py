#!/usr/bin/env python3
"""Plan the validation of Merge to Mix on *every* mixture, to be made in PyTorch, best on a GPU.

    validate_peer_plan.py RECIPE PLAN.npz        # what to train, merge and score
    validate_peer.py PLAN.npz BASE.gguf FOLDER   # does it, where PyTorch and a GPU are
    validate_peer_table.py RECIPE FOLDER         # tables in Markdown

Fine-tunes of all mixtures with an expert's budget, and of those of up to three datasets with k
budgets; experts trained in many ways; their merges. The recipe has one target of choices. Programs
of a plan can run side by side and be stopped at any time: what is not there is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m2m.dataset import Sample
from m2m.evaluate.tasks import Task, contrasted, requests
from m2m.formats.atomic import atomic_file
from m2m.mix.contenders import mixed_rows
from m2m.mix.mixture import Mixture, subsets
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.recipe import load_recipe
from m2m.tuner.row_mix import replayed

REGIMES = {"fixed": 0.0, "proportional": 0.5}  # with the growth of merges that suits it
LARGEST = 3  # datasets of a mixture in the proportional regime, where k of them take k budgets
SOME = 56  # mixtures that variants, and fine-tunes with another seed, are compared on
CONTROLS = 24  # fine-tunes of the fixed regime that are made in float32 too
WARM = 1 / 3  # of an expert's steps, on all datasets, before experts part
GROWTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (0.5, 1.5, 2.0)
TOGETHER = 48  # trainings that share a step: enough to fill a GPU, in 20 GiB
Rows = list[int]
Merges = dict[str, list[tuple[str, float]]]  # parts and their coefficients by name


@dataclass(frozen=True)
class Way:
    """How experts are trained: factors on the recipe's settings, replayed rows, a warm start."""

    steps: float = 1.0
    learning_rate: float = 1.0
    seed: int = 0
    replay: float = 0.0
    warm: bool = False


PLAIN, AGAIN = "as the recipe says", "experts of another seed"
SEEDS = (PLAIN, AGAIN)
WAYS = {
    PLAIN: Way(),
    AGAIN: Way(seed=1),
    "experts of a third seed": Way(seed=2),
    "learning rate / 4": Way(learning_rate=0.25),
    "learning rate / 2": Way(learning_rate=0.5),
    "learning rate x 2": Way(learning_rate=2.0),
    "learning rate x 4": Way(learning_rate=4.0),
    "a quarter of the steps": Way(steps=0.25),
    "half of the steps": Way(steps=0.5),
    "replay 10 %": Way(replay=0.1),
    "replay 25 %": Way(replay=0.25),
    "replay 50 %": Way(replay=0.5),
    "warm start": Way(warm=True),
    "steps x 2": Way(steps=2.0),
    "steps x 4": Way(steps=4.0),
}


def key(mixture: Mixture) -> str:
    """A subset's name in plans and results."""
    return "+".join(mixture.datasets)


@dataclass
class Plan:
    """Trainings, the rows of each, and programs of stages, in the making."""

    inputs: Inputs
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    programs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own: dict[str, Rows] = {}
        for name, corpus in self.inputs.corpora.items():
            first = sum(map(len, self.own.values()))
            self.own[name] = list(range(first, first + len(corpus.samples)))

    def training(self, name: str, rows: Rows, way: Way, start: str = "") -> str:
        """Plan a training from m2m's first weights, or from the end of another; return its name."""
        train = self.inputs.recipe.train
        self.rows[name] = rows
        self.trainings[name] = {
            "steps": max(1, round(train.steps * way.steps)),
            "learning_rate": train.learning_rate * way.learning_rate,
            "seed": train.seed + way.seed,
            "start": start,
        }
        return name

    def finetune(self, mixture: Mixture, regime: str, seed: int = 0) -> str:
        """Plan a real fine-tune, on the rows that m2m draws for it."""
        rng = np.random.default_rng(self.inputs.recipe.train.seed + seed)
        longer = len(mixture.datasets) if regime == "proportional" else 1
        rows = [*mixed_rows(self.own, mixture, rng)]
        return self.training(f"{regime}-{seed}|{key(mixture)}", rows, Way(longer, seed=seed))

    def experts(self, title: str) -> dict[str, str]:
        """Plan the experts of all datasets, trained one way; return their names by dataset."""
        way, trained = WAYS[title], {}
        for name, rows in self.own.items():
            if way.replay:
                others = [other for label, other in self.own.items() if label != name]
                rng = np.random.default_rng(self.inputs.recipe.train.seed)
                rows = [*replayed(rows, others, way.replay, rng)]
            start = "warm" if way.warm else ""
            trained[name] = self.training(f"{title}|{name}", rows, way, start)
        return trained

    def stage(
        self,
        program: str,
        train: Sequence[str],
        *,
        keep: bool = False,
        score: Sequence[str] = (),
        merges: Merges | None = None,
    ) -> None:
        """Add a stage: train, keep for merging or not, score on dev and test, merge and score."""
        stage = {"train": [*train], "keep": keep, "score": [*score], "merges": merges or {}}
        self.programs.setdefault(program, []).append(stage)

    def write(self, path: Path) -> None:
        """Write the plan for `validate_peer.py`."""
        train = self.inputs.recipe.train
        settings = ("rank", "alpha", "schedule", "warmup", "clip", "batch_tokens")
        about = {
            "settings": {name: getattr(train, name) for name in settings},
            "trainings": self.trainings,
            "programs": self.programs,
        }
        corpora = self.inputs.corpora.values()
        arrays = _columns("samples", [s for corpus in corpora for s in corpus.samples])
        for split, tasks in (("dev", self.inputs.dev), ("test", self.inputs.test)):
            arrays |= _columns(split, _question_samples(self.inputs, only(tasks)))
        arrays |= {f"rows.{name}": np.array(rows, np.uint32) for name, rows in self.rows.items()}
        with atomic_file(path) as file:
            np.savez_compressed(file, about=json.dumps(about), **arrays)


def pack(inputs: Inputs, path: Path) -> None:
    """Plan all fine-tunes of both regimes, experts trained in many ways, and their merges."""
    plan, names = Plan(inputs), [*inputs.corpora]
    chosen = {regime: _drawn(names, regime) for regime in REGIMES}
    everything = Mixture.uniform(names)
    rng = np.random.default_rng(inputs.recipe.train.seed)
    warm = plan.training("warm", [*mixed_rows(plan.own, everything, rng)], Way(steps=WARM))
    plan.stage("experts", [warm], keep=True)
    for program, titles in _bundles(len(names)):
        trained = {title: plan.experts(title) for title in titles}
        every = [name for own in trained.values() for name in own.values()]
        merges: Merges = {}
        for title, own in trained.items():
            merges |= _merges(title, own, chosen, warm if WAYS[title].warm else "")
        score = [name for title in SEEDS for name in trained.get(title, {}).values()]
        plan.stage(program, every, keep=True, score=score, merges=merges)
    for regime, mixtures in chosen.items():
        for seed, some in enumerate((mixtures, mixtures[:SOME])):
            tunes = [plan.finetune(mixture, regime, seed) for mixture in some]
            for first in range(0, len(tunes), TOGETHER):
                part = tunes[first : first + TOGETHER]
                plan.stage(f"{regime}-{seed}", part, score=part)
    control = [plan.finetune(mixture, "float32") for mixture in chosen["fixed"][:CONTROLS]]
    plan.stage("float32", control, score=control)
    if len(names) > LARGEST:
        whole = plan.finetune(everything, "proportional")
        plan.stage("all", [whole], score=[whole])
    plan.write(path)


def _drawn(names: Sequence[str], regime: str) -> list[Mixture]:
    """A regime's mixtures of two or more, in an order of which each beginning is a fair sample."""
    largest = LARGEST if regime == "proportional" else 0
    mixtures = [mixture for mixture in subsets(names, largest) if len(mixture.datasets) > 1]
    return [mixtures[i] for i in np.random.default_rng(0).permutation(len(mixtures))]


def _bundles(datasets: int) -> Iterator[tuple[str, list[str]]]:
    """Programs, and the ways of training experts that they go through together."""
    size = max(1, TOGETHER // datasets)
    for program, longer in (("experts", False), ("long", True)):
        titles = [title for title, way in WAYS.items() if (way.steps > 1) == longer]
        for first in range(0, len(titles), size):
            yield program, titles[first : first + size]


def _merges(
    title: str, experts: Mapping[str, str], chosen: Mapping[str, Sequence[Mixture]], warm: str
) -> Merges:
    """What to merge and score of some experts: `NAME|REGIME|DATASETS`."""
    merges: Merges = {}
    singles = [Mixture.uniform([name]) for name in experts]
    for regime, mixtures in chosen.items():
        own, some = REGIMES[regime], [*mixtures[:SOME], *singles]
        variants = {title: (own, 1.0, some)}
        if title == PLAIN:
            variants = {title: (own, 1.0, [*mixtures, *singles])}
            variants |= {f"growth {g:g}": (g, 1.0, some) for g in GROWTHS if g != own}
            variants |= {f"scale {s:g}": (own, s, some) for s in SCALES}
        for name, (growth, scale, these) in variants.items():
            for mixture in these:
                factors = [scale * factor for factor in mixture.coefficients(growth)]
                parts = [(experts[d], f) for d, f in zip(mixture.datasets, factors, strict=True)]
                # What all experts have in common is there once, whatever the factors.
                parts += [(warm, 1.0 - sum(factors))] if warm else []
                merges[f"{name}|{regime}|{key(mixture)}"] = parts
    return merges


def only(tasks: Mapping[str, Task]) -> Task:
    """The task of the one target, with choices."""
    (task,) = tasks.values()
    return contrasted(task)


def _question_samples(inputs: Inputs, task: Task) -> list[Sample]:
    """Every choice of every example as a sample whose loss is its negative log-likelihood."""
    samples = []
    for number, request in enumerate(requests(task, inputs.formatter)):
        for continuation in request.continuations:
            ids = np.array([*request.prompt, *continuation], np.int32)
            samples.append(Sample(ids, np.arange(len(ids)) >= len(request.prompt), number))
    return samples


def _columns(name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        f"{name}.ids": np.concatenate([sample.ids for sample in samples]),
        f"{name}.marks": np.concatenate([sample.loss_mask for sample in samples]),
        f"{name}.ends": np.cumsum([len(sample) for sample in samples]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("plan", type=Path)
    options = parser.parse_args()
    pack(read_inputs(load_recipe(options.recipe)), options.plan)
