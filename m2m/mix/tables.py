"""Write `ratios.csv` and `metrics.csv`, as data-mixing tools read them; propose from such files.

Both have one row per run, joined on `run_id` (Olmix, `olmix/fit/loaders.py`; `run` is accepted
too): the ratios of the datasets, which sum to 1, and one column per metric. `errors.csv` has the
standard errors of the metrics, so that a mixture that was scored on a few examples counts for less.
`directions.csv` says whether higher or lower values of a metric are better. A direction is never
guessed: it comes from the user, from that file, or from m2m's own list of metrics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.metrics import METRICS as KNOWN
from m2m.formats.atomic import write_text
from m2m.formats.json_fields import Inline, JsonFields
from m2m.formats.records import read_records
from m2m.mix.gaussian import fit
from m2m.mix.guided import climb
from m2m.mix.mixture import Mixture, weight_matrix
from m2m.mix.ranking import Ranked
from m2m.mix.scoreboard import COMBINED
from m2m.mix.space import PARTS, Space

RATIOS, METRICS, ERRORS = "ratios.csv", "metrics.csv", "errors.csv"
DIRECTIONS = "directions.csv"
KEYS = ("run_id", "run")
NOT_DATA = (*KEYS, "name", "index")
PROPOSED = 10
BETTER = {True: "higher", False: "lower"}


@dataclass(frozen=True)
class Proposal(JsonFields):
    """A mixture with the score that the model expects."""

    mixture: Inline[Mixture]
    expected: float
    stderr: float
    scored: float | None


@dataclass(frozen=True)
class Proposals(JsonFields):
    """The most promising mixtures by a model of a table, best first."""

    metric: str
    higher_is_better: bool
    runs: int
    proposals: Sequence[Proposal]


def write_tables(
    folder: Path, ranking: Sequence[Ranked], names: Sequence[str], metric: str, higher: bool
) -> None:
    """Write the four files of a ranking; runs are numbered by rank."""
    heads = ["run_id", "name"]
    rows = [[f"m2m-{ranked.rank:04d}", ranked.mixture.label] for ranked in ranking]
    ratios = weight_matrix([ranked.mixture for ranked in ranking], names).tolist()
    _write(folder / RATIOS, [*heads, *names], rows, ratios)
    _write(folder / METRICS, [*heads, metric], rows, [[ranked.score] for ranked in ranking])
    _write(folder / ERRORS, [*heads, metric], rows, [[ranked.stderr] for ranked in ranking])
    _write(folder / DIRECTIONS, ["metric", "better"], [[metric, BETTER[higher]]], [[]])


def _write(
    path: Path, heads: Sequence[str], rows: Sequence[list[str]], values: Sequence[list[float]]
) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(heads)
    table.writerows(
        [*row, *(repr(v) for v in numbers)] for row, numbers in zip(rows, values, strict=True)
    )
    write_text(path, text.getvalue())


def propose_from(
    folder: Path, metric: str = "", seed: int = 0, higher: bool | None = None
) -> Proposals:
    """Fit a model to `ratios.csv` and `metrics.csv` in `folder`, and propose; nothing is scored.

    Args:
        folder: of the files.
        metric: which column of the metrics; "": the first.
        seed: of the local search.
        higher: whether higher values are better; None: see the file or m2m's list of metrics.

    Raises:
        InputError: a file is missing or malformed, has too few runs, or the direction is unknown.
    """
    ratios, metrics = _read(folder / RATIOS), _read(folder / METRICS)
    names = _columns(ratios, folder / RATIOS)
    metric = metric or _columns(metrics, folder / METRICS)[0]
    if metric not in _columns(metrics, folder / METRICS):
        raise InputError(
            f"{folder / METRICS}: no column {metric!r}",
            f"choose one of {', '.join(_columns(metrics, folder / METRICS))}",
        )
    runs = [run for run in ratios if run in metrics]
    if len(runs) < 3:
        raise InputError(
            f"{folder}: {len(runs)} runs are in both files, at least 3 are needed",
            f"both join on the column {KEYS[0]}",
        )
    weights = np.array(
        [[_number(ratios[run], name, folder / RATIOS) for name in names] for run in runs]
    )
    if bad := [run for run, row in zip(runs, weights, strict=True) if abs(row.sum() - 1) > 0.01]:
        raise InputError(f"{folder / RATIOS}: the ratios of run {bad[0]} do not sum to 1")
    higher = _direction(folder, metric) if higher is None else higher
    sign = 1.0 if higher else -1.0
    values = sign * np.array([_number(metrics[run], metric, folder / METRICS) for run in runs])
    errors = _read(folder / ERRORS) if (folder / ERRORS).is_file() else {}
    noise = np.array(
        [_number(errors[r], metric, folder / ERRORS) ** 2 if r in errors else 0.0 for r in runs]
    )
    process = fit(weights, values, noise)
    known = {_mixture(names, row): float(v) for row, v in zip(weights, sign * values, strict=True)}
    even = all(mixture.is_uniform for mixture in known)
    space = Space(tuple(names), parts=0 if even else PARTS)

    def expected(mixtures: Sequence[Mixture]) -> Any:
        return process.predict(weight_matrix(mixtures, names))[0]

    pool = climb(space, expected, np.random.default_rng(seed), list(known))
    means, spreads = process.predict(weight_matrix(pool, names))
    proposals = [
        Proposal(pool[i], float(sign * means[i]), float(spreads[i]), known.get(pool[i]))
        for i in np.argsort(-means)[:PROPOSED]
    ]
    return Proposals(metric, higher, len(runs), proposals)


def _direction(folder: Path, metric: str) -> bool:
    """Return whether higher is better: by `directions.csv`, else by the name of a known metric.

    m2m's own columns are called "TARGET METRIC".
    """
    path, name = folder / DIRECTIONS, metric.rsplit(" ", 1)[-1]
    rows = [record.fields for record in read_records(path)] if path.is_file() else []
    for row in rows:
        if row.get("metric") == metric:
            if row.get("better") not in BETTER.values():
                raise InputError(
                    f"{path}: better is {row.get('better')!r}", "write higher or lower"
                )
            return bool(row["better"] == BETTER[True])
    if name in KNOWN:
        return KNOWN[name].higher_is_better
    if name == COMBINED:
        return True
    raise InputError(
        f"{folder / METRICS}: m2m does not know whether a higher or a lower {metric!r} is better",
        "add `--higher-is-better` or `--lower-is-better` to the command",
    )


def _mixture(names: Sequence[str], row: Any) -> Mixture:
    used = {name: float(weight) for name, weight in zip(names, row, strict=True) if weight > 0}
    mixture = Mixture(tuple(used), tuple(used.values()))
    return Mixture.uniform(mixture.datasets) if mixture.is_uniform else mixture


def _read(path: Path) -> dict[str, Mapping[str, str]]:
    """Return the rows by run."""
    rows = [record.fields for record in read_records(path)]
    key = next((key for key in KEYS if rows and key in rows[0]), None)
    if key is None:
        raise InputError(f"{path}: no column {KEYS[0]}, or no rows", "each row names its run")
    return {row[key]: row for row in rows}


def _columns(rows: Mapping[str, Mapping[str, str]], path: Path) -> list[str]:
    names = [name for name in next(iter(rows.values())) if name and name not in NOT_DATA]
    if not names:
        raise InputError(f"{path}: has no columns except {', '.join(NOT_DATA)}")
    return names


def _number(row: Mapping[str, str], name: str, path: Path) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError) as error:
        expected = "a finite number" if row[name] is None else "a number"  # NaN is read as null
        raise InputError(f"{path}: {name} is {row[name]!r}, expected {expected}") from error
    if not np.isfinite(value):
        raise InputError(f"{path}: {name} is {value}, expected a finite number")
    return value
