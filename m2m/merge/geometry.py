"""Lengths and angles of adapters' deltas, computed without making a delta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2m.adapter import Adapter
from m2m.arrays import F64
from m2m.blas import one_blas_thread
from m2m.checkpoint import BaseModel


@one_blas_thread()  # products of low rank gain nothing from more
def gram_matrix(adapters: Sequence[Adapter]) -> F64:
    """Return (N, N) inner products <d_i, d_j> of N adapters' deltas, summed over all projections.

    Only the factors are used, so the cost is the rank times the sides of the weight, not their
    product: <B_i A_i, B_j A_j> = tr(A_i' B_i' B_j A_j) = sum((B_i' B_j) * (A_i A_j')).
    """
    gram = np.zeros((len(adapters), len(adapters)))
    for module in dict.fromkeys(module for adapter in adapters for module in adapter.pairs):
        having = [i for i, adapter in enumerate(adapters) if module in adapter.pairs]
        pairs = [adapters[i].pairs[module] for i in having]
        down = np.concatenate([pair.a for pair in pairs])
        up = np.concatenate([pair.scale * pair.b for pair in pairs], axis=1)
        starts = np.cumsum([0, *(pair.rank for pair in pairs[:-1])])
        products = (down @ down.T).astype(np.float64) * (up.T @ up)
        sums = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)
        gram[np.ix_(having, having)] += sums
    return gram


def base_norm(base: BaseModel, adapters: Sequence[Adapter]) -> float:
    """Return the Frobenius norm of all weights of the base that at least one adapter changes."""
    modules = dict.fromkeys(module for adapter in adapters for module in adapter.pairs)
    squares = (np.square(base.weights[f"{m}.weight"], dtype=np.float64).sum() for m in modules)
    return float(np.sqrt(sum(squares)))
