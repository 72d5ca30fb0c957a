#!/usr/bin/env python3
"""Record every mixture's per-example scores, for `python scripts/bench search` to replay.

`scripts/research/record_scores.py RECIPE [OUT]` runs the search exhaustively (resumable; the
starter's 255 mixtures take 25 minutes) and keeps log-likelihoods to a hundredth of a nat.
`--study study.jsonl` takes a finished search's journal instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from m2m.cli.console import TerminalProgress
from m2m.evaluate.tasks import requests
from m2m.llamacpp.scoring import Request, common_prefix
from m2m.mix.trial import Trial
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.run import Run
from m2m.recipe import load_recipe
from m2m.store import run_lock

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "examples/swahili"


def block_tokens(requests: list[Request]) -> tuple[int, list[int]]:
    """Tokens of the beginning common to all, decoded once a block, and of each example beyond."""
    start = len(common_prefix(requests))
    own = [
        {(*r.prompt, *c)[start:end] for c in r.continuations for end in ends(r, c, start)}
        for r in requests
    ]
    return start, [len(tokens) for tokens in own]


def ends(request: Request, continuation: object, start: int) -> range:
    """Ends of the beginnings that are decoded: all but the last token is."""
    return range(start + 1, len(request.prompt) + len(continuation))  # type: ignore[arg-type]


def main() -> None:
    """Search, then write the recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", default=STARTER / "recipe.toml")
    parser.add_argument("out", type=Path, nargs="?", default=STARTER / "scores.npz")
    parser.add_argument("--study", type=Path, help="journal of an exhaustive search")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    if options.study is None:
        search = dataclasses.replace(recipe.search, strategy="exhaustive")
        recipe = dataclasses.replace(recipe, search=search)
        with run_lock(recipe.folder):
            Run(recipe, TerminalProgress(quiet=False)).search()
    inputs = read_inputs(recipe)
    (target,) = inputs.dev
    names = [dataset.name for dataset in recipe.datasets]
    trials: dict[tuple[str, ...], Trial] = {}
    for line in (
        (options.study or recipe.folder / "study.jsonl").read_text(encoding="utf-8").splitlines()
    ):
        trial = Trial.from_json(json.loads(line))
        if trial.complete:
            trials[trial.mixture.datasets] = trial
    mixtures = sorted(trials, key=lambda datasets: (len(datasets), datasets))
    scores = [trials[datasets].scores[target] for datasets in mixtures]
    prefix, tokens = block_tokens(requests(inputs.dev[target], inputs.formatter))
    np.savez_compressed(
        options.out,
        names=names,
        included=[[name in datasets for name in names] for datasets in mixtures],
        loglik=np.round(100 * np.stack([score.loglik for score in scores])).astype(np.int16),
        bytes=scores[0].bytes.astype(np.int16),
        gold=scores[0].gold.astype(np.int8),
        prefix=prefix,
        tokens=np.array(tokens, np.int16),
    )
    print(f"{options.out}: {len(mixtures)} mixtures, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
