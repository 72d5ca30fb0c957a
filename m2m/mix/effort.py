"""What a search will take, before there is anything to score: the strategies' own arithmetic.

Exhaustive and guided searches take what their plan says. A race ends when it is decided; here, as
on the starter's recording, two in five mixtures stay after a round, or fewer where its budget asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2m.mix import guided, racing
from m2m.mix.racing import BEGINNING, KEEP, rounds
from m2m.mix.space import Space

STAYS = 0.4  # of the mixtures in a race, from one round to the next


@dataclass(frozen=True)
class Effort:
    """What scoring mixtures takes.

    Attributes:
        evaluations: of all examples; a block of them is a part of one.
        loads: models that are merged and loaded: one for each block.
        mixtures: how many are scored, in full or not.
    """

    evaluations: float = 0.0
    loads: float = 0.0
    mixtures: float = 0.0

    def plus(self, mixtures: float, examples: float, *, new: bool) -> Effort:
        """After a block of `examples` (a share of all) for some mixtures, new ones or not."""
        return Effort(
            self.evaluations + mixtures * examples,
            self.loads + mixtures,
            self.mixtures + mixtures * new,
        )

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.evaluations + other.evaluations,
            self.loads + other.loads,
            self.mixtures + other.mixtures,
        )

    def less(self, done: Effort) -> Effort:
        """What is left when some was done already."""
        return Effort(
            max(self.evaluations - done.evaluations, 0.0),
            max(self.loads - done.loads, 0.0),
            self.mixtures,
        )


def foresee(strategy: str, space: Space, examples: int, targets: int, budget: float) -> Effort:
    """What a strategy takes besides the base model.

    Args:
        strategy: its name, not "auto".
        space: the allowed mixtures.
        examples: of all targets together.
        targets: how many.
        budget: the recipe's; 0 for the strategy's own.

    Raises:
        InputError: the mixtures are too many for the strategy.
    """
    if strategy == "guided":
        return _guided(space, examples, targets, budget or guided.BUDGET)
    sizes = [len(each.datasets) for each in space.subsets()]
    if strategy == "exhaustive":
        return Effort().plus(len(sizes), 1.0, new=True)
    budget = budget or max(racing.SHARE * len(sizes), racing.LEAST * len(space.names))
    return _race(sizes, len(space.names), rounds(racing.FIRST * targets, examples), budget)


def least_budget(strategy: str, space: Space, examples: int, targets: int) -> float:
    """The budget with which a search still sees something of all that it can start on.

    A race needs the experts and the first round; its last few are scored in full whatever is left.
    A guided search needs the experts, one batch to its end and the last few.
    """
    experts = len(space.names)
    if strategy == "racing":
        mixed = sum(len(each.datasets) > 1 for each in space.subsets())
        return experts + mixed * (min(racing.FIRST * targets, examples) + BEGINNING) / examples
    block = min(guided.FIRST * targets, examples)
    return experts + guided.BATCH * 2 * block / examples + KEEP


def _race(sizes: list[int], experts: int, counts: list[int], budget: float) -> Effort:
    total, left = counts[-1], budget - experts
    mixed = len(sizes) - sizes.count(1)
    found = Effort().plus(experts, 1.0, new=True)
    there, before = float(len(sizes)), 0
    for count in counts:
        share = (count - before + BEGINNING) / total
        if before:
            there = min(there, max(KEEP, min(there * STAYS, left / share)))
        if there <= KEEP:
            count = total
        # Experts are scored already; the best of them mostly stays to the end.
        scored = min(there - (mixed < len(sizes)), mixed) if before else mixed
        found = found.plus(scored, (count - before) / total, new=not before)
        left -= share * scored
        if count == total:
            break
        before = count
    return found


def _guided(space: Space, examples: int, targets: int, budget: float) -> Effort:
    experts = len(space.names)
    found = Effort().plus(experts, 1.0, new=True)
    left = budget - experts * (examples + BEGINNING) / examples - KEEP
    unseen = max(space.most - experts, 0)
    counts = rounds(guided.FIRST * targets, examples)
    while batch := min(guided.BATCH, unseen, _payable(left, counts[0], examples)):
        unseen -= batch
        before = 0
        for count in counts:
            batch = min(batch, _payable(left, count - before, examples))
            found = found.plus(batch, (count - before) / examples, new=not before)
            left -= batch * (count - before + BEGINNING) / examples
            batch, before = max(1, batch // 2) if batch else 0, count
    last = min(KEEP, found.mixtures - experts)
    # The best few: experience has them at about half of the examples.
    return found.plus(last, 0.5, new=False)


def _payable(left: float, block: int, examples: int) -> int:
    return max(int(left * examples / (block + BEGINNING)), 0)
