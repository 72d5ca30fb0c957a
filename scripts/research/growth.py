#!/usr/bin/env python3
"""Measure q, the exponent with which an expert's delta grows with its steps, and judge it.

    scripts/research/growth.py --measure [--until 600]   # trains experts further and further
    scripts/research/growth.py                           # prints q and what it predicts

A merge stands for a fine-tune that gets r times an expert's steps if it is the mean of the deltas
times r^q. q is measured from the experts alone: the slope of log(length of the delta) over
log(steps). It is judged by the recorded fine-tunes of `examples/swahili`, for which it was not
chosen. The lengths are kept in `results/lengths.json`; a training that was killed goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rivals import GROWTH, RESULTS, ROOT, finetunes, recorded_merges

from m2m.adapter import load_adapter
from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.metrics import METRICS
from m2m.formats.atomic import write_json
from m2m.merge.geometry import gram_matrix
from m2m.mix.agreement import ScoredPair, agreement
from m2m.mix.mixture import Mixture
from m2m.mix.rival_predictors import FIRST_ORDER, RIVALS, KnownScores
from m2m.mix.scoreboard import Objective
from m2m.pipeline.experts import Job, Tuning
from m2m.pipeline.inputs import read_inputs
from m2m.progress import Silent
from m2m.recipe import changed, load_recipe

LENGTHS = RESULTS.parent / "lengths.json"
WORK = ROOT / "scripts/research/work/growth"
NAMES = ("sw_school", "sw_things")
STOPS = (75, 150, 300, 600)


def measure(until: int) -> None:
    """Train some experts of the starter further and further, and keep the lengths."""
    settings: dict[str, dict[str, Any]] = {
        "train": {"schedule": "anytime"},
        "limits": {"threads": 1},
    }
    recipe = changed(load_recipe(ROOT / "examples/swahili/recipe.toml"), settings)
    inputs = read_inputs(dataclasses.replace(recipe, path=WORK / "recipe.toml"))
    tuning = Tuning(inputs.base, inputs.recipe, Silent())
    found = json.loads(LENGTHS.read_text("utf-8")) if LENGTHS.exists() else {}
    WORK.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        for steps in (stop for stop in STOPS if stop <= until):
            place, state = WORK / str(steps) / name, WORK / f"{name}.safetensors"
            place.parent.mkdir(exist_ok=True)
            job = Job(inputs.corpora[name], inputs.recipe.train, place, steps, state, last=True)
            if str(steps) not in found.setdefault(name, {}):
                tuning.train(job)
                square = gram_matrix([load_adapter(place)])[0, 0]
                found[name][str(steps)] = round(math.sqrt(square), 5)
                write_json(LENGTHS, found)
                print(name, steps, found[name][str(steps)], flush=True)


def slope(lengths: Mapping[int, float]) -> float:
    """Return the exponent of the steps that fits the lengths best."""
    steps, values = np.log([*lengths]), np.log([*lengths.values()])
    return float(np.polyfit(steps, values, 1)[0])


def judged(exponent: float, budget: str) -> tuple[str, str]:
    """Return Spearman and Pearson of the unmerged law against the fine-tunes of one regime."""
    merges = recorded_merges()
    order = next(list(mixture.datasets) for mixture in merges if len(mixture.datasets) == 8)
    singles = {name: merges[Mixture.uniform([name])] for name in order}
    base = next(trial for mixture, trial in merges.items() if not mixture.datasets)
    known = KnownScores(base, singles, [Objective("swahili", METRICS["choice_bits"])], exponent, 0)
    rows = finetunes(budget)
    mixtures: Sequence[Mixture] = [mixture for mixture, _ in rows]
    predict = RIVALS[FIRST_ORDER].predict
    predicted = predict(known, mixtures, REPLICATES) if predict else None
    if predicted is None:
        raise AssertionError("choice_bits has a first order")
    real = np.array([float(row["finetuned_test"]) for _, row in rows])
    fit = agreement(predicted, ScoredPair.exact(real, REPLICATES), np.random.default_rng(0))
    if fit is None:
        raise AssertionError("there are enough fine-tunes")
    return str(fit.spearman), str(fit.pearson)


def main() -> None:
    """Measure, or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--until", type=int, default=STOPS[-1])
    options = parser.parse_args()
    if options.measure:
        measure(options.until)
        return
    found = {
        name: {int(steps): value for steps, value in of.items()}
        for name, of in json.loads(LENGTHS.read_text("utf-8")).items()
    }
    lengths = {name: of for name, of in found.items() if len(of) > 1}
    exponents = {name: slope(of) for name, of in lengths.items()}
    for name, of in lengths.items():
        print(name, of, f"q = {exponents[name]:.2f}")
    measured = float(np.mean([*exponents.values()]))
    for budget in GROWTH:
        for q in (0.0, 0.25, 0.5, 0.75, round(measured, 2), 1.0):
            print(budget, f"q = {q}:", *judged(q, budget))


if __name__ == "__main__":
    main()
