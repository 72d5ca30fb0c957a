"""Find rows that are probably in another language than the rest of their file.

The files themselves are the reference, so this works for languages that no language detector knows.
Every part of a file (its questions, its answers) has a profile of character n-grams (Cavnar and
Trenkle 1994). Two parts count as different languages if their bigrams differ clearly. A row is
reported if the trigrams of another language make it far likelier than those of its own part, from
which its own trigrams are left out. The usual packages know only a fixed list of languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.dataset.grams import character_grams, chunks, letters
from m2m.dataset.statistics import divergence

# Jensen-Shannon divergence (bits) of bigrams. Measured on eight files of four languages: parts in
# one language 0.00 to 0.10, lists of names 0.13 to 0.16, Swahili and Chichewa (both Bantu) 0.16,
# Swahili and Hausa 0.22, Swahili and English 0.40.
OTHER_LANGUAGE = 0.12
# Question and answer of one file share names and loanwords, so they must differ by more.
_OTHER_SIDE = 0.2
# A row is reported from odds of e^10 : 1. This found 85 to 100 % of the rows planted from another
# file, and wrongly 0 to 2 % of the others, because of loanwords and names.
_ODDS = 10.0
_LEAST_GRAMS = 8
_LEAST_TEXTS = 30
MOST_TEXTS = 20_000  # of a part; more texts add nothing about its language
_BINS = 1 << 16
_SMOOTH, _VOCABULARY = 0.05, 20_000

Passage = tuple[str, str]  # file and side


@dataclass(frozen=True)
class Suspect:
    """A row that reads like another part.

    Attributes:
        row: its place in its part.
        like: the part that it reads like.
        odds: how many nats likelier that part is.
    """

    row: int
    like: Passage
    odds: float


class Languages:
    """Profiles of the parts of files.

    Args:
        parts: the texts of each (file, side), without the words that an instruction repeats. Over
            `MOST_TEXTS`, evenly spaced ones are used; under 30, the part is left out.
    """

    def __init__(self, parts: Mapping[Passage, Sequence[str]]) -> None:
        self._rows: dict[Passage, NDArray[np.int64]] = {}
        self._grams: dict[Passage, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
        self._counts: dict[Passage, NDArray[np.float64]] = {}
        self._bigrams: dict[Passage, NDArray[np.float64]] = {}
        for part, texts in parts.items():
            if len(texts) < _LEAST_TEXTS:
                continue
            rows = np.linspace(0, len(texts) - 1, min(len(texts), MOST_TEXTS)).astype(np.int64)
            words = [letters(texts[i]) for i in rows]
            bigrams, trigrams = _binned(words, 2)[0], _binned(words, 3)
            if not len(trigrams[0]):
                continue
            self._rows[part], self._grams[part] = rows, trigrams
            self._counts[part] = np.bincount(trigrams[0], minlength=_BINS).astype(np.float64)
            counts = np.bincount(bigrams, minlength=_BINS).astype(np.float64)
            self._bigrams[part] = counts / counts.sum()

    def distance(self, one: Passage, other: Passage) -> float | None:
        """Return the distance of two parts, 0 to 1 bit; None if one of them is too small."""
        if one not in self._bigrams or other not in self._bigrams:
            return None
        return divergence(self._bigrams[one], self._bigrams[other])

    def suspects(self, part: Passage) -> list[Suspect]:
        """Return the rows of a part that are probably in the language of another, best first."""
        others = [other for other in self._rows if self._is_foreign(part, other)]
        if part not in self._rows or not others:
            return []
        rows = self._grams[part][1]
        sizes = np.bincount(rows, minlength=len(self._rows[part]))
        own = self._own(part)
        odds = np.stack([self._likelihood(other, part) - own for other in others])
        best = odds.argmax(axis=0)
        clear = (odds.max(axis=0) > _ODDS) & (sizes >= _LEAST_GRAMS)
        foreign = [
            Suspect(int(self._rows[part][i]), others[best[i]], float(odds[best[i], i]))
            for i in np.flatnonzero(clear)
        ]
        return sorted(foreign, key=lambda suspect: -suspect.odds)

    def _is_foreign(self, part: Passage, other: Passage) -> bool:
        distance = self.distance(part, other)
        limit = _OTHER_SIDE if part[0] == other[0] else OTHER_LANGUAGE
        # Files that name the same language are not compared row by row.
        same = part[1] == other[1] and tag(part[0]) is not None and tag(part[0]) == tag(other[0])
        return distance is not None and distance > limit and not same

    def _likelihood(self, model: Passage, part: Passage) -> NDArray[np.float64]:
        """Return (rows of `part`,) log-likelihoods in nats by the trigrams of `model`."""
        counts, (bins, rows) = self._counts[model], self._grams[part]
        log_probability = np.log((counts + _SMOOTH) / (counts.sum() + _SMOOTH * _VOCABULARY))
        return _sums(log_probability[bins], rows, len(self._rows[part]))

    def _own(self, part: Passage) -> NDArray[np.float64]:
        """Return the same by the part itself, without each row's own trigrams."""
        counts, (bins, rows) = self._counts[part], self._grams[part]
        _, where, times = np.unique(
            rows.astype(np.int64) * _BINS + bins, return_inverse=True, return_counts=True
        )
        sizes = np.bincount(rows, minlength=len(self._rows[part]))
        rest = counts[bins] - times[where] + _SMOOTH
        whole = counts.sum() - sizes[rows] + _SMOOTH * _VOCABULARY
        return _sums(np.log(rest / whole), rows, len(self._rows[part]))


def tag(file: str) -> str | None:
    """Return the language in a file name: two or three letters before "_", "-" or "."."""
    head = file.replace("-", "_").replace(".", "_").partition("_")
    return head[0].lower() if head[1] and head[0].isalpha() and 2 <= len(head[0]) <= 3 else None


def _binned(words: Sequence[str], size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    bins, rows = list[NDArray[np.int32]](), list[NDArray[np.int32]]()
    for start, end in chunks(words):
        hashes, places = character_grams(words[start:end], size)
        bins.append((hashes % np.uint64(_BINS)).astype(np.int32))
        rows.append((places + start).astype(np.int32))
    return np.concatenate(bins), np.concatenate(rows)


def _sums(values: NDArray[np.float64], rows: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    return np.bincount(rows, values, count).astype(np.float64)
