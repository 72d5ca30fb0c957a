"""Activations of the MLP in pairs: forward, then backward, with formula and shapes.

Names and letters as in `m2m.nn.functional`: F is the MLP's width. The backwards work in place,
because writing to new arrays of this size costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from m2m.arrays import Array
from m2m.nn.functional import BLOCK, blocks

GELU = float(np.sqrt(2.0 / np.pi))  # Hendrycks & Gimpel 2016 (arXiv 1606.08415), tanh form
CUBIC = 0.044715


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


def gelu(x: Array, out: Array) -> None:
    """Write `out = x / 2 * (1 + tanh z)`, `z = sqrt(2 / pi) * (x + 0.044715 x^3)`; x, out: (T, F).

    The tanh form: llama.cpp computes no other for models without a gate.
    """
    for part in blocks(*out.shape):
        values, act = x[part], out[part]
        np.multiply(values, values, out=act)
        act *= GELU * CUBIC
        act += GELU
        act *= values
        np.tanh(act, out=act)
        act += 1.0
        act *= values
        act *= 0.5


def gelu_backward(dout: Array, x: Array) -> None:
    """Turn x, (T, F), into its gradient and dout, (T, F), into the forward's out.

    With `w = (1 + tanh z) / 2`: `dx = dout * (w + 2 x w (1 - w) dz/dx)`.
    """
    for part, (weight, slope) in _scratch(dout):
        values, grad = x[part], dout[part]
        np.multiply(values, values, out=slope)
        np.multiply(slope, GELU * CUBIC, out=weight)
        weight += GELU
        weight *= values
        np.tanh(weight, out=weight)
        weight += 1.0
        weight *= 0.5
        slope *= 3.0 * GELU * CUBIC
        slope += GELU
        act = values * weight
        slope *= act
        slope *= 2.0 - 2.0 * weight
        slope += weight
        np.multiply(slope, grad, out=values)
        grad[...] = act


def relu2(x: Array, out: Array) -> None:
    """Write `out = max(x, 0)^2` (Primer, arXiv 2109.08668); x, out: (T, F)."""
    for part in blocks(*out.shape):
        np.maximum(x[part], 0.0, out=out[part])
        out[part] *= out[part]


def relu2_backward(dout: Array, x: Array) -> None:
    """Turn x, (T, F), into `2 max(x, 0) dout` and dout, (T, F), into the forward's out."""
    for part, (act, _) in _scratch(dout):
        values, grad = x[part], dout[part]
        np.maximum(values, 0.0, out=act)
        np.multiply(act, grad, out=values)
        values *= 2.0
        np.multiply(act, act, out=grad)


class XIELU:
    """xIELU (arXiv 2411.13010, eq. 6, as transformers and ggml compute it), with its numbers.

    `p x^2 + b x` for x > 0, else `n (expm1(min(x, eps)) - x) + b x`.

    Args:
        alpha_p: a number whose softplus is p.
        alpha_n: a number whose softplus is n - b.
        beta: b.
        eps: a number just below 0.
    """

    def __init__(self, alpha_p: float, alpha_n: float, beta: float, eps: float) -> None:
        self._p = float(np.logaddexp(0.0, alpha_p))
        self._n = float(np.logaddexp(0.0, alpha_n)) + beta
        self._beta, self._eps = beta, eps

    def forward(self, x: Array, out: Array) -> None:
        """Write the activations of x; x, out: (T, F)."""
        for part in blocks(*out.shape):
            values, act = x[part], out[part]
            np.minimum(values, self._eps, out=act)
            np.expm1(act, out=act)
            act -= values
            act *= self._n
            np.copyto(act, self._p * values * values, where=values > 0.0)
            act += self._beta * values

    def backward(self, dout: Array, x: Array) -> None:
        """Turn x, (T, F), into its gradient and dout, (T, F), into the forward's out."""
        for part, (slope, act) in _scratch(dout):
            values, grad = x[part], dout[part]
            np.minimum(values, self._eps, out=slope)
            np.expm1(slope, out=slope)
            np.subtract(slope, values, out=act)
            act *= self._n
            slope += np.where(values <= self._eps, 0.0, -slope - 1.0)  # flat between eps and 0
            slope *= self._n
            above = values > 0.0
            np.copyto(slope, 2.0 * self._p * values, where=above)
            np.copyto(act, self._p * values * values, where=above)
            slope += self._beta
            act += self._beta * values
            np.multiply(slope, grad, out=values)
            grad[...] = act


# By name, and whether the MLP has a gate.
ACTIVATIONS = {
    ("silu", True): (swiglu, swiglu_backward),
    ("gelu_tanh", True): (geglu, geglu_backward),
    ("gelu_tanh", False): (gelu, gelu_backward),
    ("relu2", False): (relu2, relu2_backward),
}
