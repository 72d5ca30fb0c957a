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
GELU = float(np.sqrt(2.0 / np.pi))  # Hendrycks & Gimpel 2016 (arXiv 1606.08415), tanh form
CUBIC = 0.044715


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


def widen(source: NDArray[Any], out: Array, factor: Array | float = 1.0) -> None:
    """Write weights, (rows, columns), into out, in its dtype, times a number or one per column.

    A block is cast into a scratch buffer, in cache, and multiplied into its place.
    """
    scaled = not isinstance(factor, float) or factor != 1.0
    beside = source.dtype == np.float16 and out.dtype == np.float32 and source.flags.c_contiguous
    if beside and out.flags.c_contiguous and not scaled:
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


def _dots(x: Array, y: Array) -> Array:
    """Return `sum_c x y`, (T, 1): as products of single rows, twice as fast as einsum."""
    return np.asarray(np.matmul(x[:, None, :], y[:, :, None])[:, 0])


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
        scale = inv[part]
        np.multiply(_dots(values, values), 1.0 / width, out=scale)
        scale += eps
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        np.multiply(values, scale, out=out[part])
    return inv


def rms_norm_backward(dout: Array, out: Array, inv: Array, dx: Array) -> None:
    """Add `inv * (dout - out * mean_c(dout * out))` to dx, (T, C); overwrites dout, (T, C)."""
    rows, width = dout.shape
    for part in blocks(rows, width):
        grad, values = dout[part], out[part]
        mean = _dots(grad, values)
        mean *= 1.0 / width
        grad -= values * mean
        grad *= inv[part]
        dx[part] += grad


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


def _fetch(block: Array) -> None:
    """Read one element of every cache line, so that the next pass finds the block in cache.

    tanh has too few loads in flight to stream memory: on cold rows this halves its time.
    """
    block[:, :: 64 // block.itemsize].sum()


def swiglu(pair: Array, out: Array) -> None:
    """Write `out = silu(2 g) * u` for `pair = [g | u]`, (T, 2 F); out: (T, F).

    g is half of the gate (the weight contains the half, exactly), because
    `silu(2 g) = g * (1 + tanh g)` needs one pass less than exp and cannot overflow.
    """
    width = out.shape[1]
    for part in blocks(*out.shape):
        gate, up, act = pair[part, :width], pair[part, width:], out[part]
        _fetch(pair[part])
        np.tanh(gate, out=act)
        act += 1.0
        act *= gate
        act *= up


def swiglu_backward(dout: Array, pair: Array) -> None:
    """Turn `pair = [g | u]`, (T, 2 F), into its gradient and dout, (T, F), into the forward's out.

    With `w = 1 + tanh g`: `du = dout * g w`, `dg = dout * u * (w + g w (2 - w))`. In place,
    because writing to new arrays of this size costs more than the arithmetic.
    """
    width = dout.shape[1]
    for part, (weight, act) in _scratch(dout):
        gate, up, grad = pair[part, :width], pair[part, width:], dout[part]
        _fetch(pair[part])
        np.tanh(gate, out=weight)
        weight += 1.0
        np.multiply(gate, weight, out=act)
        np.subtract(2.0, weight, out=gate)
        gate *= act
        gate += weight
        _finish(gate, up, grad, act, weight)


def geglu(pair: Array, out: Array) -> None:
    """Write `out = gelu_tanh(2 g) * u` for `pair = [g | u]`, (T, 2 F); out: (T, F).

    `gelu_tanh(2 g) = g * (1 + tanh z)`, `z = sqrt(2 / pi) * (2 g + 0.044715 * 8 g^3)`.
    """
    width = out.shape[1]
    for part in blocks(*out.shape):
        gate, up, act = pair[part, :width], pair[part, width:], out[part]
        np.multiply(gate, gate, out=act)
        act *= 8.0 * GELU * CUBIC
        act += 2.0 * GELU
        act *= gate
        np.tanh(act, out=act)
        act += 1.0
        act *= gate
        act *= up


def geglu_backward(dout: Array, pair: Array) -> None:
    """Turn `pair = [g | u]`, (T, 2 F), into its gradient and dout, (T, F), into the forward's out.

    With `w = 1 + tanh z`: `du = dout * g w`, `dg = dout * u * (w + g w (2 - w) dz/dg)`. In place.
    """
    width = dout.shape[1]
    for part, (weight, act) in _scratch(dout):
        gate, up, grad = pair[part, :width], pair[part, width:], dout[part]
        np.multiply(gate, gate, out=act)
        slope = act * (24.0 * GELU * CUBIC)
        slope += 2.0 * GELU
        act *= 8.0 * GELU * CUBIC
        act += 2.0 * GELU
        act *= gate
        np.tanh(act, out=weight)
        weight += 1.0
        np.multiply(gate, weight, out=act)
        np.subtract(2.0, weight, out=gate)
        gate *= act
        gate *= slope
        gate += weight
        _finish(gate, up, grad, act, weight)


def _scratch(like: Array) -> Iterator[tuple[slice, tuple[Array, Array]]]:
    """Yield the blocks of `like`, (T, F), each with two arrays of the block's size."""
    space = np.empty((2, max(1, BLOCK // like.shape[1]), like.shape[1]), like.dtype)
    for part in blocks(*like.shape):
        rows = part.stop - part.start
        yield part, (space[0, :rows], space[1, :rows])


def _finish(slope: Array, up: Array, grad: Array, act: Array, work: Array) -> None:
    """Turn `act(g)` and its slope into dg (in slope), du (in up) and act * u (in grad)."""
    slope *= up
    slope *= grad
    np.multiply(act, up, out=work)
    np.multiply(grad, act, out=up)
    grad[...] = work
