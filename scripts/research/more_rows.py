"""Measure how well `m2m more-rows` foretells: half to all rows, from a quarter to half of them.

    python scripts/research/more_rows.py RECIPE --out FOLDER [--dataset NAME ...] [--seed N]

It runs `m2m more-rows` on a random half of each dataset's rows (JSONL files), and on all of them,
with the recipe's steps. The gain of the first doubling is a forecast of the second one. It prints
both with their 95 % intervals as JSON, with the error of the forecast. Each dataset takes six
trainings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from m2m.formats.atomic import write_text
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe


def half_of(path: Path, out: Path, seed: int) -> Path:
    """Write a random half of the lines of a file, in their order; return the new file."""
    rows = path.read_text("utf-8").splitlines(keepends=True)
    kept = np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2]
    made = out / f"{path.stem}-half.jsonl"
    write_text(made, "".join(rows[place] for place in sorted(kept.tolist())))
    return made


def foretold(recipe: Path, out: Path, names: list[str], seed: int) -> list[dict[str, Any]]:
    """Return forecast and measured gain of the second doubling of each dataset."""
    out.mkdir(parents=True, exist_ok=True)
    datasets = load_recipe(recipe).datasets
    chosen = [each for each in datasets if each.name in names or not names]
    others = [each.name for each in datasets if each not in chosen]
    same = {"search.excluded": others}
    halves = {f"datasets.{d.name}.path": str(half_of(d.files[0], out, seed)) for d in chosen}
    gains = [
        Run(load_recipe(recipe, [out], {**same, **values}, out / name), Silent()).more_rows()
        for name, values in (("half", halves), ("all", {}))
    ]
    return [
        {
            "dataset": after.dataset,
            "rows": after.rows,
            "quarter": [half.value for half in before.halves],
            "half": [before.all_rows.value, *(half.value for half in after.halves)],
            "all": after.all_rows.value,
            "forecast": before.doubling.as_json(),
            "measured": after.doubling.as_json(),
            "error": before.doubling.estimate - after.doubling.estimate,
        }
        for before, after in zip(gains[0].datasets, gains[1].datasets, strict=True)
    ]


def main() -> None:
    """Print what was foretold and measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = foretold(options.recipe, options.out, options.dataset, options.seed)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
