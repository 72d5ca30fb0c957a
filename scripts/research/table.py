"""Print a scenario's results as a table in Markdown, best first.

    python scripts/research/table.py starter [--against sw_school-600] [--split test]

With `--against` each row has its difference from that one too, paired on the same questions, and
the interval that 95 % of 1,000 resamples of the questions fall into.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metric import resample
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores

RESULTS = Path(__file__).resolve().parent / "results"
METRIC = METRICS["choice_bits"]


def points(folder: Path) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    """Yield (stem of the file, step, metric and its error by split) of everything scored."""
    for path in sorted(folder.glob("*.json")):
        for step, splits in json.loads(path.read_text(encoding="utf-8"))["metrics"].items():
            yield path.stem, step, {split: of[METRIC.name] for split, of in splits.items()}


def scores(folder: Path, stem: str, step: str, split: str) -> Scores:
    """Return the stored scores of a split's questions."""
    with np.load(folder / "questions.npz") as questions, np.load(folder / f"{stem}.npz") as arrays:
        loglik = arrays[f"{step}.{split}.loglik"] / 1000
        sizes = questions[f"{split}.bytes"].astype(np.float64)
        gold = questions[f"{split}.gold"].astype(np.int64)
    return Scores("choices", loglik, sizes, sizes, gold)


def resampled(folder: Path, stem: str, step: str, split: str) -> NDArray[np.float64]:
    """Return the metric on all questions, and then on each resample of them."""
    stored = scores(folder, stem, step, split)
    draws = resample(len(stored), np.random.default_rng(0))
    return np.concatenate([METRIC.value(stored, None), METRIC.value(stored, draws)])


def difference(these: NDArray[np.float64], those: NDArray[np.float64]) -> str:
    """Return a paired difference with its interval."""
    gap = these - those
    low, high = np.quantile(gap[1:], (0.025, 0.975))
    return f"{gap[0]:+z.3f} ({low:+z.3f} to {high:+z.3f})"


def head_to_head(results: Path, hours: float) -> str:
    """Return the finished parts of a head-to-head, and how far (a) is ahead of each, on test.

    Args:
        results: a scenario's folder of finished parts.
        hours: that each part had.
    """
    lines = [
        "| time spent on | hours | steps kept, made | right answers | bits | m2m is ahead by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    values: dict[str, NDArray[np.float64]] = {}
    for path in sorted(results.glob(f"?-{hours:g}.json")):
        part = path.stem[0]
        result = json.loads(path.read_text(encoding="utf-8"))
        ((steps, splits),) = result["metrics"].items()
        values[part] = resampled(results, path.stem, steps, "test")
        (value, error), (right, _) = splits["test"][METRIC.name], splits["test"]["accuracy"]
        count = len(scores(results, path.stem, steps, "test"))
        ahead = difference(values["a"], values[part]) if "a" in values and part != "a" else ""
        cells = [
            result["part"],
            f"{result['seconds'] / 3600:.2f}",
            f"{steps}, {result['facts']['trained']}",
            f"{round(right * count)} of {count} ({right:.0%})".replace("%", " %"),
            f"{value:.2f} ± {error:.2f}",
            ahead,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario")
    parser.add_argument("--against", help="a result's name, such as sw_school-600: its last step")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="of differences")
    options = parser.parse_args()
    folder = RESULTS / options.scenario
    rows = sorted(points(folder), key=lambda row: -row[2][options.split][0])
    steps = {stem: step for stem, step, _ in points(folder)}
    heads = ["fine-tune", "step", "dev", "test"]
    if options.against:
        heads.append(f"{options.split}, against {options.against}")
        those = resampled(folder, options.against, steps[options.against], options.split)
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for stem, step, of in rows:
        cells = [stem, step, *(f"{of[s][0]:z.3f} ± {of[s][1]:z.3f}" for s in ("dev", "test"))]
        if options.against:
            cells.append(difference(resampled(folder, stem, step, options.split), those))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
