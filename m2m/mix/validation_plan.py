"""Validation: how well the surrogates' ranking foretells that of real fine-tunes.

A plan of mixtures is drawn before any of them is fine-tuned, spread evenly over the predicted ranks
and over the sizes, so that what it finds speaks for all mixtures and not for the best few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from m2m.mix.agreement import Agreements, Scored, agreement
from m2m.mix.mixture import Mixture

# The predictors that are compared; each gives every mixture a score, higher is better.
SURROGATE, SINGLES, LIKENESS = "surrogate", "mean_of_singles", "similarity"
# A group of mixtures: for a single dataset at an expert's budget the surrogate is the fine-tune.
MIXED, EVERY = "mixtures", "with_singles"


def plan(
    ranking: Sequence[Mixture],
    wanted: Sequence[Mixture],
    count: int,
    rng: np.random.Generator,
) -> list[Mixture]:
    """Mixtures of two datasets or more to fine-tune: stratified by predicted rank and by size.

    After those that are wanted anyway, one comes from each of equal bands of the ranking, of a size
    that the plan has least of. The bands are visited far apart, so that the plan's beginning is
    itself spread over the ranks: stopping early costs precision only.

    Args:
        ranking: all candidates, best first.
        wanted: to be in the plan whatever is drawn; single datasets among them are passed over.
        count: how many mixtures to plan, at most.
        rng: draws within a band.
    """
    candidates = [mixture for mixture in ranking if len(mixture.datasets) > 1]
    planned = [mixture for mixture in dict.fromkeys(wanted) if len(mixture.datasets) > 1][:count]
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
    """0 to count - 1 in an order whose every beginning is spread out (van der Corput, base 2)."""
    width = count.bit_length() + 1
    points = (int(f"{i:0{width}b}"[::-1], 2) * count >> width for i in range(1 << width))
    return list(dict.fromkeys(points))


def by_group(one: Scored, other: Scored, mixtures: Sequence[Mixture], seed: int) -> Agreements:
    """Their agreement over mixtures of two datasets or more, and over all."""
    mixed = np.flatnonzero([len(mixture.datasets) > 1 for mixture in mixtures])
    return {
        group: agreement(one[places], other[places], np.random.default_rng(seed))
        for group, places in ((MIXED, mixed), (EVERY, np.arange(len(mixtures))))
    }
