"""The space of allowed mixtures: the recipe's constraints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from m2m.errors import InputError
from m2m.mix.mixture import Mixture, subsets
from m2m.recipe import Dataset, Search
from m2m.recipe.strategies import AUTO

LISTED = 1 << 16  # up to this many mixtures are scored one by one
PARTS = 20  # weights are multiples of 1/20: an evaluation cannot resolve finer ones


@dataclass(frozen=True)
class Space:
    """The mixtures that may be chosen.

    Attributes:
        names: datasets that may be used, in the recipe's order.
        max_datasets: of the largest mixture; 0: any number.
        required: datasets that every mixture has.
        tokens: of each dataset, if `max_tokens` needs them.
        max_tokens: of all datasets of a mixture together; 0: no limit.
        parts: 0: equal weights; else weights are multiples of 1 / parts.
    """

    names: tuple[str, ...]
    max_datasets: int = 0
    required: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=dict)
    max_tokens: int = 0
    parts: int = 0

    def allows(self, mixture: Mixture) -> bool:
        """Return whether a mixture is allowed."""
        chosen = set(mixture.datasets)
        return (
            bool(chosen)
            and chosen <= set(self.names)
            and self.required <= chosen
            and (not self.max_datasets or len(chosen) <= self.max_datasets)
            and (not self.max_tokens or self._tokens(chosen) <= self.max_tokens)
        )

    def _tokens(self, chosen: set[str]) -> int:
        return sum(self.tokens[name] for name in chosen)

    @property
    def most(self) -> int:
        """Return how many mixtures there are before any limit on tokens."""
        if self.parts:
            sizes = range(1, min(self.max_datasets or self.parts, len(self.names), self.parts) + 1)
            return sum(
                math.comb(len(self.names) - len(self.required), size - len(self.required))
                * math.comb(self.parts - 1, size - 1)
                for size in sizes
                if size >= len(self.required)
            )
        free = len(self.names) - len(self.required)
        room = (self.max_datasets or len(self.names)) - len(self.required)
        every = sum(math.comb(free, size) for size in range(min(room, free) + 1))
        return every if self.required else every - 1

    def subsets(self) -> Iterator[Mixture]:
        """Yield all allowed uniform mixtures, small ones first.

        Raises:
            InputError: there are too many mixtures.
        """
        if self.most > LISTED:
            raise InputError(
                f"{self.most:,} mixtures are too many to score each of them",
                f'set [search] strategy = "{AUTO}", or max_datasets',
            )
        return filter(self.allows, subsets(self.names, self.max_datasets))

    def draw(self, rng: np.random.Generator) -> Mixture | None:
        """Draw a random mixture, all sizes equally likely; None if the drawn one is not allowed."""
        free = [name for name in self.names if name not in self.required]
        most = min(len(free), (self.max_datasets or len(self.names)) - len(self.required))
        count = int(rng.integers(0 if self.required else 1, most + 1))
        drawn = {free[i] for i in rng.choice(len(free), count, replace=False)} | self.required
        if self.parts:
            counts = rng.multinomial(self.parts, rng.dirichlet(np.ones(len(drawn)))).tolist()
            mixture = self._weighted(dict(zip(sorted(drawn), counts, strict=True)))
        else:
            mixture = self.uniform(drawn)
        return mixture if self.allows(mixture) else None

    def neighbours(self, mixture: Mixture) -> Iterator[Mixture]:
        """Yield allowed mixtures with one dataset more or fewer, or with one weight moved."""
        chosen = set(mixture.datasets)
        if not self.parts:
            near = [self.uniform(chosen ^ {name}) for name in self.names if chosen ^ {name}]
            yield from filter(self.allows, near)
            return
        counts = {
            name: round(weight * self.parts) for name, weight in mixture.weight_by_dataset.items()
        }
        for giver, held in counts.items():
            for taker in self.names:
                for moved in sorted({1, max(held // 2, 1), held}):
                    if taker != giver:
                        more = {giver: held - moved, taker: counts.get(taker, 0) + moved}
                        near_by = self._weighted(counts | more)
                        if self.allows(near_by):
                            yield near_by

    def _weighted(self, counts: Mapping[str, int]) -> Mixture:
        names = [name for name in self.names if counts.get(name, 0) > 0]
        return Mixture(tuple(names), tuple(counts[name] / self.parts for name in names))

    def uniform(self, chosen: set[str] | frozenset[str]) -> Mixture:
        """Return the subset with equal weights, in the recipe's order."""
        return Mixture.uniform([name for name in self.names if name in chosen])


def usable(search: Search, datasets: Sequence[Dataset]) -> list[str]:
    """Return the datasets that the recipe excludes neither by name nor by licence."""
    allowed = {licence.lower() for licence in search.licences}
    return [
        dataset.name
        for dataset in datasets
        if dataset.name not in search.excluded
        and (not allowed or dataset.licence.lower() in allowed)
    ]


def make_space(search: Search, datasets: Sequence[Dataset], tokens: Mapping[str, int]) -> Space:
    """Return the space of a recipe.

    Args:
        search: its constraints.
        datasets: all of the recipe's datasets.
        tokens: of each dataset.

    Raises:
        InputError: no mixture obeys all constraints.
    """
    names = usable(search, datasets)
    space = Space(
        tuple(names),
        search.max_datasets,
        frozenset(search.required),
        tokens,
        search.max_tokens,
        PARTS if search.weights == "simplex" else 0,
    )
    least = search.required or sorted(names, key=lambda name: tokens.get(name, 0))[:1]
    if not least or not space.allows(space.uniform(frozenset(least))):
        raise InputError(
            f"[search] allows no mixture of {', '.join(names) or 'no dataset at all'}",
            "loosen required, excluded, licences, max_datasets or max_tokens",
        )
    return space
