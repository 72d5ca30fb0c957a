"""How similar mixtures are to the target: predictors that need no training.

One compares how often tokens occur, the other the base's hidden states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from m2m.arrays import F64
from m2m.dataset.statistics import divergence
from m2m.mix.mixture import Mixture, weight_matrix

_TOGETHER = 4096  # rows that are counted at once: bounds memory


def token_frequencies(sequences: Iterable[ArrayLike], vocabulary: int) -> F64:
    """Return the (V,) frequency of each token among all tokens of some sequences; they sum to 1."""
    counts, rows = np.zeros(vocabulary, np.int64), iter(sequences)
    while some := [np.asarray(sequence, np.int64) for sequence in islice(rows, _TOGETHER)]:
        counts += np.bincount(np.concatenate(some), minlength=vocabulary)
    frequencies: F64 = counts / counts.sum()
    return frequencies


def likeness(mixtures: Sequence[Mixture], frequencies: Mapping[str, F64], target: F64) -> F64:
    """Return (n,) how similar each mixture's tokens are to the target's: -1 (not at all) to 0.

    Args:
        mixtures: n of them.
        frequencies: (V,) of each dataset's tokens, by its name.
        target: (V,) of the target's tokens.
    """
    mixed = weight_matrix(mixtures, list(frequencies)) @ np.stack(list(frequencies.values()))
    return -np.array([divergence(row, target) for row in mixed])


def cosines(mixtures: Sequence[Mixture], means: Mapping[str, F64], target: F64) -> F64:
    """Return (n,) the cosine of each mixture's mean vector with the target's.

    Args:
        mixtures: n of them.
        means: (C,) mean hidden state of each dataset's tokens, by its name.
        target: (C,) of the target's.
    """
    mixed = weight_matrix(mixtures, list(means)) @ np.stack(list(means.values()))
    scale = np.linalg.norm(mixed, axis=1) * np.linalg.norm(target)
    found: F64 = np.zeros(len(mixed))
    np.divide(mixed @ target, scale, out=found, where=scale > 0)
    return found
