"""Successive halving over real fine-tunes: the rival that merges nothing and trains many briefly.

It fine-tunes n mixtures for a few steps, keeps the better half by dev score, fine-tunes these for
more steps, and so on (Jamieson and Talwalkar 2016, 1502.07943). If a fine-tune ends its schedule at
its own length, a longer one starts again, and the steps of all rungs add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64

_KEEP = 0.5  # fraction of the mixtures that a rung keeps
_DRAWS = 2000  # starts that are drawn if there are more


@dataclass(frozen=True)
class HalvingPicks:
    """The picks of successive halving from random starts.

    Attributes:
        lengths: steps of each rung.
        starters: mixtures that it starts with.
        steps: training steps that it takes in all.
        picks: (P,) how often each of P mixtures is the pick, over all starts or the drawn ones.
    """

    lengths: Sequence[int]
    starters: int
    steps: int
    picks: F64


def halving(
    dev: Mapping[int, F64], budget: int, seed: int, *, continued: bool = False
) -> HalvingPicks | None:
    """Return the picks of successive halving with a budget of training steps.

    Args:
        dev: by number of steps, the dev scores (P,) of the same P mixtures, higher is better.
        budget: training steps that it may take in all.
        seed: draws the starts if there are too many to try all.
        continued: whether a longer fine-tune continues the shorter one, and costs only the rest.

    Returns:
        None with fewer than two lengths or mixtures, or if the budget is too small for two.
    """
    lengths = sorted(dev)
    if len(lengths) < 2 or len(dev[lengths[0]]) < 2:
        return None
    pool = len(dev[lengths[0]])
    each = np.diff(lengths, prepend=0).tolist() if continued else lengths
    starters = max((n for n in range(1, pool + 1) if _cost(n, each) <= budget), default=0)
    if starters < 2:
        return None
    picks = np.zeros(pool)
    for start in _starts(pool, starters, np.random.default_rng(seed)):
        kept = start
        for size, steps in zip(_rungs(starters, len(lengths))[1:], lengths, strict=False):
            kept = kept[np.argsort(-dev[steps][kept], kind="stable")[:size]]
        picks[kept[np.argmax(dev[lengths[-1]][kept])]] += 1
    return HalvingPicks(lengths, starters, _cost(starters, each), picks / picks.sum())


def _rungs(starters: int, count: int) -> list[int]:
    """Return the number of mixtures on each rung."""
    sizes = [starters]
    while len(sizes) < count:
        sizes.append(max(1, int(sizes[-1] * _KEEP)))
    return sizes


def _cost(starters: int, lengths: Sequence[int]) -> int:
    sizes = _rungs(starters, len(lengths))
    return sum(size * steps for size, steps in zip(sizes, lengths, strict=True))


def _starts(pool: int, starters: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return all sets of starters; a sample of them if there are many."""
    if comb(pool, starters) <= _DRAWS:
        return [np.array(some) for some in combinations(range(pool), starters)]
    return [rng.permutation(pool)[:starters] for _ in range(_DRAWS)]
