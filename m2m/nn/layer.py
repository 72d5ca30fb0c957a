"""One layer of the decoder: attention and MLP, each between norms; forward and backward by hand.

    x += P1(attention(N1(x)));     x += P2(mlp(N2(x)))          one after the other
    x += attention(N1(x)) + mlp(N2(x))                          side by side

N1 and N2 are norms before a sublayer, P1 and P2 after it; a family has some of them. The gain of a
norm before a map is part of the map. Some layers have a convolution or a delta rule in the place
of attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.blocks.delta_net import DeltaNet, DeltaState
from m2m.nn.blocks.mlp import MLP, MLPState
from m2m.nn.blocks.norm import Norm, Normalised
from m2m.nn.blocks.self_attention import AttentionState, LayerPass, SelfAttention
from m2m.nn.blocks.short_conv import ConvState, ShortConv
from m2m.nn.config import DecoderConfig, LayerKind
from m2m.nn.layout import Index
from m2m.nn.linear import FusedLinear, Grads
from m2m.nn.lora import LoraPair
from m2m.nn.matrix import Storage

__all__ = ["Grads", "Layer", "LayerPass", "Saved"]


# Blocks by `DecoderConfig.mixer`.
MIXERS: dict[str, Any] = {
    "attention": SelfAttention,
    "conv": ShortConv,
    "delta": DeltaNet,
}


@dataclass
class Saved:
    """A layer's arrays for its backward; inputs of maps end with the map's R low-rank columns.

    T2 is T, or M in the last layer, which computes only the rows that have a loss after attention.
    """

    inv1: Array | None  # (T, 1)
    mixer: AttentionState | ConvState | DeltaState
    kept: Array  # (T2, H * D + R), rows of the mixer's output that are needed
    post1: Normalised | None
    inv2: Array | None  # (T2, 1)
    mlp: MLPState
    post2: Normalised | None


class Layer:
    """One layer with its weights; the module's docstring has the formulas."""

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        number: int,
        storage: Storage,
    ) -> None:
        prefix = f"model.layers.{number}"
        self._norm1, self._post1, self._norm2, self._post2 = (
            Norm(config, weights, name and f"{prefix}.{name}", storage)
            for name in config.norm_places()
        )
        kind = MIXERS[config.mixer(number)]
        self.mixer: Any = kind(config, weights, number, storage, self._norm1)
        self.mlp = MLP(config, weights, f"{prefix}.mlp", storage, self._norm2)
        self.kind: LayerKind | None = self.mixer.kind
        self._width, self._parallel = config.hidden_size, config.parallel

    @property
    def maps(self) -> tuple[FusedLinear, ...]:
        """Return the layer's fused maps."""
        return (self.mixer.first, self.mixer.o, self.mlp.up, self.mlp.down)

    @property
    def stream_rank(self) -> int:
        """Return the most low-rank columns of a map that writes to the stream."""
        return max(int(self.mixer.o.rank), self.mlp.down.rank)

    def bind(self, lora: Mapping[str, LoraPair]) -> None:
        """Write the adapters of the layer's maps into the maps."""
        for linear in self.maps:
            linear.bind(lora)

    def forward(
        self, step: LayerPass, x: Array, update: Array | None, name: str, rows: Index | None
    ) -> tuple[Saved, Array, Array]:
        """Run the layer.

        Args:
            step: values that all layers share.
            x: (T, C) residual stream; `update` (the layer before's output) is added first.
            update: (T, C) or None.
            name: prefix of the buffers that hold the saved arrays.
            rows: (M,) tokens that matter after this layer's attention, or None for all.

        Returns:
            the arrays to save, the stream (T2, C) and this layer's last update to it, (T2, C).
        """
        space, width = step.space, self._width
        h1 = self.mixer.input(step.tokens, space, name)
        inv1 = self._norm1.before(x, h1[:, :width], update)
        state = self.mixer.mix(step, h1, name)
        kept = state.mixed
        if rows is not None:
            kept, x = kept[rows], x[rows]
        change = space.get("update", len(x), width)
        self.mixer.o.forward(kept, change)
        post1 = self._post1.after(change, space, name + "post1")
        h2 = self.mlp.input(len(x), space, name)
        inv2 = self._norm2.before(x, h2[:, :width], None if self._parallel else change)
        second = space.get("second", len(x), width) if self._parallel else change
        mlp = self.mlp.forward(h2, second, space, name)
        post2 = self._post2.after(second, space, name + "post2")
        if self._parallel:
            change += second
        return Saved(inv1, state, kept, post1, inv2, mlp, post2), x, change

    def backward(
        self, step: LayerPass, saved: Saved, dx: Array, grads: Grads, rows: Index | None
    ) -> Array:
        """Return dx at this layer's input, (T, C + R), from dx at its output, (T2, C + R).

        Writes the adapters' gradients. The arrays are wider than the stream's C: the maps that
        write to the stream need these columns for their low-rank products.
        """
        space, width, o = step.space, self._width, self.mixer.o
        dh = space.get("update", len(dx), width)
        dout = self._post2.after_backward(dx, saved.post2, width + self.mlp.down.rank, space)
        self.mlp.backward(saved.mlp, dout, dh, grads, space)
        if not self._parallel:  # attention's update is in the stream that the MLP reads
            self._norm2.before_backward(dh, saved.mlp.h[:, :width], saved.inv2, dx[:, :width])
        dout = self._post1.after_backward(dx, saved.post1, width + o.rank, space)
        dmixed = space.get("dmixed", len(dx), o.columns)
        o.whole_backward(saved.kept, dout, dmixed, grads)
        if self._parallel:
            self._norm2.before_backward(dh, saved.mlp.h[:, :width], saved.inv2, dx[:, :width])
        if rows is not None:
            dx = _scatter(dx, rows, space.get("dx", step.tokens, dx.shape[1]))
            dmixed = _scatter(dmixed, rows, space.get("dmixed.all", step.tokens, o.columns))
        dh1 = self.mixer.backward(step, saved.mixer, dmixed, grads)
        if dh1 is not None:
            self._norm1.before_backward(dh1, saved.mixer.h[:, :width], saved.inv1, dx[:, :width])
        return dx


def _scatter(rows: Array, index: Index, out: Array) -> Array:
    """Write `rows` (M, X) at `index` of out (T, X) and zero elsewhere; return out."""
    out[...] = 0.0
    out[index] = rows
    return out
