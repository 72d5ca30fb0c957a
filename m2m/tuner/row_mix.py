"""What one training is fed: rows held out, rows replayed from elsewhere, and for how many steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from m2m.dataset import BatchStream, Sample, split
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


def stream_of(samples: Sequence[Sample], config: Train) -> BatchStream:
    """Return the batches of a training.

    If the budget is in epochs, a step ends with the last row of the last of them, so that every row
    is seen that many times and none once more to fill the step.
    """
    stop = math.ceil(config.epochs * len(samples))
    return BatchStream(samples, config.seed, config.batch_tokens, stop)


def steps_needed(samples: Sequence[Sample], config: Train) -> int:
    """Return after how many steps a training has seen its `epochs` or its `tokens`.

    Counted in batches as they are packed. A token is one that the model reads: of prompts and
    templates too, and of a beginning that all rows share once a batch.
    """
    stream, steps, tokens = stream_of(samples, config), 0, 0
    rows = math.ceil(config.epochs * len(samples))
    while stream.taken < rows or tokens < config.tokens:
        tokens += stream.skip(config.accumulate)[1]
        steps += 1
    return steps


def passes(samples: Sequence[Sample], config: Train, steps: int) -> float:
    """Return how often a training of that many steps sees each row, on average."""
    return times_seen(samples, config, steps).total() / len(samples)


def times_seen(samples: Sequence[Sample], config: Train, steps: int) -> Counter[int]:
    """Return how often a training of that many steps sees each row, by the row's `id()`."""
    stream = stream_of(samples, config)
    return Counter(id(row) for _ in range(steps) for row in stream.skip(config.accumulate)[0])


def budget(config: Train, row_mixes: Sequence[Sequence[Sample]]) -> int:
    """Return the steps that `steps`, `epochs` or `tokens` means, the same for every dataset.

    `epochs` are those of an average dataset: the mean of the steps that each needs for its own.
    `tokens` are the least that any expert is trained on.

    Args:
        config: of the training.
        row_mixes: the rows that each expert is trained on, replayed ones too.
    """
    if not config.epochs and not config.tokens:
        return config.steps
    needed = [steps_needed(samples, config) for samples in row_mixes]
    return max(needed) if config.tokens else math.ceil(sum(needed) / len(needed))
