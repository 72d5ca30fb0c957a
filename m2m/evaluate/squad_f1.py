"""F1 of written answers as some task files of lm-evaluation-harness aggregate it, in Python.

`m2m` runs no code of a task: these are the same formulas, found by the names of the functions.
Equal to AfroBench's `afriqa/prompt_1/utils.py` and `masakhaner/prompt_1/utils.py` (lm-eval 0.4.13).
"""

from __future__ import annotations

import collections
import re
import string

import numpy as np

from m2m.arrays import F64

_NONE = 1e-13  # keeps a share of nothing at 0
_SIGNS = re.compile("[" + re.escape("!\"$%&'()*+,-./:;<=>?[\\]^_`{|}~•@") + "]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_f1(prediction: str, reference: str) -> float:
    """Return F1 over the bags of words, as SQuAD's script v1.1 computes it."""
    found, right = _words(prediction), _words(reference)
    same = sum((collections.Counter(found) & collections.Counter(right)).values())
    if not same:
        return 0.0
    precision, recall = same / len(found), same / len(right)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def span_counts(prediction: str, references: tuple[str, ...]) -> F64:
    """Return (3,) numbers of found, invented and missed entities of an answer.

    An answer lists them as "label: entity $ label: entity".
    """
    missed, found, invented = _spans(references[0]), 0, 0
    for span in _spans(prediction):
        if span in missed:
            missed.remove(span)
            found += 1
        else:
            invented += 1
    return np.array([found, invented, len(missed)], np.float64)


def span_f1(counts: F64) -> F64:
    """Return F1 of summed counts (..., 3)."""
    found, invented, missed = (counts[..., place] for place in range(3))
    precision, recall = found / (found + invented + _NONE), found / (found + missed + _NONE)
    score: F64 = 2.0 * (precision * recall) / (precision + recall + _NONE)
    return score


def _spans(text: str) -> list[tuple[str, str]]:
    parts = [
        item.strip()
        for part in text.strip().split("$$")
        for entity in part.split("$")
        if entity
        for value in entity.strip().split(". ")
        for item in value.split(", ")
    ]
    pairs = [part.split(": ") for part in parts]
    return [(_plain(pair[0]), _plain(pair[1])) for pair in pairs if len(pair) == 2]


def _plain(text: str) -> str:
    text = _ARTICLES.sub(" ", _SIGNS.sub(" ", text.strip()))
    return re.sub(r"\s+", " ", re.sub(r"\s{3,}|\t", "", text)).lower()
