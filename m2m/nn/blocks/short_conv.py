"""The gated short convolution of LFM2, in the place of attention.

    b, c, x = in_proj(h);     out = out_proj(c * conv(b * x))

The forward saves h, [b | c | x] and the input of out_proj; the convolution is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.blocks.norm import Norm
from m2m.nn.blocks.self_attention import LayerPass, input_gradient
from m2m.nn.config import DecoderConfig
from m2m.nn.convolution import Convolution
from m2m.nn.linear import FusedLinear, FusedMap, Grads
from m2m.nn.matrix import Storage
from m2m.nn.workspace import Workspace


@dataclass
class ConvState:
    """The arrays for the backward; inputs of maps end with R low-rank columns."""

    h: Array  # (T, C + R), normalised input
    gates: Array  # (T, 3 C), [b | c | x]
    mixed: Array  # (T, C + R), the input of out_proj
    convolution: Convolution


class ShortConv:
    """A gated short convolution with its weights; `norm` is the norm before it."""

    kind = None  # it has no positions

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        number: int,
        storage: Storage,
        norm: Norm,
    ) -> None:
        prefix = f"model.layers.{number}.conv"
        parts = [FusedMap(f"{prefix}.in_proj")]
        self.first = FusedLinear(parts, weights, storage, norm.gain, norm.offset)
        output = FusedMap(f"{prefix}.out_proj", factor=config.residual_scale)
        self.o = FusedLinear([output], weights, storage)
        kernel = np.asarray(weights[f"{prefix}.conv.weight"]).astype(storage.dtype)
        self._kernel = np.ascontiguousarray(kernel.T[::-1])
        self._number, self._width = number, config.hidden_size

    def input(self, rows: int, space: Workspace, name: str) -> Array:
        """Return the buffer of the input h, (T, C + R), whose first C columns the norm writes."""
        return space.get(name + "h1", rows, self.first.columns + self.first.rank)

    def mix(self, step: LayerPass, h: Array, name: str) -> ConvState:
        """Gate and convolve; `mixed` of the result, (T, C + R), is the input of the map `o`."""
        space, width = step.space, self._width
        gates = space.get(name + "gates", step.tokens, self.first.rows)
        self.first.forward(h, gates)
        mixed = space.get(name + "mixed", step.tokens, self.o.columns + self.o.rank)
        convolution = Convolution(step.layout, step.worker, self._number, self._kernel)
        state = ConvState(h, gates, mixed, convolution)
        convolved = self._convolved(state, step)
        np.multiply(convolved, gates[:, width : 2 * width], out=mixed[:, :width])
        return state

    def _convolved(self, state: ConvState, step: LayerPass) -> Array:
        width = self._width
        b, x = state.gates[:, :width], state.gates[:, 2 * width :]
        gated = step.space.get("conv.input", step.tokens, width)
        np.multiply(b, x, out=gated)
        out = step.space.get("conv.output", step.tokens, width)
        state.convolution.forward(gated, out)
        return out

    def backward(
        self, step: LayerPass, state: ConvState, dmixed: Array, grads: Grads
    ) -> Array | None:
        """Return the gradient of the input, (T, C), from that of `mixed`, (T, C).

        None in the first layer: nothing before it is trainable.
        """
        space, width = step.space, self._width
        dgates = space.get("dqkv", step.tokens, self.first.rows + self.first.rank)
        b, c, x = (state.gates[:, i * width : (i + 1) * width] for i in range(3))
        db, dc, dx = (dgates[:, i * width : (i + 1) * width] for i in range(3))
        np.multiply(self._convolved(state, step), dmixed, out=dc)
        dout = space.get("conv.output", step.tokens, width)
        np.multiply(dmixed, c, out=dout)
        dgated = space.get("conv.input", step.tokens, width)
        state.convolution.backward(dout, dgated)
        np.multiply(dgated, x, out=db)
        np.multiply(dgated, b, out=dx)
        return input_gradient(self.first, self._number, state.h, dgates, grads, space)
