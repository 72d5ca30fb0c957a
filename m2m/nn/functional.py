"""Element-wise kernels in pairs: forward, then backward, with formula and shapes.

Letters of this package: T tokens of a batch (prefix and rows, packed), S rows of a group, N their
padded length, C channels, F MLP width, H query heads, K key/value heads, G = H / K, D head dim,
R rank, V vocabulary, M positions with loss. Kernels keep the dtype of their input and write into
arrays of the caller. They work in blocks of rows that stay in cache, because memory limits the
speed of a chain of element-wise passes over a whole activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.kernels import float16

# Elements of one operand in a block, 512 KiB of float32. With a third of this, five operands would
# fit an L2 cache, but threads wait for each other at every call: larger blocks save two of three
# calls and are 1 % faster.
BLOCK = 1 << 17


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Cut `rows` rows of `width` elements into cache-sized slices."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


@contextmanager
def unbuffered() -> Iterator[None]:
    """Keep NumPy from copying rows of wider arrays through its cast buffer; kernels need no cast.

    NumPy 2.4 copies every operand that is not one contiguous run (for example, columns of a wider
    array) through buffers of `np.getbufsize()` elements, at up to three times the cost of the
    work itself. With the least buffer size it works in place.
    """
    before = np.setbufsize(16)
    try:
        yield
    finally:
        np.setbufsize(before)


BITS = np.dtype(np.uint16)  # of weights in bfloat16, which NumPy has no type for


def widen(source: NDArray[Any], out: Array, factor: Array | float = 1.0) -> None:
    """Write weights, (rows, columns), into out, in its dtype, times a number or one per column.

    A block is cast into a scratch buffer, in cache, and multiplied into its place.

    Args:
        source: floats, or bfloat16 as uint16.
        out: floats; bfloat16 only if the source is, and without a factor.
        factor: multiplies the weights.
    """
    scaled = not isinstance(factor, float) or factor != 1.0
    if source.dtype == BITS == out.dtype:
        out[...] = source
        return
    fast = out.dtype == np.float32 and source.flags.c_contiguous
    beside = source.dtype == BITS or (source.dtype == np.float16 and fast)
    if beside and fast and out.flags.c_contiguous and not scaled:
        float16.widen(source, out)
        return
    scratch: Array | None = None
    for part in blocks(*source.shape):
        values = source[part]
        if beside:
            # One buffer for all blocks: new pages cost more than the work on them.
            scratch = np.empty(values.shape, np.float32) if scratch is None else scratch
            float16.widen(values, scratch[: len(values)])
            values = scratch[: len(values)]
        if scaled:
            np.multiply(values, factor, out=out[part], dtype=out.dtype, casting="unsafe")
        else:
            out[part] = values


def widened(source: NDArray[Any], dtype: np.dtype[Any]) -> Array:
    """Return weights in a dtype; without a copy if they have it already."""
    if source.dtype == dtype:
        return source
    out: Array = np.empty(source.shape, dtype)
    widen(source, out)
    return out


def _dots(x: Array, y: Array) -> Array:
    """Return `sum_c x y`, (T, 1): as products of single rows, twice as fast as einsum."""
    return np.asarray(np.matmul(x[:, None, :], y[:, :, None])[:, 0])


def _inverse_size(values: Array, eps: float, out: Array) -> Array:
    """Return `(mean_c values^2 + eps) ** -0.5`, written to out, (rows, 1)."""
    np.multiply(_dots(values, values), 1.0 / values.shape[1], out=out)
    out += eps
    np.sqrt(out, out=out)
    return np.reciprocal(out, out=out)


def rms_norm(x: Array, eps: float, out: Array, residual: Array | None = None) -> Array:
    """Write `out = x * inv` with `inv = (mean_c x^2 + eps) ** -0.5`; return inv, (T, 1).

    x, out: (T, C). The gain is not applied here: the weight that reads `out` contains it. With
    `residual` (T, C), x first becomes `x + residual`, in place.
    """
    rows, width = x.shape
    inv = np.empty((rows, 1), x.dtype)
    for part in blocks(rows, width):
        values = x[part]
        if residual is not None:
            values += residual[part]
        np.multiply(values, _inverse_size(values, eps, inv[part]), out=out[part])
    return inv


def rms_norm_backward(
    dout: Array, out: Array, inv: Array, dx: Array, *, centred: bool = False
) -> None:
    """Add `inv * (dout - out * mean_c(dout * out))` to dx, (T, C); overwrites dout, (T, C).

    With `centred` the mean of dout is subtracted too, as `layer_norm` does with its input's.
    """
    rows, width = dout.shape
    for part in blocks(rows, width):
        grad, values = dout[part], out[part]
        mean = _dots(grad, values)
        mean *= 1.0 / width
        if centred:
            grad -= grad.mean(axis=1, keepdims=True)
        grad -= values * mean
        grad *= inv[part]
        dx[part] += grad


def layer_norm(x: Array, eps: float, out: Array, residual: Array | None = None) -> Array:
    """Write `out = (x - mean_c x) * inv`, `inv = (var_c x + eps) ** -0.5`; return inv, (T, 1).

    Shapes, gain and `residual` as in `rms_norm` (arXiv 1607.06450).
    """
    rows, width = x.shape
    inv = np.empty((rows, 1), x.dtype)
    for part in blocks(rows, width):
        values, centred = x[part], out[part]
        if residual is not None:
            values += residual[part]
        np.subtract(values, values.mean(axis=1, keepdims=True), out=centred)
        centred *= _inverse_size(centred, eps, inv[part])
    return inv


def layer_norm_backward(dout: Array, out: Array, inv: Array, dx: Array) -> None:
    """Add `inv * (dout - mean_c dout - out * mean_c(dout * out))` to dx; overwrites dout."""
    rms_norm_backward(dout, out, inv, dx, centred=True)


NORMS = {"rms": (rms_norm, rms_norm_backward), "layer": (layer_norm, layer_norm_backward)}


def rotate(x: Array, table: NDArray[np.complexfloating[Any, Any]]) -> None:
    """Rotate pairs of channels in place: as complex numbers, `x *= table`.

    x: (T, 2 J), channels 2j and 2j + 1 are a pair; table: (T, J), `scale * exp(i * angle)`.
    """
    for part in blocks(*x.shape):
        pairs = x[part].view(table.dtype)
        pairs *= table[part]


def rotate_backward(dout: Array, table: NDArray[np.complexfloating[Any, Any]]) -> None:
    """Turn the gradient back in place: `dout *= conj(table)`; shapes as in `rotate`."""
    for part in blocks(*dout.shape):
        pairs = dout[part].view(table.dtype)
        np.multiply(pairs, np.conjugate(table[part]), out=pairs)
