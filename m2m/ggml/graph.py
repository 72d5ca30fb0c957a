"""A ggml graph with gradients: each operation comes with its backward, as m2m.nn's pairs do.

ggml can differentiate graphs by itself (`ggml_build_backward_expand`). It multiplies by frozen
weights through `out_prod` then, which takes no 16-bit weights on GPUs and is slow on processors; it
has no backward for gelu; and it keeps attention's probabilities of all layers. So the backward is
written here: products use a transposed copy of the weights, and probabilities are computed again.

Shapes are ggml's, with the innermost dimension first: (C, T) is a NumPy array of T rows.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.ggml import bindings as c

Shape = tuple[int, ...]
_TYPES = {np.dtype(np.float32): c.F32, np.dtype(np.int32): c.I32}
_CUBIC, _GELU = 0.044715, math.sqrt(2.0 / math.pi)  # gelu's tanh form, arXiv 1606.08415


@dataclass(eq=False)
class Value:
    """A tensor of the graph and, during the backward, its gradient.

    Attributes:
        tensor: ggml's address.
        shape: sizes, the innermost first.
        trains: whether anything trainable precedes it; only then it gets a gradient.
        grad: ggml's address of its gradient, once one has come.
    """

    tensor: int
    shape: Shape
    trains: bool = False
    grad: int | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter's tensors: `scale * A` (in, R), B (R, out) and B transposed (out, R)."""

    a: int
    b: int
    across: int
    rank: int


@dataclass(frozen=True)
class LinearMap:
    """A frozen map.

    Attributes:
        module: its path.
        weight: (in, out).
        back: the same, transposed: (out, in).
        bias: (out,) or None.
        shape: out and in, as NumPy's array has them.
        adapter: its adapter, if it has one.
    """

    module: str
    weight: int
    back: int
    bias: int | None
    shape: tuple[int, int]
    adapter: Adapter | None


@dataclass(frozen=True)
class Rope:
    """The rotation of a layer's q and k, as ggml_rope_ext takes it; `factors` may be None."""

    positions: int
    factors: int | None
    channels: int
    mode: int
    theta: float
    amplitude: float


class Graph:
    """One graph in a ggml context; `close` frees it.

    Args:
        functions: ggml's.
        tensors: the most tensors that it may get, views included.
    """

    def __init__(self, functions: c.Functions, tensors: int) -> None:
        self.f = functions
        room = tensors * functions.tensor_overhead()
        room += functions.graph_overhead_custom(tensors, False)
        self.context: int | None = functions.init(c.InitParams(room, None, True))
        self.graph = functions.new_graph_custom(self.context, tensors, False)
        self.inputs: list[tuple[int, NDArray[Any]]] = []
        self.gradients: dict[str, tuple[int, int]] = {}
        self._tape: list[Callable[[], None]] = []

    def close(self) -> None:
        """Free the context; the tensors of the graph are gone then."""
        if self.context is not None:
            self.f.free(self.context)
            self.context = None

    def op(self, name: str, *arguments: Any) -> int:
        """Return the tensor of one of ggml's operations."""
        tensor: int = getattr(self.f, name)(self.context, *arguments)
        return tensor

    def input(self, array: NDArray[Any]) -> int:
        """Return a tensor that gets this array, float32 or int32, before the graph is computed."""
        rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
        tensor = self.op("new_tensor_2d", _TYPES[array.dtype], rows.shape[1], rows.shape[0])
        self.f.set_input(tensor)
        self.inputs.append((tensor, np.ascontiguousarray(array)))
        return tensor

    def output(self, tensor: int) -> int:
        """Compute a tensor and keep it until the graph has ended."""
        self.f.set_output(tensor)
        self.f.build_forward_expand(self.graph, tensor)
        return tensor

    def upload(self) -> None:
        """Write the arrays of all inputs that the graph uses; it must be allocated."""
        for tensor, array in self.inputs:
            if self.f.get_data(tensor):
                self.f.backend_tensor_set(tensor, array.ctypes.data, 0, array.nbytes)

    def download(self, tensor: int, shape: Shape) -> NDArray[np.float32]:
        """Return a float32 tensor's values, in NumPy's order of sizes."""
        out = np.empty(shape, np.float32)
        self.f.backend_tensor_get(tensor, ctypes.c_void_p(out.ctypes.data), 0, out.nbytes)
        return out

    def backward(self) -> None:
        """Run the tape from its end; gradients of adapters become outputs."""
        while self._tape:
            self._tape.pop()()

    def give(self, value: Value, grad: int) -> None:
        """Add to the gradient of a value."""
        if value.trains:
            value.grad = grad if value.grad is None else self.op("add", value.grad, grad)

    def apply(
        self,
        tensor: int,
        shape: Shape,
        parents: Sequence[Value],
        back: Callable[[int], None],
        *,
        trains: bool = False,
    ) -> Value:
        """Return an operation's value; `back` gives the parents their part of its gradient.

        With `trains` it has a gradient even if nothing trainable precedes it.
        """
        value = Value(tensor, shape, trains or any(parent.trains for parent in parents))
        if value.trains:
            self._tape.append(lambda: back(value.grad) if value.grad is not None else None)
        return value

    def again(self, x: Value, function: Callable[[Value], Value]) -> Value:
        """Return function(x), which the backward computes again: only x is kept until then."""

        def fresh() -> tuple[Value, Value, list[Callable[[], None]]]:
            outer, self._tape = self._tape, []
            inner = Value(x.tensor, x.shape, x.trains)
            out = function(inner)
            own, self._tape = self._tape, outer
            return inner, out, own

        def back(grad: int) -> None:
            inner, out, own = fresh()
            self.give(out, grad)
            while own:
                own.pop()()
            if inner.grad is not None:
                self.give(x, inner.grad)

        _, out, _ = fresh()
        return self.apply(out.tensor, out.shape, (x,), back, trains=out.trains)

    def reshape(self, tensor: int, *shape: int) -> int:
        """Return a view of a contiguous tensor with up to four other sizes."""
        return self.op("reshape_4d", tensor, *shape, *[1] * (4 - len(shape)))

    def swap(self, tensor: int, *axes: int) -> int:
        """Return a contiguous copy whose dimension i is the tensor's at `axes.index(i)`."""
        return self.op("cont", self.op("permute", tensor, *axes))

    def across(self, tensor: int) -> int:
        """Return a contiguous copy with the first two dimensions exchanged."""
        return self.op("cont", self.op("transpose", tensor))

    def add(self, x: Value, y: Value) -> Value:
        """Return x + y, of one shape."""

        def back(grad: int) -> None:
            self.give(x, grad)
            self.give(y, grad)

        return self.apply(self.op("add", x.tensor, y.tensor), x.shape, (x, y), back)

    def scale(self, x: Value, factor: float) -> Value:
        """Return factor * x."""
        if factor == 1.0:
            return x
        return self.apply(
            self.op("scale", x.tensor, factor),
            x.shape,
            (x,),
            lambda grad: self.give(x, self.op("scale", grad, factor)),
        )

    def view(self, x: Value, *shape: int) -> Value:
        """Return x with other sizes."""
        return self.apply(
            self.reshape(x.tensor, *shape),
            shape,
            (x,),
            lambda grad: self.give(x, self.reshape(grad, *x.shape)),
        )

    def norm(self, x: Value, gain: int, eps: float) -> Value:
        """Return x / sqrt(mean(x^2) + eps) * gain over the first dimension."""
        out = self.op("mul", self.op("rms_norm", x.tensor, eps), gain)

        def back(grad: int) -> None:
            scaled = self.op("mul", grad, gain)
            self.give(x, self.op("rms_norm_back", scaled, x.tensor, eps))

        return self.apply(out, x.shape, (x,), back)

    def rows(self, x: Value, index: NDArray[np.intp]) -> Value:
        """Return some columns of x (C, T), each at most once: (C, M)."""
        width, count = x.shape
        places = np.zeros(count, np.int32)
        places[index] = np.arange(len(index))
        taken = np.zeros((count, 1), np.float32)
        taken[index] = 1.0
        out = self.op("get_rows", x.tensor, self.input(index.astype(np.int32)))

        def back(grad: int) -> None:  # a gather with a mask: a scatter has to start from zeros
            spread = self.op("get_rows", grad, self.input(places))
            self.give(x, self.op("mul", spread, self.input(taken)))

        return self.apply(out, (width, len(index)), (x,), back)

    def linear(self, x: Value, linear: LinearMap) -> Value:
        """Return `W x + bias + B (scale A) x`, (out, T); the adapter's gradients become outputs."""
        out = self.op("mul_mat", linear.weight, x.tensor)
        pair, low = linear.adapter, 0
        if pair is not None:
            low = self.op("mul_mat", pair.a, x.tensor)
            out = self.op("add", out, self.op("mul_mat", pair.b, low))
        if linear.bias is not None:
            out = self.op("add", out, linear.bias)

        def back(grad: int) -> None:
            if x.trains:
                self.give(x, self.op("mul_mat", linear.back, grad))
            if pair is None:
                return
            dlow = self.op("mul_mat", pair.across, grad)
            # Of dB its transpose (out, R): products along long rows are the fast ones.
            grads = (self.op("out_prod", x.tensor, dlow), self.op("out_prod", grad, low))
            self.gradients[linear.module] = (self.output(grads[0]), self.output(grads[1]))
            if x.trains:
                self.give(x, self.op("mul_mat", self.across(pair.a), dlow))

        shape = (linear.shape[0], x.shape[1])
        return self.apply(out, shape, (x,), back, trains=pair is not None)

    def rope(self, x: Value, rope: Rope) -> Value:
        """Return x (D, H, T) with its heads rotated to the positions of their tokens."""
        own: tuple[Any, ...] = (
            rope.positions,
            rope.factors,
            rope.channels,
            rope.mode,
            0,
            rope.theta,
        )
        own += (1.0, 0.0, rope.amplitude, 32.0, 1.0)  # no other scaling than by the factors
        return self.apply(
            self.op("rope_ext", x.tensor, *own),
            x.shape,
            (x,),
            lambda grad: self.give(x, self.op("rope_ext_back", grad, *own)),
        )

    def glu(self, gate: Value, up: Value, activation: str) -> Value:
        """Return act(gate) * up, with act "silu" or "gelu_tanh"."""
        act, slope = (self._silu if activation == "silu" else self._gelu)(gate.tensor)

        def back(grad: int) -> None:
            self.give(up, self.op("mul", grad, act))
            self.give(gate, slope(self.op("mul", grad, up.tensor)))

        return self.apply(self.op("mul", act, up.tensor), up.shape, (gate, up), back)

    def _silu(self, x: int) -> tuple[int, Callable[[int], int]]:
        return self.op("silu", x), lambda grad: self.op("silu_back", grad, x)

    def _gelu(self, x: int) -> tuple[int, Callable[[int], int]]:
        """Return x * w for `w = (1 + tanh z) / 2`; ggml's own gelu looks it up in 16 bits."""
        square = self.op("mul", x, x)
        inner = self.op("scale_bias", square, _GELU * _CUBIC, _GELU)
        tanh = self.op("tanh", self.op("mul", inner, x))
        weight = self.op("scale_bias", tanh, 0.5, 0.5)

        def slope(grad: int) -> int:  # w + 2 x w (1 - w) dz/dx
            other = self.op("scale_bias", weight, -2.0, 2.0)
            steep = self.op("scale_bias", square, 3.0 * _GELU * _CUBIC, _GELU)
            change = self.op("mul", self.op("mul", self.op("mul", x, weight), other), steep)
            return self.op("mul", grad, self.op("add", weight, change))

        return self.op("mul", x, weight), slope
