"""The steps that `[confirm] budget = "until"` takes: rungs, and the last training's cap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

TRAIN, SEARCH, HALVING, LAST = "train", "search", "halving", "last training"
# Parts of the hours: at most, and for the last training at least.
MOST = {TRAIN: 0.25, SEARCH: 0.05, HALVING: 0.25}
LAST_PART = 0.45
# With the fewest steps that carry a signal, experts may take this part.
FLOOR_PART = 0.5
# Those steps, measured on the starter (docs/training.md).
SIGNAL = 150


class FirstPass(NamedTuple):
    """A short training of each dataset, after which only some get an expert.

    Attributes:
        names: the datasets, the most promising first.
        steps: of each.
        keep: number of datasets that get an expert.
    """

    names: Sequence[str]
    steps: int
    keep: int


@dataclass(frozen=True)
class Rungs:
    """The expected rungs of n contenders.

    Attributes:
        contenders: n.
        first: steps of the first rung, an expert's.
        begun: number of contenders that experts have brought to the first rung.
        experts: number of experts.
    """

    contenders: int
    first: int
    begun: int
    experts: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield for each rung the number of contenders, and the steps that each makes for it."""
        count, steps = self.contenders, self.first
        yield count, steps
        while (count := -(-count // 2)) > 1:
            yield count, steps
            steps *= 2

    @property
    def steps(self) -> int:
        """Return the steps of all rungs that are to be trained."""
        return sum(count * steps for count, steps in self) - self.begun * self.first

    @property
    def checks(self) -> int:
        """Return the number of adapters that are scored on dev."""
        return sum(count for count, _ in self)

    @property
    def top(self) -> int:
        """Return the steps of the last rung."""
        return sum(steps for _, steps in self)

    def last(self, most: float) -> int:
        """Return the steps that the last training makes at most, if nothing ends it earlier.

        Args:
            most: steps after which it has seen its datasets `[confirm] max_passes` times.
        """
        cap = self.experts * self.first + sum(count * steps for count, steps in self)
        return max(0, min(cap, round(most) - self.top))
