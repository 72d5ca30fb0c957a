"""BLEU of written answers, equal to sacrebleu's `corpus_bleu` (Post 2018, W18-6319).

Counts of each answer are summed before the score is computed, so one bootstrap serves it as any
other metric. Tokenizers: "13a" (mteval-v13a.pl, sacrebleu's default and the harness's "bleu"),
"intl" (mteval-v14.pl) and "char".
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from m2m.arrays import F64

ORDERS = 4  # n-grams of 1 to 4 tokens
_ESCAPED = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# Of ASCII, all punctuation is a token, except the apostrophe, and between digits "." "," and "-".
_13A = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
# The same rules over Unicode's classes; here a text is written as the classes of its characters.
_INTL = (
    (re.compile("[^N]P"), "{0}{1} "),
    (re.compile("P[^N]"), " {0} {1}"),
    (re.compile("S"), " {0} "),
)


def tokens(text: str, how: str = "13a") -> list[str]:
    """Return the tokens of a text: `how` is "13a", "intl" or "char"."""
    text = text.rstrip()
    if how == "char":
        return [char for char in text if not char.isspace()]
    if how == "intl":
        return _international(text).split()
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escaped, plain in _ESCAPED:
        text = text.replace(escaped, plain)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


def _international(text: str) -> str:
    for pattern, spaced in _INTL:
        kinds = "".join(_kind(char) for char in text)
        parts, done = [], 0
        for match in pattern.finditer(kinds):
            parts += [text[done : match.start()], spaced.format(*text[slice(*match.span())])]
            done = match.end()
        text = "".join([*parts, text[done:]])
    return text


@functools.lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    return unicodedata.category(char)[0]


def bleu_counts(prediction: str, references: Sequence[str], how: str = "13a") -> F64:
    """Count n-grams: (10,), of orders 1 to 4 those that are right and all, then both lengths.

    The second length is that of the reference nearest in length, the shorter one of two.
    """
    predicted = tokens(prediction, how)
    right = [tokens(reference, how) for reference in references]
    most: Counter[tuple[str, ...]] = Counter()
    for reference in right:
        most |= _ngrams(reference)
    correct = [0] * ORDERS
    for ngram, count in (_ngrams(predicted) & most).items():
        correct[len(ngram) - 1] += count
    total = [max(0, len(predicted) - order) for order in range(ORDERS)]
    nearest = min((abs(len(r) - len(predicted)), len(r)) for r in right)[1]
    return np.array([*correct, *total, len(predicted), nearest], np.float64)


def _ngrams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[i : i + order])
        for order in range(1, ORDERS + 1)
        for i in range(len(words) - order + 1)
    )


def bleu(counts: F64) -> F64:
    """Return BLEU, 0 to 100, of summed counts (..., 10).

    An order without right n-grams counts as half a right one, the next such order as a quarter, and
    so on (`smooth_method="exp"`); without n-grams of an order the score is 0.
    """
    correct, total = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    length, expected = counts[..., -2], counts[..., -1]
    missed = (correct == 0) & (total > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), correct)
    defined = (total > 0).all(axis=-1) & (correct > 0).any(axis=-1)
    precision = np.where(total > 0, smoothed / np.where(total > 0, total, 1.0), 1.0)
    mean = np.exp(np.log(np.where(precision > 0, precision, 1.0)).mean(axis=-1))
    short = np.exp(np.minimum(0.0, 1 - expected / np.where(length > 0, length, 1.0)))
    score: F64 = np.where(defined, 100 * short * mean, 0.0)
    return score
