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
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import m2m
from m2m.adapter import Adapter, save_adapter
from m2m.errors import InputError, Interrupted, Problems
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.formats.atomic import atomic_file, remove_folder, write_json
from m2m.formats.digest import file_sha256
from m2m.formats.safetensors import SafetensorsFile
from m2m.llamacpp.model import build_info
from m2m.mix.mixture import BASE, Mixture
from m2m.nn.lora import LoraPair
from m2m.pipeline.finetuning import DEV, TEST, mixed_corpus, open_judge
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.tuning import Job, choose, made, open_decoder
from m2m.recipe import as_json, load_recipe
from m2m.store import run_lock
from m2m.tuner.callbacks import Step
from m2m.tuner.checkpointing import checkpoint_path
from m2m.tuner.result import TrainResult
from m2m.tuner.trainer import Trainer

HERE = Path(__file__).resolve().parent
SCENARIOS, RESULTS = HERE / "scenarios", HERE / "results"
SPLITS = {"dev": DEV, "test": TEST}
READ = ("choice_bits", "accuracy", "accuracy_norm", "macro_f1")  # if the target has them
NAT = 1000  # stored units of a log-likelihood

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


def read_plan(folder: Path, names: Sequence[str]) -> list[Finetune]:
    """Return the plan's fine-tunes in order; `names` are the datasets of the mixture "all"."""
    plan = tomllib.loads((folder / "plan.toml").read_text(encoding="utf-8"))
    found = []
    for group in plan["finetunes"]:
        seed, points = group.get("seed", 0), tuple(group["score_at"])
        for name in group["mixtures"]:
            mixture = Mixture.uniform(names if name == "all" else name.split("+"))
            found.append(Finetune(name, mixture, group["steps"], seed, points))
    return found


class Watch:
    """A `Callback` that stops a training after a step, and measures how fast it went."""

    def __init__(self, until: int) -> None:
        self._until = until
        self.tokens, self.seconds, self.last = 0, 0.0, 0

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Note where an earlier process stopped."""
        self.last = done_steps

    def on_step(self, step: Step) -> None:
        """Count the step."""
        self.tokens += step.tokens
        self.seconds += step.seconds
        self.last = step.number

    def on_end(self, result: TrainResult) -> None:
        """Do nothing: `Trainer` has written the adapter."""

    def stop_requested(self) -> bool:
        """Return whether the step is reached."""
        return self.last >= self._until

    def rate(self) -> dict[str, Any]:
        """Return the speed, and the machine's load: other programs run beside this one."""
        return {
            "until_step": self.last,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        }


class Campaign:
    """The fine-tunes of one scenario.

    Args:
        scenario: name of a folder under `scenarios/`.
        work: folder for adapters, checkpoints and the journal of scores.
    """

    def __init__(self, scenario: str, work: Path) -> None:
        self.folder = SCENARIOS / scenario
        self.recipe = load_recipe(self.folder / "recipe.toml")
        self.plan = read_plan(self.folder, [each.name for each in self.recipe.datasets])
        self.results, self.work = RESULTS / scenario, work / scenario

    def left(self) -> list[Finetune]:
        """Return the fine-tunes that have no result yet."""
        return [each for each in self.plan if not (self.results / f"{each.stem}.json").exists()]

    def run(self) -> None:
        """Make all fine-tunes that are left, in the plan's order."""
        check_data(self.folder)
        self.results.mkdir(parents=True, exist_ok=True)
        with run_lock(self.work):
            self._score_base()
            for tune in self.left():
                self._make(tune)

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
            found = {split: measured(scores) for split, scores in points[step].items()}
            say(f"  step {step}: {json.dumps(found)}")
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
        with open_judge(inputs, {}, tuned, self.work) as judge:
            trial = judge.finetuned(mixture) if adapter else judge.merged(mixture)
        (target,) = inputs.dev
        return {split: trial.scores[prefix + target] for split, prefix in SPLITS.items()}

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


class Training:
    """One fine-tune's training, which can be stopped and looked at after any step."""

    def __init__(self, inputs: Inputs, job: Job) -> None:
        self._inputs, self._job = inputs, job
        self._checkpoint = checkpoint_path(job.folder)
        self._rates = job.folder.with_name(f"{job.folder.name}.rates.jsonl")

    def adapter(self, step: int) -> Path:
        """Return the folder of the adapter after `step` steps, trained now or before."""
        job = self._job
        if step == job.config.steps:
            if made(self._inputs.base, job) is None:
                self._advance(step)
            return job.folder
        place = job.folder.with_name(f"{job.folder.name}.step{step}")
        if not place.exists():
            if self._saved_step() < step:
                self._advance(step)
            save_adapter(place, self._saved_adapter())
        return place

    def facts(self) -> dict[str, Any]:
        """Return what a result says of its training."""
        job, inputs = self._job, self._inputs
        done = made(inputs.base, job)
        if done is None:
            raise AssertionError("the training is over")
        recipe = inputs.recipe
        return {
            "rows": len(job.corpus.samples),
            "tokens": done.tokens,
            "loss_first": round(done.loss_first, 4),
            "loss_last": round(done.loss_last, 4),
            "rates": [json.loads(line) for line in self._rates.read_text("utf-8").splitlines()],
            "train": as_json(recipe.train),
            "quantize": recipe.quantize.type,
            "base": {"name": inputs.base.name, "fingerprint": inputs.base.fingerprint},
            "data": job.corpus.fingerprint,
        }

    def forget(self) -> None:
        """Delete all but the last step's adapter."""
        self._rates.unlink(missing_ok=True)
        for place in self._job.folder.parent.glob(f"{self._job.folder.name}.step*"):
            remove_folder(place)

    def _advance(self, until: int) -> None:
        """Train up to a step, save the state, and note the speed, also if the user interrupts."""
        job, base, recipe = self._job, self._inputs.base, self._inputs.recipe
        watch = Watch(until)
        trainer = Trainer(
            open_decoder(base, recipe, choose(base, recipe)),
            job.corpus.samples,
            job.config,
            folder=job.folder,
            origin=job.origin(base),
            held_out=job.corpus.held_out,
            callbacks=[watch],
        )
        try:
            with suppress(Interrupted):
                trainer.run()
        finally:
            with self._rates.open("a", encoding="utf-8") as file:
                file.write(json.dumps(watch.rate()) + "\n")

    def _saved_step(self) -> int:
        """Return the step of the checkpoint; 0 without one."""
        if not self._checkpoint.exists():
            return 0
        header = json.loads(SafetensorsFile(self._checkpoint).metadata["m2m_training"])
        return int(header["progress"]["step"])

    def _saved_adapter(self) -> Adapter:
        """Return the checkpoint's adapter."""
        file, config, base = SafetensorsFile(self._checkpoint), self._job.config, self._inputs.base
        scale = config.alpha / config.rank
        pairs = {
            module: LoraPair(file.array(f"{module}.a"), file.array(f"{module}.b"), scale)
            for module in base.config.linear_shapes()
            if f"{module}.a" in file.names
        }
        return Adapter(config.rank, config.alpha, pairs, base.name, base.fingerprint)


def measured(scores: Scores) -> dict[str, Any]:
    """Return the metrics that results are read by, as (value, standard error)."""

    def of(name: str, part: Scores) -> list[float]:
        found = METRICS[name].measure(part)
        return [round(found["value"], 4), round(found["stderr"], 4)]

    fitting = [name for name in READ if scores.kind in METRICS[name].kinds]
    found: dict[str, Any] = {name: of(name, scores) for name in fitting}
    facets = {name: of(READ[0], part) for name, part in scores.by_facet().items()}
    return found | ({"facets": facets} if facets else {})


def logliks(points: Points) -> dict[str, NDArray[Any]]:
    """Return the log-likelihoods by `STEP.SPLIT.loglik`; -1e6 nats: there is no such choice."""
    return {
        f"{step}.{split}.loglik": np.round(
            NAT * np.nan_to_num(scores.loglik, nan=-1e6, neginf=-1e6)
        ).astype(np.int32)
        for step, splits in points.items()
        for split, scores in splits.items()
    }


def question_arrays(splits: Mapping[str, Scores]) -> dict[str, NDArray[Any]]:
    """Return what all fine-tunes share: bytes of the choices, right answers, facets."""
    arrays: dict[str, NDArray[Any]] = {}
    for split, scores in splits.items():
        arrays |= {f"{split}.gold": scores.gold.astype(np.int16)}
        arrays |= {f"{split}.bytes": np.nan_to_num(scores.bytes).astype(np.int16)}
        arrays |= {f"{split}.facets": np.array([facet or "" for facet in scores.facets])}
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a .npz file atomically."""
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def check_data(folder: Path) -> None:
    """Compare a scenario's files with its SHA256SUMS.

    Raises:
        InputError: a file is missing or another one.
    """
    problems = Problems()
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        wanted, name = line.split("  ", 1)
        if not (folder / name).exists() or file_sha256(folder / name) != wanted:
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
    asked = parser.parse_args()
    for campaign in [Campaign(name, asked.work.absolute()) for name in asked.scenarios]:
        if asked.list:
            print(*[f"{campaign.folder.name} {each.stem}" for each in campaign.left()], sep="\n")
        else:
            campaign.run()


if __name__ == "__main__":
    main()
