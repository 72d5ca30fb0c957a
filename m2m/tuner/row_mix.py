"""Choose the rows of one training (held out, replayed from other datasets) and its steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from m2m.dataset import BatchStream, Sample, split
from m2m.formats.spooled import chained, drawn
from m2m.recipe import Train
from m2m.recipe.fields import ANYTIME

Row = TypeVar("Row")

# With fewer rows, training needs all. More held-out rows than this cost time and say little.
LEAST_ROWS = 200
MOST_HELD_OUT = 64


def hold_out(samples: Sequence[Sample], config: Train) -> tuple[Sequence[Sample], list[Sample]]:
    """Split samples into those to train on and those held out, by `holdout` and `seed`."""
    if config.holdout <= 0 or len(samples) < LEAST_ROWS:
        return samples, []
    return split(samples, config.seed, min(config.holdout, MOST_HELD_OUT / len(samples)))


def replayed(
    own: Sequence[Row], others: Sequence[Sequence[Row]], fraction: float, rng: np.random.Generator
) -> Sequence[Row]:
    """Return `own`, then equal parts of `others`, which are `fraction` of all rows."""
    total = round(len(own) * fraction / (1.0 - fraction))
    parts = [own]
    for number, source in enumerate(others):
        count = total * (number + 1) // len(others) - total * number // len(others)
        parts.append(draw(source, count, rng))
    return chained(parts)


def draw(rows: Sequence[Row], count: int, rng: np.random.Generator) -> Sequence[Row]:
    """Return `count` of `rows`, in their order: each once before any is taken twice."""
    whole, rest = divmod(count, len(rows))
    once_more = np.sort(rng.permutation(len(rows))[:rest])
    return drawn(rows, np.concatenate([np.tile(np.arange(len(rows)), whole), once_more]))


def mixed_held_out(
    held_out: Sequence[Sequence[Row]], weights: Sequence[float], rng: np.random.Generator
) -> list[Row]:
    """Return a mixture's held-out rows, by its weights; empty if one of its datasets has none."""
    if not all(held_out):
        return []
    counts = [max(1, round(weight * MOST_HELD_OUT)) for weight in weights]
    parts = zip(held_out, counts, strict=True)
    return [row for rows, n in parts for row in draw(rows, min(n, len(rows)), rng)]


def stream_of(samples: Sequence[Sample], config: Train) -> BatchStream:
    """Return the batches of a training.

    If the budget is in epochs, a step ends with the last row of the last epoch. So every row
    is seen that many times, and no row once more to fill the step. An `anytime` training has no
    end that its steps could depend on.
    """
    stop = 0 if config.shape == ANYTIME else math.ceil(config.epochs * len(samples))
    return BatchStream(samples, config.seed, config.batch_tokens, stop)


def steps_needed(samples: Sequence[Sample], config: Train) -> int:
    """Return the number of steps after which a training has seen its `epochs` or its `tokens`.

    Counts batches as they are packed. Every token that the model reads counts, also tokens of
    prompts and templates. A prefix that all rows share counts once per batch.
    """
    stream, steps, tokens = stream_of(samples, config), 0, 0
    rows = math.ceil(config.epochs * len(samples))
    while stream.taken < rows or tokens < config.tokens:
        tokens += stream.skip(config.accumulate)[1]
        steps += 1
    return steps


def passes(samples: Sequence[Sample], config: Train, steps: int) -> float:
    """Return how often a training of that many steps sees each row, on average."""
    stream = stream_of(samples, config)
    return sum(len(stream.skip(config.accumulate)[0]) for _ in range(steps)) / len(samples)


def times_seen(samples: Sequence[Sample], config: Train, steps: int) -> Counter[int]:
    """Return how often a training of that many steps sees each row, by the row's `key`."""
    stream = stream_of(samples, config)
    return Counter(row.key for _ in range(steps) for row in stream.skip(config.accumulate)[0])


def budget(config: Train, row_mixes: Sequence[Sequence[Sample]]) -> int:
    """Return the steps that `steps`, `epochs` or `tokens` gives, the same for every dataset.

    `epochs` means epochs of an average dataset: the mean of the steps that each dataset needs.
    `tokens` is the least number of tokens that any expert is trained on.

    Args:
        config: settings of the training.
        row_mixes: the rows that each expert is trained on, replayed ones too.
    """
    if not config.epochs and not config.tokens:
        return config.steps
    needed = [steps_needed(samples, config) for samples in row_mixes]
    return max(needed) if config.tokens else math.ceil(sum(needed) / len(needed))
