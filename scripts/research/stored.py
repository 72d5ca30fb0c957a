"""Scores as results keep them: metrics for a reader, log-likelihoods for every later question."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.formats.atomic import atomic_file

READ = ("choice_bits", "accuracy", "accuracy_norm", "macro_f1")  # if the target has them
NAT = 1000  # stored units of a log-likelihood
NO_CHOICE = -1e6  # nats


def stored(loglik: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return log-likelihoods in whole thousandths of a nat."""
    whole = np.nan_to_num(loglik, nan=NO_CHOICE, neginf=NO_CHOICE)
    return np.round(NAT * whole).astype(np.int32)


def measured(scores: Scores) -> dict[str, Any]:
    """Return the metrics that results are read by, as (value, standard error)."""

    def of(name: str, part: Scores) -> list[float]:
        metric = METRICS[name]
        return [round(float(metric.value(part, None)[0]), 4), round(metric.stderr(part), 4)]

    fitting = [name for name in READ if scores.kind in METRICS[name].kinds]
    figures: dict[str, Any] = {name: of(name, scores) for name in fitting}
    facets = {name: of(READ[0], part) for name, part in scores.by_facet().items()}
    return figures | ({"facets": facets} if facets else {})


def logliks(points: Mapping[int, Mapping[str, Scores]]) -> dict[str, NDArray[Any]]:
    """Return log-likelihoods by `STEP.SPLIT.loglik`."""
    return {
        f"{step}.{split}.loglik": stored(scores.loglik)
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
