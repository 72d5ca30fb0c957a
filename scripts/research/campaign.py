"""Fine-tune the mixtures that a scenario's plan lists, in order, and keep every one's scores.

    scripts/research/campaign starter [hausa ...] [--work FOLDER] [--list]

A scenario is a folder under `scenarios/`: a recipe with all settings written out, and `plan.toml`
with the mixtures and their steps, both frozen before the first fine-tune. Each finished fine-tune
leaves two files under `results/SCENARIO/`: `NAME.json` (settings, machine, speed, metrics with
standard errors) and `NAME.npz` (the log-likelihood of every choice of every dev and test question,
in thousandths of a nat). Kill the program at any moment and run the same command again: it loses
25 steps at most.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stored import logliks, measured, question_arrays, stored, write_arrays
from training import Training

import m2m
from m2m.errors import InputError, Problems
from m2m.evaluate.scores import Scores
from m2m.formats.atomic import write_json
from m2m.formats.journal import Journal
from m2m.llamacpp.model import build_info
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.study import Study
from m2m.opening import file_sha256
from m2m.pipeline.experts import Job
from m2m.pipeline.finetunes import DEV, TEST, mixed_corpus, open_judge
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.store import run_lock

HERE = Path(__file__).resolve().parent
SCENARIOS, RESULTS = HERE / "scenarios", HERE / "results"
SPLITS = {"dev": DEV, "test": TEST}

Points = dict[int, dict[str, Scores]]  # by step, by split


@dataclass(frozen=True)
class Finetune:
    """One line of a plan.

    Attributes:
        name: of the mixture.
        mixture: datasets with equal weights.
        steps: the training's own number of steps, which its learning rates follow.
        seed: of the first weights, the order of rows and their draw.
        score_at: earlier steps whose scores are kept too.
    """

    name: str
    mixture: Mixture
    steps: int
    seed: int
    score_at: tuple[int, ...]

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"{self.name}-{self.steps}" + (f"-seed{self.seed}" if self.seed else "")


def read_plan(folder: Path, names: Sequence[str]) -> tuple[list[Finetune], list[float]]:
    """Return a plan's fine-tunes in order, and the growths of the merges that it wants scored.

    Args:
        folder: of the scenario.
        names: of all its datasets, which the mixture "all" has.
    """
    plan = tomllib.loads((folder / "plan.toml").read_text(encoding="utf-8"))
    finetunes = []
    for group in plan["finetunes"]:
        seed, points = group.get("seed", 0), tuple(group["score_at"])
        for name in group["mixtures"]:
            mixture = Mixture.uniform(names if name == "all" else name.split("+"))
            finetunes.append(Finetune(name, mixture, group["steps"], seed, points))
    return finetunes, plan.get("merges", {}).get("growth", [])


class Campaign:
    """The fine-tunes of one scenario.

    Args:
        scenario: name of a folder under `scenarios/`.
        work: folder for adapters, checkpoints and the journal of scores.
    """

    def __init__(self, scenario: str, work: Path) -> None:
        self.folder = SCENARIOS / scenario
        self.recipe = load_recipe(self.folder / "recipe.toml", [HERE.parents[1] / "examples"])
        names = [dataset.name for dataset in self.recipe.datasets]
        self.plan, self.growths = read_plan(self.folder, names)
        self.results, self.work = RESULTS / scenario, work / scenario

    def left(self) -> list[Finetune]:
        """Return the fine-tunes that have no result yet."""
        return [tune for tune in self.plan if not (self.results / f"{tune.stem}.json").exists()]

    def run(self) -> None:
        """Make all fine-tunes that are left, in the plan's order."""
        check_data(self.folder)
        self.results.mkdir(parents=True, exist_ok=True)
        with run_lock(self.work):
            self._score_base()
            for tune in self.left():
                self._make(tune)
            for growth in self.growths:
                self._score_merges(growth)

    def _make(self, tune: Finetune) -> None:
        """Train, score at every step that the plan names, and write the result."""
        recipe = self.recipe
        train = dataclasses.replace(recipe.train, steps=tune.steps, seed=tune.seed)
        inputs = read_inputs(dataclasses.replace(recipe, train=train))
        job = Job(mixed_corpus(inputs, tune.mixture), inputs.recipe.train, self.work / tune.stem)
        say(f"{self.folder.name}: {tune.stem}, {len(job.corpus.samples)} rows")
        training, points = Training(inputs, job), {}
        for step in (*tune.score_at, tune.steps):
            points[step] = self._score(inputs, tune.mixture, training.adapter(step))
            figures = {split: measured(scores) for split, scores in points[step].items()}
            say(f"  step {step}: {json.dumps(figures)}")
        self._keep(tune, training, points)

    def _score_base(self) -> None:
        """Score the base, and write down what the questions of all fine-tunes have in common."""
        result, questions = self.results / "base.json", self.results / "questions.npz"
        if result.exists():
            return
        scores = self._score(read_inputs(self.recipe))
        write_arrays(questions, question_arrays(scores))
        write_arrays(result.with_suffix(".npz"), logliks({0: scores}))
        metrics = {"0": {split: measured(of) for split, of in scores.items()}}
        write_json(result, {"metrics": metrics, "machine": machine(self.recipe.limits.threads)})

    def _score(
        self, inputs: Inputs, mixture: Mixture = BASE, adapter: Path | None = None
    ) -> dict[str, Scores]:
        """Return a fine-tune's or the base's scores on dev and test; a journal keeps them."""
        tuned = {mixture: adapter} if adapter else {}
        place = dataclasses.replace(inputs.recipe, path=self.work / inputs.recipe.path.name)
        run = TrainedRun(dataclasses.replace(inputs, recipe=place), {}, Silent())
        with open_judge(run, tuned) as judge:
            trial = judge.finetuned(mixture) if adapter else judge.merged(mixture)
        (target,) = inputs.dev
        return {split: trial.scores[prefix + target] for split, prefix in SPLITS.items()}

    def _score_merges(self, growth: float) -> None:
        """Score all mixtures of the experts on dev, as a search through all of them does."""
        result = self.results / f"merges-{growth:g}.npz"
        if result.exists():
            return
        merge = dataclasses.replace(self.recipe.merge, growth=growth)
        inputs = read_inputs(dataclasses.replace(self.recipe, merge=merge))
        names, (target,) = list(inputs.corpora), inputs.dev
        experts = {name: self.work / f"{name}-{inputs.recipe.train.steps}" for name in names}
        say(f"{self.folder.name}: merges, growth {growth:g}")
        with open_scorer(inputs, experts, inputs.dev, scratch=self.work) as scorer:
            study = Study(Journal(self.work / "merges.jsonl"), scorer)
            trials = [study.trial(mixture) for mixture in subsets(names)]
        arrays = {
            "names": np.array(names),
            "included": np.array([[n in t.mixture.datasets for n in names] for t in trials]),
            "loglik": np.stack([stored(trial.scores[target].loglik) for trial in trials]),
        }
        write_arrays(result, arrays)

    def _keep(self, tune: Finetune, training: Training, points: Points) -> None:
        """Write the log-likelihoods, and then the JSON file that marks the end."""
        write_arrays(self.results / f"{tune.stem}.npz", logliks(points))
        result = {
            "scenario": self.folder.name,
            "datasets": list(tune.mixture.datasets),
            "steps": tune.steps,
            "seed": tune.seed,
            "metrics": {
                step: {split: measured(scores) for split, scores in splits.items()}
                for step, splits in points.items()
            },
            **training.facts(),
            "machine": machine(self.recipe.limits.threads),
        }
        write_json(self.results / f"{tune.stem}.json", result)
        training.forget()


def check_data(folder: Path) -> None:
    """Compare a scenario's files with its SHA256SUMS.

    Raises:
        InputError: a file is missing or another one.
    """
    problems = Problems()
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split("  ", 1)
        if not (folder / name).exists() or file_sha256(folder / name) != expected:
            problems.add(f"{name} is missing, or another file than the one that was frozen")
    problems.raise_if_any(InputError, str(folder), "build the scenario's data again")


def machine(threads: str | int) -> dict[str, Any]:
    """Return what the scores and the speed depend on."""
    source = Path(m2m.__file__).parent
    commit = subprocess.run(
        ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": (names or [platform.machine()])[0],
        "cores": os.cpu_count(),
        "threads": threads,
        "nice": os.nice(0),
        "llama": build_info(),
        "m2m": commit.stdout.strip() or m2m.__version__,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def say(text: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> None:
    """Run the scenarios that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--list", action="store_true", help="print what is left, and stop")
    options = parser.parse_args()
    # As Ctrl-C: the speed so far is noted. Without this the process would just be gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for campaign in [Campaign(name, options.work.absolute()) for name in options.scenarios]:
        if options.list:
            print(*[f"{campaign.folder.name} {tune.stem}" for tune in campaign.left()], sep="\n")
            continue
        try:
            campaign.run()
        except KeyboardInterrupt:
            sys.exit("campaign: stopped; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    main()
