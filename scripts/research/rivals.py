"""Print how the merge and its rivals rank the starter's recorded fine-tunes.

The tables are those of `m2m validate`:

    python scripts/research/rivals.py [--write]

With `--write` they replace the part `rivals` of `examples/swahili/RESULTS.md`.

The fine-tunes' scores are those of `examples/swahili/validate-BUDGET.csv`; questions were not kept
for all of them, so intervals hold which mixtures were fine-tuned and the questions that predictions
are made from. Base, experts and merges, question by question, are those of
`examples/swahili/scores.npz`. The merges of the proportional regime are the CSV's, because that
file has the merges of the fixed one only. At equal steps, school, all datasets, and school with the
dictionary are those of `results/starter`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.formats.atomic import write_text
from m2m.mix.agreement import ScoredPair
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.rival_predictors import ALL, MERGE, RIVALS, TOKENS, KnownScores, picks_of
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Trial
from m2m.mix.validation_plan import SURROGATE
from m2m.pipeline.equal_cost import Pool
from m2m.pipeline.rivals import FineTunes, compare
from m2m.results.rivals import Rivals, rival_tables
from m2m.results.table import as_markdown

ROOT = Path(__file__).resolve().parents[2]
STARTER, RESULTS = ROOT / "examples/swahili", ROOT / "scripts/research/results/starter"
STEPS, TOP, TARGET = 300, 2, "swahili"
GROWTH = {"fixed": 0.0, "proportional": 0.5}


def recorded_merges() -> dict[Mixture, Trial]:
    """Return the base's, the experts' and all merges' scores on dev."""
    with np.load(STARTER / "scores.npz") as stored:
        names = [str(name) for name in stored["names"]]
        size, gold = stored["bytes"].astype(np.float64), stored["gold"].astype(np.int64)
        trials = {}
        for included, loglik in zip(stored["included"], stored["loglik"], strict=True):
            chosen = [name for name, one in zip(names, included, strict=True) if one]
            mixture = Mixture.uniform(chosen) if chosen else BASE
            scores = Scores("choices", loglik / 100, size, size, gold)
            trials[mixture] = Trial(mixture, {TARGET: scores}, {}, 0, 0.0)
    return trials


def finetunes(budget: str) -> list[tuple[Mixture, Mapping[str, str]]]:
    """Return the rows of a recorded validation with their mixtures."""
    path = STARTER / f"validate-{budget}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [(Mixture.uniform(r["datasets"].split("+")), r) for r in csv.DictReader(file)]


def controls(names: list[str], steps: int) -> dict[int, dict[Mixture, tuple[float, float]]]:
    """Return by step the dev and test scores of the recorded fine-tunes of this many steps."""
    found: dict[int, dict[Mixture, tuple[float, float]]] = {}
    for path in sorted(RESULTS.glob(f"*-{steps}.json")):
        stem = path.stem.removesuffix(f"-{steps}")
        mixture = Mixture.uniform(names if stem == "all" else stem.split("+"))
        for step, splits in json.loads(path.read_text(encoding="utf-8"))["metrics"].items():
            values = [splits[split]["choice_bits"][0] for split in ("dev", "test")]
            found.setdefault(int(step), {})[mixture] = (values[0], values[1])
    return found


def rivals(budget: str, merges: Mapping[Mixture, Trial]) -> Rivals:
    """Compare the merge and its rivals in one regime."""
    names = [mixture.datasets[0] for mixture in merges if len(mixture.datasets) == 1]
    order = next(list(m.datasets) for m in merges if len(m.datasets) == len(names))
    singles = {name: merges[Mixture.uniform([name])] for name in order}
    metric = METRICS["choice_bits"]
    known = KnownScores(merges[BASE], singles, [Objective(TARGET, metric)], GROWTH[budget], 0)
    rows = finetunes(budget)
    mixtures = [mixture for mixture, _ in rows]
    real = np.array([float(row["finetuned_test"]) for _, row in rows])
    dev = np.array([float(row["finetuned_dev"]) for _, row in rows])
    steps = [int(row["steps"]) for _, row in rows]

    def exact(column: str) -> ScoredPair:
        return ScoredPair.exact(np.array([float(row[column]) for _, row in rows]), REPLICATES)

    merged = known.scored([merges[mixture] for mixture in mixtures])
    predicted = {SURROGATE: exact("surrogate") if GROWTH[budget] else merged}
    for name, rival in RIVALS.items():
        scores = rival.predict and rival.predict(known, mixtures, REPLICATES)
        if scores:
            predicted[name] = scores
    predicted[TOKENS] = exact("similarity")
    ranked = [mixture for mixture in merges if mixture.datasets]
    picks = {MERGE: mixtures[int(np.argmax(predicted[SURROGATE].points))]}
    picks |= picks_of(known, ranked)
    length = steps[mixtures.index(picks[MERGE])]
    pool = {m: (d, r) for m, d, r, s in zip(mixtures, dev, real, steps, strict=True) if s == length}
    more = controls(order, length)
    pool = more.pop(length, {}) | pool
    points = np.array([*pool.values()])
    return compare(
        known,
        predicted,
        FineTunes(mixtures, steps, "test", ScoredPair.exact(real, REPLICATES)),
        {name: pick for name, pick in picks.items() if pick in pool or name in (MERGE, ALL)},
        Pool(
            length,
            [*pool],
            ScoredPair.exact(points[:, 0], REPLICATES),
            ScoredPair.exact(points[:, 1], REPLICATES),
            {step: {m: dev for m, (dev, _) in of.items()} for step, of in more.items()},
            continued=True,
            errors=False,
        ),
        len(order) * STEPS + TOP * length,
    )


def main() -> None:
    """Print the tables of both regimes, or write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    merges = recorded_merges()
    tables = [table for budget in GROWTH for table in rival_tables(rivals(budget, merges))]
    text = "".join(f"{table.caption}.\n\n{as_markdown(table, str)}\n\n" for table in tables)
    if not parser.parse_args().write:
        print(text)
        return
    page = STARTER / "RESULTS.md"
    first, _, rest = page.read_text(encoding="utf-8").partition("<!-- rivals -->\n")
    last = rest.partition("<!-- end of rivals -->")[2]
    write_text(page, f"{first}<!-- rivals -->\n{text}<!-- end of rivals -->{last}")


if __name__ == "__main__":
    main()
