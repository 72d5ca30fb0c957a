"""Measure row lengths, the cost of a language in tokens, and the distance of two distributions."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.formats.json_fields import JsonFields
from m2m.tokenizer import Tokenizer

# Current vocabularies reach 4 to 4.5 characters per token on English text.
DEAR, RUINOUS = 2.5, 1.2


@dataclass(frozen=True)
class TokenCost(JsonFields):
    """The cost of texts in tokens.

    Attributes:
        tokens: of the texts alone, without a template.
        tokens_per_word: words are separated by white space.
        characters_per_token: fewer cost more; comparable between languages with one alphabet.
        bytes_per_token: UTF-8 bytes; below 1.5 the vocabulary has hardly more than single bytes.
    """

    tokens: int
    tokens_per_word: float
    characters_per_token: float
    bytes_per_token: float


def cost(texts: Sequence[str], tokenizer: Tokenizer) -> TokenCost:
    """Tokenise texts and return their cost."""
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    words = sum(len(text.split()) for text in texts)
    return TokenCost(
        tokens=tokens,
        tokens_per_word=tokens / max(words, 1),
        characters_per_token=sum(map(len, texts)) / max(tokens, 1),
        bytes_per_token=sum(len(text.encode("utf-8", "replace")) for text in texts)
        / max(tokens, 1),
    )


def mostly_letters(texts: Sequence[str]) -> bool:
    """Return whether more than half of the characters, except white space, are letters or marks."""
    kinds = Counter(unicodedata.category(c)[0] for text in texts for c in text if not c.isspace())
    return kinds["L"] + kinds["M"] > kinds.total() / 2


def histogram(lengths: Sequence[int]) -> dict[int, int]:
    """Count the lengths of at most 16, 32, 64, ..., each above the limit before."""
    counts: dict[int, int] = {}
    edge = 16
    while lengths and (not counts or max(counts) < max(lengths)):
        counts[edge] = sum(edge // 2 * (edge > 16) < length <= edge for length in lengths)
        edge *= 2
    return counts


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Return the Jensen-Shannon divergence of two distributions in bits: 0 if equal, 1 if disjoint.

    Lin 1991, "Divergence measures based on the Shannon entropy", eq. 4.1 with equal weights.
    """
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(p: NDArray[np.float64]) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log2(positive)).sum())
