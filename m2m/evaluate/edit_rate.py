"""Translation edit rate (Snover et al. 2006), equal to sacrebleu's `TER()` on ordinary texts.

An edit inserts, deletes or changes a word, or moves words that follow each other. Finding the
fewest edits with moves is NP-hard, so Tercom's rules choose the moves, one after the other: the one
that saves most, then the longest, then the first. The limits are those of sacrebleu's lib_ter.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from m2m.arrays import F64

_LONGEST_MOVE, _FARTHEST_MOVE = 10, 50  # words
_BAND = 25  # words beside the diagonal in which an alignment is looked for
_MOST_MOVES = 1000  # that are tried for a text
_MOST_ROWS = 10_000  # that are kept for a text
_FAR = 10**9

Words = Sequence[str]
Row = list[tuple[int, str]]
Beginning = dict[str, tuple[Row, "Beginning"]]  # by the next word: its row and the words after it


def edit_counts(prediction: str, references: Sequence[str]) -> F64:
    """Return (2,): the edits to the nearest reference, and the mean length of all references."""
    said = prediction.lower().split()
    right = [reference.lower().split() for reference in references]
    fewest = min(_edits(said, words) for words in right)
    return np.array([fewest, sum(map(len, right)) / len(right)], np.float64)


def edit_rate(counts: F64) -> F64:
    """Return the rate in percent, 0 or more, of summed counts (..., 2)."""
    edits, length = counts[..., 0], counts[..., 1]
    rate = np.where(length > 0, edits / np.where(length > 0, length, 1.0), edits > 0)
    percent: F64 = 100.0 * rate
    return percent


def _edits(said: Words, right: Words) -> int:
    if not right:
        return len(said)
    moves = tried = 0
    words, rows = list(said), _Rows(right)
    while True:
        saved, moved, tried = _best_move(words, right, rows, tried)
        if tried >= _MOST_MOVES or saved <= 0:
            return moves + rows.distance(words)
        moves, words = moves + 1, moved


class _Rows:
    """Levenshtein's matrix of a text against one reference; beginnings that texts share are kept.

    A cell is a pair of the number of edits and the last one: "=" or "s" for a word of both sides,
    "d" for a word of the text, "i" for a word of the reference.
    """

    def __init__(self, right: Words) -> None:
        self._right = right
        self._first = [(place, "i") for place in range(len(right) + 1)]
        self._kept: Beginning = {}
        self._count = 0

    def distance(self, words: Words) -> int:
        """Return the number of edits without moves."""
        return self._matrix(words)[-1][-1][0]

    def path(self, words: Words) -> str:
        """Return the edits in order."""
        matrix, edits = self._matrix(words), list[str]()
        row, column = len(words), len(self._right)
        while row or column:
            edit = matrix[row][column][1]
            edits.append(edit)
            row -= edit != "i"
            column -= edit != "d"
        return "".join(reversed(edits))

    def _matrix(self, words: Words) -> list[Row]:
        matrix, size, node = [self._first], len(words), self._kept
        ratio = len(self._right) / size if size else 1.0
        band = int(np.ceil(ratio / 2 + _BAND)) if ratio / 2 > _BAND else _BAND
        for place, word in enumerate(words, start=1):
            if word not in node:
                middle = int(place * ratio)
                end = len(self._right) + 1 if place == size else middle + band
                row = self._row(matrix[-1], word, middle - band, end)
                self._count += 1
                if self._count > _MOST_ROWS:
                    node = {}
                node[word] = (row, {})
            row, node = node[word]
            matrix.append(row)
        return matrix

    def _row(self, above: Row, word: str, start: int, end: int) -> Row:
        row = [(_FAR, "?")] * (len(self._right) + 1)
        for place in range(max(0, start), min(end, len(row))):
            if place == 0:
                row[0] = (above[0][0] + 1, "d")
                continue
            same = word == self._right[place - 1]
            best = (above[place - 1][0] + (not same), "=" if same else "s")
            if above[place][0] + 1 < best[0]:
                best = (above[place][0] + 1, "d")
            if row[place - 1][0] + 1 < best[0]:
                best = (row[place - 1][0] + 1, "i")
            row[place] = best if best[0] < _FAR else (_FAR, "?")
        return row


class _Aligned(NamedTuple):
    """For each word of the reference its place in the text, and which words are wrong."""

    places: list[int]
    right_wrong: list[bool]
    said_wrong: list[bool]


def _aligned(path: str) -> _Aligned:
    made, said = _Aligned([], [], []), -1
    for edit in path:
        if edit != "i":
            said += 1
            made.said_wrong.append(edit != "=")
        if edit != "d":
            made.places.append(said)
            made.right_wrong.append(edit != "=")
    return made


def _best_move(
    words: list[str], right: Words, rows: _Rows, tried: int
) -> tuple[int, list[str], int]:
    """Return the edits that the best move saves, the text after it, and the moves tried so far."""
    before, aligned = rows.distance(words), _aligned(rows.path(words))
    best: tuple[int, int, int, int, list[str]] | None = None
    for start, place, length in _shared(words, right):
        if not any(aligned.said_wrong[start : start + length]):
            continue
        if not any(aligned.right_wrong[place : place + length]):
            continue
        if start <= aligned.places[place] < start + length:
            continue
        for target in _targets(aligned.places, place, length):
            moved = _moved(words, start, length, target)
            move = (before - rows.distance(moved), length, -start, -target, moved)
            tried += 1
            best = move if best is None or move > best else best
        if tried >= _MOST_MOVES:
            break
    return (0, words, tried) if best is None else (best[0], best[4], tried)


def _shared(words: Words, right: Words) -> Iterator[tuple[int, int, int]]:
    """Yield the start in the text, the start in the reference and the length of equal words."""
    for start, place in itertools.product(range(len(words)), range(len(right))):
        if abs(place - start) > _FARTHEST_MOVE:
            continue
        for length in range(min(_LONGEST_MOVE, len(words) - start, len(right) - place)):
            if words[start + length] != right[place + length]:
                break
            yield start, place, length + 1


def _targets(places: Sequence[int], place: int, length: int) -> Iterator[int]:
    """Yield where words may be moved: before the reference's words, each place once."""
    last = -1
    for word in range(place - 1, place + length):
        if word >= len(places):
            return
        target = 0 if word == -1 else places[word] + 1
        if target != last:
            yield target
        last = target


def _moved(words: list[str], start: int, length: int, target: int) -> list[str]:
    part, rest = words[start : start + length], words[:start] + words[start + length :]
    if start <= target <= start + length:
        target += length  # into itself: Tercom moves it behind the next words
    place = target if target < start else target - length
    return rest[:place] + part + rest[place:]
