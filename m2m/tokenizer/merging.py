"""Byte-pair merging: the loop that byte-level BPE and SentencePiece share."""

from __future__ import annotations

import heapq
from collections.abc import Callable


def merge(word: str, rank: Callable[[str, str], float | None]) -> list[str]:
    """Join neighbours, lowest rank first and leftmost among equals, in O(n log n).

    Args:
        word: the text; at first each character is one part.
        rank: returns the rank of joining two neighbours; None if they are never joined.

    Returns:
        the parts that are left; together they are `word`.
    """
    parts = list(word)
    last = len(parts)
    before = list(range(-1, last - 1))
    after = list(range(1, last + 1))
    queue = [
        (priority, i, parts[i], parts[i + 1])
        for i in range(last - 1)
        if (priority := rank(parts[i], parts[i + 1])) is not None
    ]
    heapq.heapify(queue)
    while queue:
        _, i, left, right = heapq.heappop(queue)
        j = after[i]
        if j == last or parts[i] != left or parts[j] != right:
            continue  # one of the two has already been joined to another neighbour
        parts[i], parts[j] = left + right, ""
        after[i] = k = after[j]
        if k != last:
            before[k] = i
            if (priority := rank(parts[i], parts[k])) is not None:
                heapq.heappush(queue, (priority, i, parts[i], parts[k]))
        if (h := before[i]) >= 0 and (priority := rank(parts[h], parts[i])) is not None:
            heapq.heappush(queue, (priority, h, parts[h], parts[i]))
    return [part for part in parts if part]
