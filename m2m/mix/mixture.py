"""A mixture: which datasets, and how much of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

BASE_LABEL = "base"


@dataclass(frozen=True)
class Mixture:
    """Datasets in the recipe's order with weights that sum to 1; without any, the base model."""

    datasets: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def uniform(cls, datasets: Sequence[str]) -> Mixture:
        """A subset with equal weights, the mixture of Merge to Mix (arXiv 2505.16066)."""
        return cls(tuple(datasets), tuple(1.0 / len(datasets) for _ in datasets))

    @property
    def label(self) -> str:
        """A name for people: "sw_school + sw_things"."""
        return " + ".join(self.datasets) or BASE_LABEL

    def as_json(self) -> dict[str, Any]:
        """`{"datasets": [...], "weights": [...]}`."""
        return {"datasets": list(self.datasets), "weights": list(self.weights)}


BASE = Mixture((), ())


def subsets(names: Sequence[str], max_datasets: int = 0) -> Iterator[Mixture]:
    """All uniform mixtures of at most `max_datasets` (0: any number), small ones first."""
    largest = min(max_datasets or len(names), len(names))
    for size in range(1, largest + 1):
        for chosen in combinations(names, size):
            yield Mixture.uniform(chosen)
