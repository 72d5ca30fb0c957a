from __future__ import annotations

from collections import Counter

import numpy as np

from m2m.mix.mixture import Mixture, subsets
from m2m.mix.validation_plan import plan

NAMES = tuple("abcdefgh")
SUBSETS = [*subsets(NAMES)]
RANKING = [SUBSETS[i] for i in np.random.default_rng(3).permutation(len(SUBSETS))]


def test_the_plan_is_spread_over_ranks_and_sizes_and_repeats() -> None:
    best = next(mixture for mixture in RANKING if len(mixture.datasets) > 1)
    wanted = [RANKING[0], best, Mixture.uniform(NAMES)]
    planned = plan(RANKING, wanted, 24, np.random.default_rng(0))
    assert planned == plan(RANKING, wanted, 24, np.random.default_rng(0))
    assert len(set(planned)) == 24
    assert {best, Mixture.uniform(NAMES)} <= set(planned)
    sizes = Counter(len(mixture.datasets) for mixture in planned)
    assert 1 not in sizes
    assert all(3 <= sizes[size] <= 5 for size in range(2, 8))
    candidates = [mixture for mixture in RANKING if len(mixture.datasets) > 1]
    places = sorted(candidates.index(mixture) / len(candidates) for mixture in planned)
    assert max(b - a for a, b in zip([0.0, *places], [*places, 1.0], strict=True)) < 2.1 / 22
    # Whoever stops early has a coarser sample, not one of the best.
    early = [candidates.index(mixture) / len(candidates) for mixture in planned[2:10]]
    assert set(Counter(int(place * 4) for place in early).values()) <= {1, 2, 3}


def test_a_longer_plan_keeps_the_shorter() -> None:
    few = plan(RANKING, [], 8, np.random.default_rng(0))
    more = plan(RANKING, few, 20, np.random.default_rng(0))
    assert more[:8] == few
    assert len(set(more)) == 20
    assert plan(RANKING[:12], [], 50, np.random.default_rng(0))
