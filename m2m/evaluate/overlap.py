"""Compare a written answer with the right ones: the same answer, token F1, chrF, chrF++.

Answers are compared in the normal form of `m2m.dataset.sameness`; chrF takes the unchanged texts.
"""

from __future__ import annotations

import functools
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from m2m.arrays import F64
from m2m.dataset.sameness import normalize

ORDERS = 6  # of chrF: character n-grams of 1 to 6 letters (Popović 2015, W15-3049)
WORDS = 2  # of chrF++: also n-grams of 1 and 2 words (Popović 2017, W17-4770)
_BETA2 = 4.0  # recall counts beta = 2 times as much as precision
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def words(text: str) -> list[str]:
    """Return the words of a normalised text; scripts without spaces give one word a character."""
    pieces: list[str] = []
    for part in normalize(text).split():
        last = ""
        for char in part:
            mark = unicodedata.category(char).startswith("M")
            if last and (mark or not (_unspaced(char) or _unspaced(last))):
                pieces[-1] += char
            else:
                pieces.append(char)
            last = last if mark and last else char
    return pieces


@functools.lru_cache(maxsize=4096)
def _unspaced(char: str) -> bool:
    return unicodedata.name(char, "").startswith(_UNSPACED)


def answer_match(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the normalised prediction is one of the normalised references, else 0."""
    return float(normalize(prediction) in {normalize(reference) for reference in references})


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Return the best F1 over bags of words with any reference (Rajpurkar et al. 2016, 1606.05250).

    If prediction or reference has no words: 1 if both have none, else 0.
    """
    predicted = Counter(words(prediction))
    return max(_bag_f1(predicted, Counter(words(reference))) for reference in references)


def _bag_f1(predicted: Counter[str], right: Counter[str]) -> float:
    if not predicted or not right:
        return float(predicted == right)
    return 2.0 * (predicted & right).total() / (predicted.total() + right.total())


def chrf_counts(prediction: str, references: Sequence[str], words: int = 0) -> F64:
    """Count the n-grams in the prediction, in the reference and in both: (3 * (6 + words),).

    White space does not count. If there are several references, the one with the best chrF is used,
    as in sacrebleu (metrics/chrf.py), whose `CHRF(word_order=words)` this equals.
    """
    predicted = _ngrams(prediction, words)
    counted = np.array(
        [_matches(predicted, _ngrams(reference, words)) for reference in references], np.float64
    )
    best: F64 = counted[int(chrf(counted).argmax())]
    return best


def _ngrams(text: str, words: int) -> list[Counter[str]]:
    letters, parts = "".join(text.split()), _word_parts(text) if words else []
    return [
        *(
            Counter(letters[i : i + n] for i in range(len(letters) - n + 1))
            for n in range(1, ORDERS + 1)
        ),
        *(
            Counter(" ".join(parts[i : i + n]) for i in range(len(parts) - n + 1))
            for n in range(1, words + 1)
        ),
    ]


def _word_parts(text: str) -> list[str]:
    """Return the words, each with one sign of punctuation cut off its end, or else its start."""
    parts: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            parts += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in string.punctuation:
            parts += [word[0], word[1:]]
        else:
            parts.append(word)
    return parts


def _matches(predicted: list[Counter[str]], right: list[Counter[str]]) -> list[int]:
    return [
        count
        for ours, theirs in zip(predicted, right, strict=True)
        # If the reference is too short for an order, the prediction's n-grams of it do not count.
        for count in (ours.total() if theirs else 0, theirs.total(), (ours & theirs).total())
    ]


def chrf(counts: F64) -> F64:
    """Return chrF, 0 to 100, of summed counts (..., 3n): F-score of mean precision and mean recall.

    The means go over the orders of which both sides have n-grams.
    """
    predicted, right, both = np.moveaxis(counts.reshape(*counts.shape[:-1], -1, 3), -1, 0)
    used = (predicted > 0) & (right > 0)
    orders = np.maximum(used.sum(axis=-1), 1)
    precision = np.where(used, both / np.where(used, predicted, 1.0), 0.0).sum(axis=-1) / orders
    recall = np.where(used, both / np.where(used, right, 1.0), 0.0).sum(axis=-1) / orders
    below = _BETA2 * precision + recall
    score: F64 = 100 * (1 + _BETA2) * precision * recall / np.where(below > 0, below, 1.0)
    return score
