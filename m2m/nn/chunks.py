"""Divide a batch's rows among threads, so that all have about the same work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 16  # least tokens on each side of a cut between two threads


@dataclass(frozen=True)
class RowPart:
    """Tokens first..last of a row of `length` tokens; rows are numbered from the longest.

    `cuts` are the first tokens of the row's parts up to this one.
    """

    row: int
    cuts: tuple[int, ...]
    last: int
    length: int

    @property
    def first(self) -> int:
        """Return the index of the first token."""
        return self.cuts[-1]

    @property
    def size(self) -> int:
        """Return the number of tokens."""
        return self.last - self.first


def divide(lengths: Sequence[int], prefix: int, key: float, count: int) -> list[list[RowPart]]:
    """Divide rows, in order, into `count` chunks of about the same work; some may stay empty.

    The first chunk has the prefix as well. A row goes to one chunk if that keeps the chunks even.
    Otherwise it is cut, and its later part reads the earlier one. The work of n tokens that see
    c keys each on average is `n (1 + key c)`.
    """

    def work(first: int, last: int, before: int) -> float:
        return (last - first) * (1.0 + key * (before + (first + last) / 2))

    spent = work(0, prefix, 0)
    total = spent + sum(work(0, length, prefix) for length in lengths)
    chunks: list[list[RowPart]] = [[] for _ in range(count)]
    at = 0
    for row, length in enumerate(lengths):
        cuts = [0]
        while (first := cuts[-1]) < length:
            last = length
            if at < count - 1:
                room = total * (at + 1) / count - spent
                last = first + _fitting(length - first, room, 1.0 + key * (prefix + first), key)
            if last > first:
                chunks[at].append(RowPart(row, tuple(cuts), last, length))
                spent += work(first, last, prefix)
                cuts.append(last)
            at += last < length
    return chunks


def _fitting(tokens: int, room: float, cost: float, key: float) -> int:
    """Return how many of `tokens` fill `room`: n with n (cost + key n / 2) = room, or all, or none.

    If fewer than LEAST tokens would be on one side, all go to the side that has more of them.
    """
    if room <= 0:
        return 0
    count = round(2.0 * room / (cost + math.sqrt(cost * cost + 2.0 * key * room)))
    if LEAST <= count <= tokens - LEAST:
        return count
    return tokens if 2 * count >= tokens else 0
