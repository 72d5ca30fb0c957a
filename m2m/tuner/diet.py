"""What one training is fed: rows held out, rows replayed from elsewhere, and for how many steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from m2m.dataset import Sample, common_prefix, split
from m2m.recipe import Train

Row = TypeVar("Row")

# Fewer rows are all needed for training; more held-out rows than this cost time and say little.
LEAST_ROWS = 200
MOST_HELD_OUT = 64


def hold_out(samples: Sequence[Sample], config: Train) -> tuple[list[Sample], list[Sample]]:
    """Part samples into those to train on and those held out, by `holdout` and `seed`."""
    if config.holdout <= 0 or len(samples) < LEAST_ROWS:
        return list(samples), []
    return split(samples, config.seed, min(config.holdout, MOST_HELD_OUT / len(samples)))


def replayed(
    own: Sequence[Row], others: Sequence[Sequence[Row]], share: float, rng: np.random.Generator
) -> list[Row]:
    """Return `own`, then rows of `others` in equal parts, which are `share` of all."""
    wanted = round(len(own) * share / (1.0 - share))
    rows = list(own)
    for number, source in enumerate(others):
        count = wanted * (number + 1) // len(others) - wanted * number // len(others)
        rows += draw(source, count, rng)
    return rows


def draw(rows: Sequence[Row], count: int, rng: np.random.Generator) -> list[Row]:
    """Return `count` of `rows`, in their order: each once before one is taken twice."""
    whole, rest = divmod(count, len(rows))
    return [*rows] * whole + [rows[i] for i in sorted(rng.permutation(len(rows))[:rest])]


def mixed_held_out(
    held_out: Sequence[Sequence[Row]], weights: Sequence[float], rng: np.random.Generator
) -> list[Row]:
    """Held-out rows of a mixture, by its weights; none where one of its datasets holds none out."""
    if not all(held_out):
        return []
    counts = [max(1, round(weight * MOST_HELD_OUT)) for weight in weights]
    parts = zip(held_out, counts, strict=True)
    return [row for rows, n in parts for row in draw(rows, min(n, len(rows)), rng)]


def budget(config: Train, corpora: Mapping[str, Sequence[Sample]]) -> int:
    """Return the steps that `steps`, `epochs` or `tokens` means, the same for every dataset.

    An epoch is that of an average dataset: as many steps as its rows take, with their replay.
    """
    batch = config.batch_tokens * config.accumulate
    if config.tokens:
        return max(1, round(config.tokens / batch))
    if not config.epochs:
        return config.steps
    sizes = []
    for samples in corpora.values():
        prefix = common_prefix(samples)
        own = sum(len(sample) - prefix for sample in samples)
        sizes.append(own / (config.batch_tokens - prefix) / config.accumulate)
    mean = sum(sizes) / len(sizes) / (1.0 - config.replay)
    return max(1, math.ceil(config.epochs * mean))
