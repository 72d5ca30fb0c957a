"""The output head with its loss: logits exist one block of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.nn.functional import Array, widen
from m2m.nn.workspace import Workspace

POSITIONS = 512  # rows of h at a time
VOCABULARY = 256  # least rows of E in one block
LOGITS = 1 << 20  # elements of one block of logits: 4 MiB of float32

# exp without a shift is exact enough while its sum stays far from both ends of float32's range;
# real models' logits do. Outside of it the block is computed again with the maximum taken off.
SUM_RANGE = (1e-25, 1e30)


def cross_entropy(
    h: Array, embedding: Array, target: NDArray[np.integer[Any]], dh: Array | None, space: Workspace
) -> float:
    """Return `sum_m (log sum_v exp(h_m . e_v) - h_m . e_target)` in nats, summed in float64.

    h: (M, C); embedding: (V, C); target: (M,). Where dh (M, C) is given it becomes
    `softmax(h E') E - E[target]`, from the same blocks: the softmax's numerators are multiplied
    into E as they come and the sum divides the result, so each logit is computed once.
    """
    total = 0.0
    for start in range(0, len(h), POSITIONS):
        part = slice(start, min(len(h), start + POSITIONS))
        into = None if dh is None else dh[part]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = _numerators(h[part], embedding, None, into, space)
        shift = None
        if not (sums.min() > SUM_RANGE[0] and sums.max() < SUM_RANGE[1]):
            shift = _maxima(h[part], embedding, space)
            sums = _numerators(h[part], embedding, shift, into, space)
        rows = embedding[target[part]].astype(h.dtype, copy=False)
        picked = np.einsum("mc,mc->m", h[part], rows, dtype=np.float64)
        logs = np.log(sums.astype(np.float64))
        if shift is not None:
            logs += shift[:, 0]
        total += float((logs - picked).sum())
        if into is not None:
            into /= sums[:, None]
            into -= rows
    return total


def _vocabulary(h: Array, embedding: Array, space: Workspace) -> Iterator[tuple[Array, Array]]:
    """Yield E in blocks, cast to h's dtype, each with the buffer of its logits, (m, block)."""
    size = max(VOCABULARY, LOGITS // len(h))
    for start in range(0, len(embedding), size):
        chunk = embedding[start : start + size]
        if chunk.dtype != h.dtype:
            cast = space.get("head.chunk", *chunk.shape)
            widen(chunk, cast)
            chunk = cast
        yield chunk, space.get("head.logits", len(h), len(chunk))


def _maxima(h: Array, embedding: Array, space: Workspace) -> Array:
    """Return the largest logit of each position, (m, 1)."""
    top = np.full((len(h), 1), -np.inf, h.dtype)
    for chunk, logits in _vocabulary(h, embedding, space):
        np.matmul(h, chunk.T, out=logits)
        np.maximum(top, logits.max(axis=1, keepdims=True), out=top)
    return top


def _numerators(
    h: Array, embedding: Array, shift: Array | None, dh: Array | None, space: Workspace
) -> Array:
    """Return `sum_v exp(logit - shift)`, (m,); write `exp(logits - shift) @ E` into dh, (m, C)."""
    sums = np.zeros(len(h), h.dtype)
    if dh is not None:
        dh[...] = 0.0
        product = space.get("head.product", *dh.shape)
    for chunk, logits in _vocabulary(h, embedding, space):
        np.matmul(h, chunk.T, out=logits)
        if shift is not None:
            logits -= shift
        np.exp(logits, out=logits)
        sums += logits @ np.ones(len(chunk), h.dtype)
        if dh is not None:
            np.matmul(logits, chunk, out=product)
            dh += product
    return sums
