"""Validation: how well the surrogates' ranking predicts that of real fine-tunes.

A plan of mixtures is drawn before any of them is fine-tuned. It is spread evenly over the predicted
ranks and over the sizes, so that its result holds for all mixtures and not only for the best few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from m2m.mix.agreement import Agreements, ScoredPair, agreement
from m2m.mix.mixture import Mixture

SURROGATE = "surrogate"  # the predictor that those in `m2m.mix.rival_predictors` are compared with
# Groups of mixtures: for a single dataset at an expert's budget the surrogate is the fine-tune.
MIXED, EVERY = "mixtures", "with_singles"


def plan(
    ranking: Sequence[Mixture],
    required: Sequence[Mixture],
    count: int,
    rng: np.random.Generator,
) -> list[Mixture]:
    """Return mixtures of two or more datasets to fine-tune, stratified by predicted rank and size.

    After the `required` mixtures, one comes from each of equal bands of the ranking, with the size
    that is rarest in the plan so far. Bands far apart follow each other, so that the plan's
    beginning is also spread over the ranks: stopping early costs only precision.

    Args:
        ranking: all candidates, best first.
        required: always in the plan, whatever is drawn; single datasets among them are skipped.
        count: how many mixtures to plan, at most.
        rng: draws within a band.
    """
    candidates = [mixture for mixture in ranking if len(mixture.datasets) > 1]
    planned = [mixture for mixture in dict.fromkeys(required) if len(mixture.datasets) > 1][:count]
    bands = np.array_split(np.arange(len(candidates)), max(1, count - len(planned)))
    for band in (bands[i] for i in _far_apart(len(bands))):
        left = [candidates[i] for i in band if candidates[i] not in planned]
        if left and len(planned) < count:
            sizes = Counter(len(mixture.datasets) for mixture in planned)
            fewest = min(sizes[len(mixture.datasets)] for mixture in left)
            fitting = [mixture for mixture in left if sizes[len(mixture.datasets)] == fewest]
            planned.append(fitting[int(rng.integers(len(fitting)))])
    return planned


def _far_apart(count: int) -> list[int]:
    """Order 0 to count - 1 so that every beginning is spread out (van der Corput, base 2)."""
    width = count.bit_length() + 1
    points = (int(f"{i:0{width}b}"[::-1], 2) * count >> width for i in range(1 << width))
    return list(dict.fromkeys(points))


def by_group(
    one: ScoredPair, other: ScoredPair, mixtures: Sequence[Mixture], seed: int
) -> Agreements:
    """Return their agreement over mixtures of two or more datasets, and over all mixtures."""
    mixed = np.flatnonzero([len(mixture.datasets) > 1 for mixture in mixtures])
    return {
        group: agreement(one[places], other[places], np.random.default_rng(seed))
        for group, places in ((MIXED, mixed), (EVERY, np.arange(len(mixtures))))
    }
