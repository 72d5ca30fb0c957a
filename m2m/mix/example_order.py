"""Order the examples for scoring: seeded, and representative at every length.

A mixture that is scored on a few examples only gets the first ones of an order common to all, so
that mixtures are compared on the same examples. Each target's examples are sorted by facet and by
length, and dealt by systematic sampling: every beginning of the order has about the same mix of
facets as the whole, and its fraction of the cost (Cochran 1977, chapter 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2m.evaluate.scores import Scores
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Places, Trial


@dataclass(frozen=True)
class ExampleOrder:
    """Pairs (target, place of the example in its file), in the order of scoring."""

    steps: tuple[tuple[str, int], ...]

    @classmethod
    def stratified(cls, base: Trial, objectives: Sequence[Objective], seed: int) -> ExampleOrder:
        """Return the order for some targets, from the base model's trial on all their examples."""
        ranked = []
        for i, objective in enumerate(objectives):
            rng = np.random.default_rng([seed, i])
            dealt = _deal(base.scores[objective.target], rng)
            ranked += [((j + 0.5) / len(dealt), i, place) for j, place in enumerate(dealt)]
        return cls(tuple((objectives[i].target, place) for _, i, place in sorted(ranked)))

    def __len__(self) -> int:
        return len(self.steps)

    def first(self, count: int) -> Places:
        """Return the places of the first `count` examples by target."""
        taken: dict[str, list[int]] = {target: [] for target, _ in self.steps}
        for target, place in self.steps[:count]:
            taken[target].append(place)
        return {target: tuple(places) for target, places in taken.items()}


def _deal(scores: Scores, rng: np.random.Generator) -> list[int]:
    """Return the examples' places: sorted into strata, bit-reversed order from a random start.

    The first 2^k of a bit-reversed order are spread evenly over the sorted ones (Corput 1935).
    """
    count = len(scores)
    length = np.nansum(scores.bytes, axis=1)
    facets = [facet or "" for facet in scores.facets] or [""] * count
    sort = sorted(range(count), key=lambda i: (facets[i], length[i], i))
    bits = max(1, (count - 1).bit_length())
    spread = sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    start = int(rng.integers(count))
    dealt = [sort[(i + start) % count] for i in spread]
    # All different questions come first, because an equal one adds no information.
    clusters = scores.clusters.tolist()
    first = {clusters[place]: place for place in reversed(dealt)}
    return sorted(dealt, key=lambda place: first[clusters[place]] != place)
