"""The MLP of a layer: `D (act(g h) * u h)` with a gate, `D act(u h)` without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.activations import ACTIVATIONS, XIELU
from m2m.nn.blocks.norm import Norm
from m2m.nn.config import ACTIVATION_NUMBERS, DecoderConfig
from m2m.nn.linear import FusedLinear, FusedMap, Grads
from m2m.nn.matrix import Storage
from m2m.nn.workspace import Workspace


class MLPState(NamedTuple):
    """The MLP's arrays for its backward."""

    h: Array  # (T, C + R), normalised input
    pair: Array  # (T, F or 2 F, + R), half the gate, and up; the backward writes gradients here
    low: Array  # (T, R), of down


class MLP:
    """The MLP with its weights; `norm` is the norm before it."""

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        prefix: str,
        storage: Storage,
        norm: Norm,
    ) -> None:
        parts = [FusedMap(f"{prefix}.up_proj")]
        if config.gated:  # silu(2 g) needs half of the gate: m2m.nn.activations
            parts.insert(0, FusedMap(f"{prefix}.gate_proj", factor=0.5))
        self.up = FusedLinear(parts, weights, storage, norm.gain, norm.offset, config.mlp_bias)
        down = FusedMap(f"{prefix}.down_proj", factor=config.residual_scale)
        self.down = FusedLinear([down], weights, storage, bias=config.mlp_bias)
        self._act: Callable[[Array, Array], None]
        self._act_backward: Callable[[Array, Array], None]
        if config.activation == "xielu":
            names = (f"{prefix}.act_fn.{name}" for name in ACTIVATION_NUMBERS)
            own = XIELU(*(float(np.asarray(weights[name]).item()) for name in names))
            self._act, self._act_backward = own.forward, own.backward
        else:
            self._act, self._act_backward = ACTIVATIONS[config.activation, config.gated]

    def input(self, rows: int, space: Workspace, name: str) -> Array:
        """Return the buffer of the input h, (T, C + R), whose first C columns the norm writes."""
        return space.get(name + "h2", rows, self.up.columns + self.up.rank)

    def forward(self, h: Array, change: Array, space: Workspace, name: str) -> MLPState:
        """Write the update of the stream into `change`, (T, C)."""
        count = len(h)
        pair = space.get(name + "pair", count, self.up.rows + self.up.rank)
        self.up.forward(h, pair[:, : self.up.rows])
        act = space.get("act", count, self.down.columns + self.down.rank)
        self._act(pair[:, : self.up.rows], act[:, : self.down.columns])
        ha = self.down.forward(act, change)
        low = space.get(name + "low", *ha.shape)
        low[...] = ha
        return MLPState(h, pair, low)

    def backward(
        self, state: MLPState, dout: Array, dh: Array, grads: Grads, space: Workspace
    ) -> None:
        """Write dh, (T, C), from dout, (T, C + R), and the adapters' gradients."""
        dact = space.get("act", len(dout), self.down.columns)
        self.down.backward(dout, dact)
        self._act_backward(dact, state.pair[:, : self.up.rows])
        self.down.grads(dact, state.low, dout, grads)
        self.up.whole_backward(state.h, state.pair, dh, grads)
