"""Compare m2m with other ways to spend the same hours on this machine.

    scripts/research/head_to_head starter --hours 1 [--parts a,b,c,d] [--best NAME] [--list]

    a  `m2m run --hours T`
    b  PyTorch, the Trainer of transformers and PEFT on all datasets, best checkpoint by dev loss
    c  m2m's own trainer on all datasets, without a search
    d  the same on the best single dataset by name, which a user does not know

Base, rank, rows, questions and wall time are the same. Each finished part leaves a file
`results/SCENARIO/head_to_head/PART-HOURS.json`, and one with the log-likelihoods of all questions.
A part that was killed starts again: half of its hours would not be its hours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from campaign import HERE, RESULTS, SCENARIOS, SPLITS, machine, say
from numpy.typing import NDArray
from stored import logliks, measured, question_arrays, write_arrays
from table import head_to_head

from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import requests
from m2m.formats.atomic import remove_folder, write_json
from m2m.merge.merger import Merger
from m2m.mix.mixture import BASE, Mixture
from m2m.pipeline.finetunes import mixed_corpus, open_judge
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.trained_run import TrainedRun
from m2m.planning.hours import Within
from m2m.progress import Silent
from m2m.recipe import Recipe, changed, load_recipe
from m2m.recipe.strategies import NONE

TITLES = {
    "a": "m2m run --hours",
    "b": "PEFT on all datasets",
    "c": "m2m on all datasets",
    "d": "m2m on the best single dataset",
}
BEST = {"starter": "sw_school", "hausa": "ha_school", "labels": "sw_kinds"}
WHOLE = {"train": {"schedule": "anytime"}, "confirm": {"budget": "until"}}


@dataclasses.dataclass(frozen=True)
class Made:
    """The adapter of a part, with facts about its training."""

    adapter: Path
    mixture: Mixture
    facts: dict[str, Any]


class HeadToHead:
    """The four parts of one scenario.

    Args:
        recipe: of the scenario.
        name: of the folder of its results.
        options: of the command line.
    """

    def __init__(self, recipe: Path, name: str, options: argparse.Namespace) -> None:
        loaded = load_recipe(recipe, [HERE.parents[1] / "examples"])
        self.recipe = changed(loaded, {**WHOLE, "limits": {"threads": options.threads}})
        self.hours, self._peer = options.hours, options.peer
        self.best = options.best or BEST.get(name, "")
        self.results: Path = options.results / name / "head_to_head"
        self.work: Path = options.work.absolute() / "head_to_head" / name

    def file(self, part: str) -> Path:
        """Return the file of a part's result."""
        return self.results / f"{part}-{self.hours:g}.json"

    def run(self, part: str) -> None:
        """Make one part, score its adapter, and write its result."""
        work = self.work / f"{part}-{self.hours:g}"
        if work.exists():
            remove_folder(work)
        work.mkdir(parents=True)
        say(f"{part}: {TITLES[part]}, {self.hours:g} hours")
        ways: dict[str, Callable[[Path], Made]] = {
            "a": lambda work: self._m2m(work, self.recipe),
            "b": self._peft,
            "c": lambda work: self._m2m(work, self._all()),
            "d": lambda work: self._m2m(work, self._single()),
        }
        started = time.monotonic()
        made = ways[part](work)
        seconds = time.monotonic() - started
        scores = self._scores(work, made)
        self.results.mkdir(parents=True, exist_ok=True)
        write_arrays(self.results / "questions.npz", question_arrays(scores))
        steps = int(made.facts["steps"])
        write_arrays(self.file(part).with_suffix(".npz"), logliks({steps: scores}))
        metrics = {str(steps): {split: measured(of) for split, of in scores.items()}}
        result = {
            "part": TITLES[part],
            "hours": self.hours,
            "seconds": round(seconds, 1),
            "datasets": list(made.mixture.datasets),
            "facts": made.facts,
            "metrics": metrics,
            "load": [round(load, 2) for load in os.getloadavg()],
            "machine": machine(self.recipe.limits.threads),
        }
        write_json(self.file(part), result)
        remove_folder(work)
        say(f"{part}: {json.dumps(metrics)}")

    def _all(self) -> Recipe:
        return changed(
            self.recipe, {"search": {"strategy": NONE}, "confirm": {"baselines": ("union",)}}
        )

    def _single(self) -> Recipe:
        only = tuple(each for each in self.recipe.datasets if each.name == self.best)
        if not only:
            sys.exit(f"head_to_head: there is no dataset {self.best!r}; name the best with --best")
        return dataclasses.replace(self._all(), datasets=only)

    def _m2m(self, work: Path, recipe: Recipe) -> Made:
        recipe = dataclasses.replace(recipe, path=work / "recipe.toml")
        run = Run(recipe, Silent(), hours=Within(recipe, self.hours), anyway=True)
        result = run.run()
        winner, courses = result.confirmation.winner, result.confirmation.courses
        if winner.adapter is None or courses is None:
            raise AssertionError("a run until it is over has courses, and its winner an adapter")
        facts = {"steps": winner.steps, "trained": courses.steps, "end": courses.end}
        decision = work / "m2m-runs" / "recipe" / "hours.json"
        if decision.exists():
            facts["gave_up"] = json.loads(decision.read_text(encoding="utf-8"))["gave_up"]
        return Made(winner.adapter, winner.mixture, facts)

    def _peft(self, work: Path) -> Made:
        """Let another Python train; reading and writing belong to its time, as to the others'."""
        end = time.time() + 3600 * self.hours
        inputs = read_inputs(self.recipe)
        names = [*inputs.corpora]
        union = Mixture.union({name: len(inputs.corpora[name].samples) for name in names})
        corpus, train = mixed_corpus(inputs, union), self.recipe.train
        lengths = [len(sample) for sample in corpus.samples]
        settings = {
            "end": end,
            "rank": train.rank,
            "alpha": train.alpha,
            "target_modules": list(train.target_modules),
            "learning_rate": train.learning_rate,
            "warmup": train.warmup,
            "weight_decay": train.weight_decay,
            "clip": train.clip,
            "seed": train.seed,
            "threads": self.recipe.limits.threads,
            # As many tokens a step as m2m's batches have at most.
            "rows_a_step": max(1, round(train.batch_tokens / float(np.mean(lengths)))),
        }
        parts = {
            "train": [(sample.ids, sample.loss_mask) for sample in corpus.samples],
            "dev": _right_answers(inputs),
        }
        arrays = {name: value for part, rows in parts.items() for name, value in _flat(part, rows)}
        write_arrays(work / "job.npz", arrays | {"settings": np.array(json.dumps(settings))})
        program = [self._peer, HERE / "head_to_head_peer.py", work / "job.npz"]
        Merger(inputs.base, {}).write_folder([], [], work / "base")
        hidden = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        subprocess.run(
            [*map(str, program), work / "base", work / "peer"],
            check=True,
            env={**os.environ, **hidden},
        )
        facts = json.loads((work / "peer" / "facts.json").read_text(encoding="utf-8"))
        return Made(work / "peer" / "adapter", union, facts)

    def _scores(self, work: Path, made: Made) -> dict[str, Scores]:
        """Return the scores of an adapter on dev and test, for all parts in the same way."""
        recipe = dataclasses.replace(self.recipe, path=work / "scoring.toml")
        run = TrainedRun(dataclasses.replace(read_inputs(self.recipe), recipe=recipe), {}, Silent())
        with open_judge(run, {made.mixture: made.adapter}) as judge:
            trial = judge.finetuned(made.mixture) if made.mixture != BASE else judge.merged(BASE)
        (target,) = run.inputs.dev
        return {split: trial.scores[prefix + target] for split, prefix in SPLITS.items()}


def _right_answers(inputs: Inputs) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return the dev questions with their right answers, which the loss is of."""
    rows = []
    for task in inputs.dev.values():
        for request, example in zip(requests(task, inputs.formatter), task.examples, strict=True):
            answer = [*request.continuations[example.gold]]
            ids = np.array([*request.prompt, *answer], np.int32)
            rows.append((ids, np.arange(len(ids)) >= len(request.prompt)))
    return rows


def _flat(
    name: str, rows: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> list[tuple[str, NDArray[Any]]]:
    return [
        (f"{name}.ids", np.concatenate([ids for ids, _ in rows])),
        (f"{name}.marks", np.concatenate([marks for _, marks in rows])),
        (f"{name}.ends", np.cumsum([len(ids) for ids, _ in rows])),
    ]


def main() -> None:
    """Make the parts that are left, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario", help="a folder under scenarios/, or a recipe's file")
    parser.add_argument("--hours", type=float, required=True, help="wall time of each part")
    parser.add_argument("--parts", default=",".join(TITLES))
    parser.add_argument("--best", help="the best single dataset, for part d")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer", default=HERE.parents[1] / ".venv-peer/bin/python")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="print the parts that are left")
    options = parser.parse_args()
    own = Path(options.scenario)
    is_file = own.suffix == ".toml"
    recipe = own if is_file else SCENARIOS / options.scenario / "recipe.toml"
    work = HeadToHead(recipe, own.stem if is_file else options.scenario, options)
    left = [part for part in options.parts.split(",") if not work.file(part).exists()]
    if options.list:
        print(*left, sep="\n")
        return
    for part in left:
        work.run(part)
    print(head_to_head(work.results, work.hours))


if __name__ == "__main__":
    main()
