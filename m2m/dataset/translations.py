"""Distinguish wrong answers from answers in two languages, if one question has both.

This code knows no language. If one answer of every pair is in Swahili and the other in Hausa, the
pairs differ in the same direction, and pairs drawn at random from the same answers do not. Wrong
answers (a column sorted separately, a slip) differ in all directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.dataset.grams import character_grams

_LEAST_PAIRS = 10  # with fewer, chance alone can look like a direction
_MOST_PAIRS = 100
_BINS = 1 << 9
_TURNS, _PAIRINGS = 49, 19  # random draws, all of which must be less clear
_CLEARLY = 1.15  # times the clearest random pairing
_ROUNDS = 8
_SMOOTH = 0.1

Pair = tuple[str, str]
Matrix = NDArray[np.float64]


def disputed(
    questions: Sequence[str], answers: Sequence[str], others: Iterable[Pair]
) -> list[Pair]:
    """Return the answers of each question with two: the rows' first, and the first other one."""
    known: dict[str, list[str]] = {}
    for question, answer in others:
        known.setdefault(question, []).append(answer)
    pairs: dict[str, Pair] = {}
    for question, answer in zip(questions, answers, strict=True):
        other = next(
            (candidate for candidate in known.get(question, ()) if candidate != answer), None
        )
        if other is not None:
            pairs.setdefault(question, (answer, other))
    return [*pairs.values()]


def differ_alike(pairs: Sequence[Pair], seed: int = 0) -> bool:
    """Return whether the two answers of all pairs differ in one direction, as two languages do.

    False for fewer than ten pairs and for a closed set of answers (labels), which can be wrong in
    one direction too.

    Args:
        pairs: comparable texts (`grams.comparable`).
        seed: of the random pairings.
    """
    rng = np.random.default_rng(seed)
    if len(pairs) > _MOST_PAIRS:
        pairs = [pairs[i] for i in rng.permutation(len(pairs))[:_MOST_PAIRS]]
    texts = [text for pair in pairs for text in pair]
    if len(pairs) < _LEAST_PAIRS or len(set(texts)) < len(texts) / 2:
        return False
    counts = _bigrams(texts)
    one, other = counts[::2], counts[1::2]
    # In the given order (two files, or later rows) fewer pairs are enough than with swaps.
    turns = (rng.random((len(pairs), 1)) < 0.5 for _ in range(_TURNS))
    if _is_clear(_odds(one, other).mean(), (_odds(*_turned(one, other, t)).mean() for t in turns)):
        return True
    mixed = (counts[rng.permutation(len(counts))] for _ in range(_PAIRINGS))
    return _is_clear(_split_odds(one, other), (_split_odds(m[::2], m[1::2]) for m in mixed))


def told_apart(texts: Sequence[str], labels: NDArray[np.bool_]) -> float:
    """Return the fraction of texts whose pairs of characters fit the other texts of their label.

    Args:
        texts: n texts of two languages.
        labels: (n,) whether a text is of the first one.
    """
    counts = _bigrams(texts)
    one, two = counts[labels].sum(axis=0), counts[~labels].sum(axis=0)
    own, other = np.where(labels[:, None], one, two) - counts, np.where(labels[:, None], two, one)
    odds = counts * (_log_fractions(own) - _log_fractions(other))
    return float((odds.sum(axis=1) > 0).mean())


def _is_clear(odds: float, by_chance: Iterable[float]) -> bool:
    return odds > 0 and all(odds > _CLEARLY * value for value in by_chance)


def _bigrams(texts: Sequence[str]) -> Matrix:
    """Return (texts, bins) counts of hashed pairs of characters."""
    hashes, rows = character_grams(texts, 2)
    places = rows * _BINS + (hashes % np.uint64(_BINS)).astype(np.int64)
    counts = np.bincount(places, minlength=len(texts) * _BINS).reshape(len(texts), _BINS)
    return counts.astype(np.float64)


def _odds(left: Matrix, right: Matrix) -> NDArray[np.float64]:
    """Return (n,) nats by which each pair fits its sides better than when swapped.

    A pair's own counts are left out when it is judged.
    """
    odds: NDArray[np.float64] = ((left - right) * (_logs(left) - _logs(right))).sum(axis=1)
    return odds


def _split_odds(one: Matrix, other: Matrix) -> float:
    """Return the mean of `_odds` after every pair is swapped to its best order."""
    left, right = _turned(one, other, _first_guess(one, other))
    odds = _odds(left, right)
    for _ in range(_ROUNDS):
        if not (odds < 0).any():
            break
        left, right = _turned(left, right, (odds < 0)[:, None])
        odds = _odds(left, right)
    return float(odds.mean())


def _turned(one: Matrix, other: Matrix, turn: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
    return np.where(turn, other, one), np.where(turn, one, other)


def _logs(part: Matrix) -> Matrix:
    """Return (n, bins) log fractions of a profile, without each text's own counts."""
    return _log_fractions(part.sum(axis=0) - part)


def _log_fractions(counts: Matrix) -> Matrix:
    smooth = counts + _SMOOTH
    logs: Matrix = np.log(smooth / smooth.sum(axis=1, keepdims=True))
    return logs


def _first_guess(one: Matrix, other: Matrix) -> NDArray[np.bool_]:
    """Return (n, 1) whether to swap each pair so that all differ in the direction of most."""
    differences = np.sqrt(one) - np.sqrt(other)
    gram = differences @ differences.T
    return (np.linalg.eigh(gram)[1][:, -1] < 0)[:, None]
