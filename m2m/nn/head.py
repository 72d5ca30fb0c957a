"""Compute the output head's loss; logits exist for one block of the vocabulary at a time.

    loss = sum_m (log sum_v exp(h_m . e_v) - h_m . e_target),    dh = softmax(h E') E - E[target]

Each numerator of the softmax is multiplied into E at once, and their sum divides the result. So
each logit is computed once. Sums over parts of the vocabulary add up: each thread takes a part, for
all positions. Few positions against a whole vocabulary would be limited by memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.kernels import bfloat16
from m2m.nn.functional import widen, widened
from m2m.nn.workspace import Workspace

POSITIONS = 512  # rows of h at a time
VOCABULARY = 256  # least rows of E in one block
LOGITS = 1 << 20  # elements of one block of logits: 4 MiB of float32
MOST_ROWS = 8192  # most rows of E in one block, even for few positions

# exp without a shift is exact enough while its sum stays far from both ends of float32's range, as
# it does in real models. Outside this range the block is computed again, less the maximum.
SUM_RANGE = (1e-25, 1e30)


Options = tuple[bool, float, Array | None]


class Numerators(NamedTuple):
    """The sums over a part of the vocabulary.

    sums (M,): `sum_v exp(h_m . e_v - shift_m)`; product (M, C): `sum_v exp(...) e_v`, or None;
    shift (M,).
    """

    sums: Array
    product: Array | None
    shift: Array

    def of(self, rows: slice) -> Numerators:
        """Return the sums of some positions."""
        product = None if self.product is None else self.product[rows]
        return Numerators(self.sums[rows], product, self.shift[rows])


def cross_entropy(
    h: Array, embedding: Array, target: NDArray[np.integer[Any]], dh: Array | None, space: Workspace
) -> float:
    """Return the loss in nats, summed in float64; write its gradient into dh, (M, C), if given.

    h: (M, C); embedding: (V, C); target: (M,).
    """
    whole = numerators(h, embedding, dh is not None, space)
    return settle(h, embedding, target, [whole], dh)


def capped(logits: Array, cap: float) -> Array:
    """Turn logits z into cap * tanh(z / cap), in place, and return them."""
    logits *= 1.0 / cap
    np.tanh(logits, out=logits)
    logits *= cap
    return logits


def logits(h: Array, embedding: Array, space: Workspace, *, bias: Array | None = None) -> Array:
    """Return the logits of h, (M, C), for `embedding`, (V, C), and biases (V,) or None: (M, V)."""
    out, start = np.empty((len(h), len(embedding)), h.dtype), 0
    for block, buffer in _vocabulary(h, embedding, space, (False, 0.0, bias)):
        end = start + buffer.shape[1]
        block.logits(h, out[:, start:end])
        start = end
    return out


def numerators(
    h: Array,
    embedding: Array,
    grad: bool,
    space: Workspace,
    *,
    rounded: bool = False,
    cap: float = 0.0,
    bias: Array | None = None,
) -> Numerators:
    """Return the sums over `embedding`, (V, C) or some rows of it, for h, (M, C).

    rounded: multiply in bfloat16; all inputs must be float32, and sums are still float32.
    cap: logits z become cap * tanh(z / cap), and `product` has the slope as a factor; 0: they do
    not.
    bias: (V,) numbers that are added to the logits, or None.
    """
    options = (rounded, cap, bias)
    sums, shift = np.empty(len(h), h.dtype), np.zeros(len(h), h.dtype)
    product = space.get("head.sum", *h.shape) if grad else None
    for start in range(0, len(h), POSITIONS):
        part = slice(start, min(len(h), start + POSITIONS))
        into = None if product is None else product[part]
        with np.errstate(over="ignore", invalid="ignore"):
            sums[part] = _sum(h[part], embedding, None, into, space, options)
        if not (sums[part].min() > SUM_RANGE[0] and sums[part].max() < SUM_RANGE[1]):
            shift[part] = _maxima(h[part], embedding, space, options)
            if cap:
                shift[part] = capped(shift[part], cap)
            sums[part] = _sum(h[part], embedding, shift[part, None], into, space, options)
    return Numerators(sums, product, shift)


def settle(
    h: Array,
    embedding: Array,
    target: NDArray[np.integer[Any]],
    parts: Sequence[Numerators],
    dh: Array | None,
    *,
    cap: float = 0.0,
    bias: Array | None = None,
) -> float:
    """Return the loss from the sums over all parts of the vocabulary; shapes as in `numerators`."""
    top = np.max([part.shift for part in parts], axis=0)
    scales = [np.exp(part.shift - top) for part in parts]
    total = np.zeros(len(h), h.dtype)
    for part, scale in zip(parts, scales, strict=True):
        total += part.sums * scale
    rows = widened(embedding[target], h.dtype)
    picked = np.einsum("mc,mc->m", h, rows, dtype=np.float64)
    if bias is not None:
        picked += bias[target]
    slope = None
    if cap:
        picked = capped(picked, cap)
        slope = 1.0 - (picked[:, None] / cap) ** 2
    if dh is not None:
        np.negative(rows, out=dh)
        if slope is not None:
            dh *= slope.astype(dh.dtype)
        for part, scale in zip(parts, scales, strict=True):
            if part.product is not None:
                dh += part.product * (scale / total)[:, None]
    return float((np.log(total.astype(np.float64)) + top - picked).sum())


@dataclass(frozen=True)
class _Block:
    """Rows of E, (n, C), in the dtype of h, and their biases, (n,) or None."""

    rows: Array
    bias: Array | None

    def logits(self, h: Array, out: Array) -> None:
        """Write `h @ rows.T`, (m, n)."""
        np.matmul(h, self.rows.T, out=out)
        if self.bias is not None:
            out += self.bias

    def product(self, weights: Array, out: Array) -> None:
        """Write `weights @ rows`, (m, C)."""
        np.matmul(weights, self.rows, out=out)


@dataclass(frozen=True)
class _Rounded:
    """The same rows in bfloat16, once per direction as in `matrix`; made again for every use."""

    across: bfloat16.BF16  # (n, C)
    along: bfloat16.BF16  # (C, n)
    bias: Array | None

    @classmethod
    def of(cls, rows: Array, bias: Array | None, space: Workspace) -> _Rounded:
        """Return (n, C) float32 rows rounded to bfloat16."""
        across, along = (
            space.get(name, -(-rows.size // 2)).view(np.uint16)[: rows.size].reshape(shape)
            for name, shape in (("head.across", rows.shape), ("head.along", rows.T.shape))
        )
        bfloat16.narrow(rows, across)
        along[...] = across.T
        return cls(across, along, bias)

    def logits(self, h: Array, out: Array) -> None:
        """Write `h @ rows.T`, (m, n)."""
        bfloat16.multiply(h, self.across, out)
        if self.bias is not None:
            out += self.bias

    def product(self, weights: Array, out: Array) -> None:
        """Write `weights @ rows`, (m, C)."""
        bfloat16.multiply(weights, self.along, out)


def _vocabulary(
    h: Array, embedding: Array, space: Workspace, options: Options
) -> Iterator[tuple[_Block | _Rounded, Array]]:
    """Yield E in blocks, cast to h's dtype, each with the buffer of its logits, (m, block)."""
    rounded, _, biases = options
    size = max(VOCABULARY, min(MOST_ROWS, LOGITS // len(h)))
    if rounded:  # the block is the inner size of the next product
        size = max(1, size // bfloat16.ALIGNED) * bfloat16.ALIGNED
    for start in range(0, len(embedding), size):
        chunk = embedding[start : start + size]
        if chunk.dtype != h.dtype:
            cast = space.get("head.chunk", *chunk.shape)
            widen(chunk, cast)
            chunk = cast
        bias = None if biases is None else biases[start : start + size]
        block = _Rounded.of(chunk, bias, space) if rounded else _Block(chunk, bias)
        yield block, space.get("head.logits", len(h), len(chunk))


def _maxima(h: Array, embedding: Array, space: Workspace, options: Options) -> Array:
    """Return the largest logit of each position, (m,)."""
    top = np.full(len(h), -np.inf, h.dtype)
    for block, logits in _vocabulary(h, embedding, space, options):
        block.logits(h, logits)
        np.maximum(top, logits.max(axis=1), out=top)
    return top


def _sum(
    h: Array,
    embedding: Array,
    shift: Array | None,
    product: Array | None,
    space: Workspace,
    options: Options,
) -> Array:
    """Return `sum_v exp(logit - shift)`, (m,); write `exp(logits - shift) @ E`, (m, C).

    options: `rounded`, `cap` and `bias` of `numerators`.
    """
    cap = options[1]
    sums = np.zeros(len(h), h.dtype)
    if product is not None:
        product[...] = 0.0
        more = space.get("head.product", *product.shape)
    for block, logits in _vocabulary(h, embedding, space, options):
        block.logits(h, logits)
        if cap:
            capped(logits, cap)
            slope = 1.0 - np.square(logits * (1.0 / cap))
        if shift is not None:
            logits -= shift
        np.exp(logits, out=logits)
        sums += logits @ np.ones(logits.shape[1], h.dtype)
        if product is not None:
            if cap:
                logits *= slope
            block.product(logits, more)
            product += more
    return sums
