"""A mixture: a set of datasets with their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.counted import counted
from m2m.formats.json_values import as_list, as_real

BASE_LABEL = "base"
_EQUAL = 1e-6  # tolerance between the weights of a uniform mixture


@dataclass(frozen=True)
class Mixture:
    """Datasets in the recipe's order with weights that sum to 1; without any, the base model."""

    datasets: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def uniform(cls, datasets: Sequence[str]) -> Mixture:
        """Return a subset with equal weights, the mixture of Merge to Mix (arXiv 2505.16066)."""
        return cls(tuple(datasets), tuple(1.0 / len(datasets) for _ in datasets))

    @classmethod
    def union(cls, rows: Mapping[str, int]) -> Mixture:
        """Return the mixture that has every row once: weights by the datasets' numbers of rows."""
        if len(set(rows.values())) == 1:
            return cls.uniform([*rows])
        total = sum(rows.values())
        return cls(tuple(rows), tuple(count / total for count in rows.values()))

    def only(self, names: Sequence[str]) -> Mixture:
        """Return some of its datasets with the same proportions among them."""
        if self.is_uniform:
            return Mixture.uniform(names)
        weights = [self.weight_by_dataset[name] for name in names]
        return Mixture(tuple(names), tuple(weight / sum(weights) for weight in weights))

    @property
    def is_uniform(self) -> bool:
        """Return whether all weights are the same."""
        return not self.weights or max(self.weights) - min(self.weights) < _EQUAL

    @property
    def weight_by_dataset(self) -> dict[str, float]:
        """Return the weights by dataset."""
        return dict(zip(self.datasets, self.weights, strict=True))

    def coefficients(self, growth: float) -> tuple[float, ...]:
        """Return the factor of each delta in the merge: k^growth times its weight.

        k is the number of datasets or, if their weights differ, 1 / sum w^2 (Kish's effective
        number). So growth 0 gives the mean of the deltas, and growth 1 their sum for a subset.
        """
        stretch = self._effective**growth if growth else 1.0
        return tuple(stretch * weight for weight in self.weights)

    @property
    def _effective(self) -> float:
        if self.is_uniform:
            return float(len(self.datasets) or 1)
        return 1.0 / sum(weight * weight for weight in self.weights)

    @property
    def label(self) -> str:
        """Return a name: "sw_school + sw_things", or "70 % a + 30 % b" if the weights differ."""
        if self.is_uniform:
            return " + ".join(self.datasets) or BASE_LABEL
        return " + ".join(
            f"{100 * weight:.0f} % {name}" for name, weight in self.weight_by_dataset.items()
        )

    def short(self, datasets: int) -> str:
        """Return the label, or "all 8 datasets in equal proportions" if it has all of many."""
        kind = "equal" if self.is_uniform else "unequal"
        every = len(self.datasets) == datasets > 3
        return f"all {counted(datasets, 'dataset')} in {kind} proportions" if every else self.label

    def as_json(self) -> dict[str, Any]:
        """Return `{"datasets": [...], "weights": [...]}`."""
        return {"datasets": list(self.datasets), "weights": list(self.weights)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Mixture:
        """Invert `as_json`; other keys are ignored.

        Raises:
            ValueError: the names are missing, one is repeated, or the weights are wrong.
        """
        names = as_list(data.get("datasets"), "datasets", (str,))
        weights = as_list(data.get("weights"), "weights", (int, float), len(names))
        if len({*names}) < len(names):
            raise ValueError("datasets has a name twice")
        if names and not any(weights):
            raise ValueError("weights are all 0")
        return cls(
            tuple(names), tuple(as_real(weight, "weights", 0.0, 1 + _EQUAL) for weight in weights)
        )


BASE = Mixture((), ())


def subsets(names: Sequence[str], max_datasets: int = 0) -> Iterator[Mixture]:
    """Yield all uniform mixtures of at most `max_datasets` (0: any number), small ones first."""
    largest = min(max_datasets or len(names), len(names))
    for size in range(1, largest + 1):
        for chosen in combinations(names, size):
            yield Mixture.uniform(chosen)


def without_controls(names: Iterable[str], controls: Set[str]) -> list[str]:
    """Return the datasets whose answers are not wrong on purpose; all if there is no other."""
    every = [*names]
    return [name for name in every if name not in controls] or every


def weight_matrix(mixtures: Sequence[Mixture], names: Sequence[str]) -> NDArray[np.float64]:
    """Return (n, N) weights of n mixtures over N datasets."""
    every = [mixture.weight_by_dataset for mixture in mixtures]
    return np.array([[weights.get(name, 0.0) for name in names] for weights in every])
