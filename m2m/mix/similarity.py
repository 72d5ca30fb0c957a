"""What a ranking of mixtures has to beat: predictors that merge nothing.

One goes by likeness to the target and needs no training: a dataset is like a target when its tokens
occur as often as the target's do. The other averages the scores of the experts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2m.mix.mixture import Mixture

Floats = NDArray[np.float64]


def token_shares(sequences: Iterable[ArrayLike], vocabulary: int) -> Floats:
    """(V,) share of each token among all tokens of some sequences; they sum to 1."""
    ids = np.concatenate([np.asarray(sequence, np.int64) for sequence in sequences])
    shares: Floats = np.bincount(ids, minlength=vocabulary) / len(ids)
    return shares


def divergence(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence in bits: 0 for the same shares, 1 for no token in common.

    Lin 1991, "Divergence measures based on the Shannon entropy", eq. 4.1 with equal weights.
    """
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(p: Floats) -> float:
    seen = p[p > 0]
    return float(-(seen * np.log2(seen)).sum())


def weight_matrix(mixtures: Sequence[Mixture], names: Sequence[str]) -> Floats:
    """(n, N) weights of n mixtures over N datasets; times the singles' scores: their mean."""
    weights = np.zeros((len(mixtures), len(names)))
    for row, mixture in zip(weights, mixtures, strict=True):
        for name, weight in zip(mixture.datasets, mixture.weights, strict=True):
            row[names.index(name)] = weight
    return weights


def likeness(weights: Floats, shares: Floats, target: Floats) -> Floats:
    """(n,) how much like the target each mixture's tokens are, from -1 (not at all) to 0.

    Args:
        weights: (n, N) of n mixtures over N datasets.
        shares: (N, V) of the datasets' tokens.
        target: (V,) of the target's tokens.
    """
    return -np.array([divergence(row @ shares, target) for row in weights])
