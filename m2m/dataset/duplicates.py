"""Find rows that repeat each other: exactly, nearly, or the same question with another answer.

Near duplicates are found by MinHash (Broder 1997) of character shingles with banding (Leskovec et
al., Mining of Massive Datasets, chapter 3); every pair that it proposes is compared in full.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.dataset.grams import character_grams, chunks

NEAR = 0.8  # Jaccard similarity of shingles from which two texts count as nearly the same
SHINGLE = 5  # characters
# 8 bands of 4: a pair of similarity 0.8 is proposed with probability 1 - (1 - 0.8^4)^8 = 0.985.
_BANDS, _ROWS = 8, 4
_LIKELY = 0.5
_PAIRS = 1 << 14  # pairs compared at once: bounds memory
_NOTHING = np.iinfo(np.uint32).max


def exact_groups(texts: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return for each text the place of the first text that equals it."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(text, i) for i, text in enumerate(texts)], np.int64)


def near_groups(texts: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """Return for each text the place of the first text that equals or nearly equals it.

    Being near is transitive: a text that is near to a member of a group belongs to the group.

    Args:
        texts: comparable texts (`grams.comparable`).
        seed: of the hash functions.
    """
    groups = exact_groups(texts)
    unique = np.unique(groups)
    signatures = _signatures([texts[i] for i in unique], np.random.default_rng(seed))
    shingles: dict[int, set[str]] = {}
    parents = np.arange(len(unique))
    for one, other in _likely(_proposed(signatures), signatures):
        for place in (one, other):
            if place not in shingles:
                text = texts[unique[place]]
                shingles[place] = {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}
        a, b = shingles[one], shingles[other]
        if len(a & b) >= NEAR * len(a | b):
            low, high = sorted((_root(parents, one), _root(parents, other)))
            parents[high] = low
    roots = np.array([_root(parents, i) for i in range(len(unique))], np.int64)
    return unique[roots[np.searchsorted(unique, groups)]] if len(unique) else groups


def repeated(groups: Iterable[Hashable]) -> list[int]:
    """Return the places whose group already has an earlier place."""
    seen: set[Hashable] = set()
    return [i for i, group in enumerate(groups) if group in seen or seen.add(group)]  # type: ignore[func-returns-value]


def contradicted(
    questions: Sequence[str], answers: Sequence[str], others: Iterable[tuple[str, str]]
) -> list[int]:
    """Return the places of questions that `others` answer, and only differently.

    Args:
        questions, answers: of the rows.
        others: (question, answer) pairs; these may include the rows' own pairs.
    """
    known: dict[str, set[str]] = {}
    for question, answer in others:
        known.setdefault(question, set()).add(answer)
    pairs = enumerate(zip(questions, answers, strict=True))
    return [i for i, (question, answer) in pairs if known.get(question, {answer}) - {answer}]


def holding(texts: Sequence[str], targets: Iterable[str]) -> list[tuple[int, str]]:
    """Return (place, target) for each text that holds a target; all normalised, 2 words or more."""
    starts: dict[str, list[str]] = {}
    for target in {target for target in targets if target.count(" ") > 2}:
        starts.setdefault(target.split()[0], []).append(target)
    return [
        (i, target)
        for i, text in enumerate(texts)
        for word in starts.keys() & text.split()
        for target in starts[word]
        if target in text
    ]


def _signatures(texts: Sequence[str], rng: np.random.Generator) -> NDArray[np.uint32]:
    """Return (texts, bands * rows) smallest shingle hashes; the largest value if there are none."""
    count = _BANDS * _ROWS
    factors, shifts = rng.integers(0, 1 << 63, (2, count), np.uint64)
    factors |= np.uint64(1)
    signatures = np.full((len(texts), count), _NOTHING, np.uint32)
    for start, end in chunks(texts):
        hashes, rows = character_grams(texts[start:end], SHINGLE)
        if not len(hashes):
            continue
        begins = np.flatnonzero(np.diff(rows, prepend=-1))
        for number in range(count):
            mixed = (hashes * factors[number] + shifts[number]) >> np.uint64(32)
            signatures[start + rows[begins], number] = np.minimum.reduceat(mixed, begins)
    return signatures


def _proposed(signatures: NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Return pairs that agree in a whole band: each text with the band's first and the one before.

    All pairs of a band would take quadratic time if many rows are alike.
    """
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = signatures[:, band * _ROWS : (band + 1) * _ROWS]
        order = np.lexsort((np.arange(len(part)), *part.T))
        same = np.all(part[order[1:]] == part[order[:-1]], axis=1)
        same &= part[order[1:], 0] != _NOTHING
        first = 0
        for place in range(len(same)):
            if not same[place]:
                first = place + 1
                continue
            one = int(order[place + 1])
            pairs |= {(int(order[first]), one), (int(order[place]), one)}
    return sorted(pairs)


def _likely(
    pairs: Sequence[tuple[int, int]], signatures: NDArray[np.uint32]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose signatures agree in half of the hashes, an estimate of similarity.

    A pair of similarity 0.8 agrees in fewer with probability 0.0001 (binomial, 32 hashes).
    """
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS]
        one, other = np.array(some).T
        same = (signatures[one] == signatures[other]).mean(axis=1) >= _LIKELY
        yield from (pair for pair, likely in zip(some, same, strict=True) if likely)


def _root(parents: NDArray[np.int64], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = int(parents[place])
    return place
