"""One layer of the decoder: attention and MLP, each after a norm; forward and backward by hand.

    x += P1(O attention(rotate([q k v] norm(x))));     x += P2(D act([g u] norm(x)))

P1 and P2 are norms in families that have them, else nothing; OLMo 2 and EXAONE 4 have only these.
The gain of a norm before a map is part of the map. The forward saves the normalised inputs, rotated
q, k, v, attention's output and log sums, and gate and up. The backward computes all other values
again if that is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.attention import GroupState, attention, attention_backward
from m2m.nn.config import DecoderConfig, LayerKind
from m2m.nn.context import Contexts
from m2m.nn.functional import (
    geglu,
    geglu_backward,
    rms_norm,
    rms_norm_backward,
    rotate,
    rotate_backward,
    swiglu,
    swiglu_backward,
)
from m2m.nn.layout import AttentionPlan, Index, Layout
from m2m.nn.linear import FusedLinear, Part
from m2m.nn.lora import LoraPair
from m2m.nn.matrix import Storage
from m2m.nn.thread_pool import Worker
from m2m.nn.workspace import Workspace

Heads = tuple[Array, list[Array]]
Grads = dict[str, tuple[Array, Array]]
ACTIVATIONS = {"silu": (swiglu, swiglu_backward), "gelu_tanh": (geglu, geglu_backward)}


@dataclass
class Step:
    """Values that all layers share in one thread's pass; tables and plans by `Layer.kind`."""

    layout: Layout
    tables: dict[LayerKind, NDArray[np.complexfloating[Any, Any]]]
    plans: dict[LayerKind, AttentionPlan]
    space: Workspace
    worker: Worker

    @property
    def tokens(self) -> int:
        """Return T."""
        return len(self.layout.tokens)


@dataclass
class Saved:
    """A layer's arrays for its backward; inputs of maps end with the map's R low-rank columns.

    T2 is T, or M in the last layer, which computes only the rows that have a loss after attention.
    """

    h1: Array  # (T, C + R), normalised input of q, k, v
    inv1: Array | None  # (T, 1)
    heads: Heads | None  # normalised q and k (T, (H + K) * D), their inv
    attention: list[GroupState]  # q, k and v, rotated, and log sums
    contexts: Contexts  # keys and values before them
    mixed: Array  # (T, H * D + R), attention's output
    kept: Array  # (T2, H * D + R), its rows that are needed after attention
    post1: tuple[Array, Array] | None  # normalised output of O, its inv
    h2: Array  # (T2, C + R), normalised input of the MLP
    inv2: Array | None  # (T2, 1)
    pair: Array  # (T2, 2 F + R), half the gate, and up; the backward writes their gradient here
    low: Array  # (T2, R), of down
    post2: tuple[Array, Array] | None  # normalised output of D, its inv


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
        attn, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        gains = [_gain(config, weights, f"{prefix}.{n}", storage) for n in config.norm_names()]
        turned = (0, 0) if config.rotates_neighbours else (config.num_heads, config.num_kv_heads)
        q, k = Part(f"{attn}.q_proj", turned[0]), Part(f"{attn}.k_proj", turned[1])
        parts = [q, k, Part(f"{attn}.v_proj")]
        before, self._posts = _by_place(config, gains)
        self.qkv = FusedLinear(parts, weights, storage, before[0], config.attention_bias)
        output = Part(f"{attn}.o_proj", factor=config.residual_scale)
        self.o = FusedLinear([output], weights, storage, bias=config.output_bias)
        parts = [Part(f"{mlp}.gate_proj", factor=0.5), Part(f"{mlp}.up_proj")]
        self.gate_up = FusedLinear(parts, weights, storage, before[1], config.mlp_bias)
        down = Part(f"{mlp}.down_proj", factor=config.residual_scale)
        self.down = FusedLinear([down], weights, storage, bias=config.mlp_bias)
        self.kind = config.kind(number)
        self._number = number
        self._width, self._eps = config.hidden_size, config.rms_norm_eps
        self._rotated = config.query_size + config.kv_size
        self._pre_norms = config.pre_norms
        self._whole = config.query_size if config.norms_whole_qk else 0
        self._dim = config.head_dim
        self._turns_first = config.turns_before_norm
        self._head_gain = _head_gain(config, weights, attn, storage) if config.qk_norm else None
        self._gated, self._gated_backward = ACTIVATIONS[config.activation]

    @property
    def maps(self) -> tuple[FusedLinear, ...]:
        """Return the layer's fused maps."""
        return (self.qkv, self.o, self.gate_up, self.down)

    def bind(self, lora: Mapping[str, LoraPair]) -> None:
        """Write the adapters of the layer's maps into the maps."""
        for linear in self.maps:
            linear.bind(lora)

    def forward(
        self, step: Step, x: Array, update: Array | None, name: str, rows: Index | None
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
        space, qkv_map = step.space, self.qkv
        h1 = space.get(name + "h1", step.tokens, qkv_map.columns + qkv_map.rank)
        inv1 = self._pre(x, h1[:, : qkv_map.columns], update)
        qkv = space.get("dqkv", step.tokens, qkv_map.rows + qkv_map.rank)[:, : qkv_map.rows]
        qkv_map.forward(h1, qkv)
        heads = self._turn(qkv[:, : self._rotated], step, name)
        mixed = space.get(name + "mixed", step.tokens, self.o.columns + self.o.rank)
        plan = step.plans[self.kind]
        contexts = Contexts(step.layout, step.worker, space, self._number)
        states = attention(qkv, plan, mixed[:, : self.o.columns], contexts, space, name)
        kept = mixed
        if rows is not None:
            kept, x = mixed[rows], x[rows]
        change = space.get("update", len(x), self._width)
        self.o.forward(kept, change)
        post1 = self._post(change, 0, space, name + "post1")
        h2 = space.get(name + "h2", len(x), self.gate_up.columns + self.gate_up.rank)
        inv2 = self._pre(x, h2[:, : self.gate_up.columns], change)
        pair = space.get(name + "pair", len(x), self.gate_up.rows + self.gate_up.rank)
        self.gate_up.forward(h2, pair[:, : self.gate_up.rows])
        act = space.get("act", len(x), self.down.columns + self.down.rank)
        self._gated(pair[:, : self.gate_up.rows], act[:, : self.down.columns])
        ha = self.down.forward(act, change)
        low = space.get(name + "low", *ha.shape)
        low[...] = ha
        post2 = self._post(change, 1, space, name + "post2")
        saved = Saved(
            h1, inv1, heads, states, contexts, mixed, kept, post1, h2, inv2, pair, low, post2
        )
        return saved, x, change

    def backward(
        self, step: Step, saved: Saved, dx: Array, grads: Grads, rows: Index | None
    ) -> Array:
        """Return dx at this layer's input, (T, C + R), from dx at its output, (T2, C + R).

        Writes the adapters' gradients. The arrays are wider than the stream's C: the maps that
        write to the stream need these columns for their low-rank products.
        """
        space, width = step.space, self._width
        count = len(dx)
        dh = space.get("update", count, width)
        dout = self._post_backward(dx, saved.post2, 1, self.down.rank, space)
        dact = space.get("act", count, self.down.columns)
        self.down.backward(dout, dact)
        self._gated_backward(dact, saved.pair[:, : self.gate_up.rows])
        self.down.grads(dact, saved.low, dout, grads)
        self._map_backward(self.gate_up, saved.h2, saved.pair, dh, grads)
        _pre_backward(dh, saved.h2[:, :width], saved.inv2, dx[:, :width])
        dout = self._post_backward(dx, saved.post1, 0, self.o.rank, space)
        dmixed = space.get("dmixed", count, self.o.columns)
        self._map_backward(self.o, saved.kept, dout, dmixed, grads)
        if rows is not None:
            dx = _scatter(dx, rows, space.get("dx", step.tokens, dx.shape[1]))
            dmixed = _scatter(dmixed, rows, space.get("dmixed.all", step.tokens, self.o.columns))
        self._attention_backward(step, saved, dmixed, dx, grads)
        return dx

    def _attention_backward(
        self, step: Step, saved: Saved, dmixed: Array, dx: Array, grads: Grads
    ) -> None:
        """Continue the backward from attention's output to the layer's input."""
        space, width, qkv_map = step.space, self._width, self.qkv
        dqkv = space.get("dqkv", step.tokens, qkv_map.rows + qkv_map.rank)
        plan, mixed = step.plans[self.kind], saved.mixed[:, : self.o.columns]
        data = dqkv[:, : qkv_map.rows]
        attention_backward(dmixed, mixed, saved.attention, plan, saved.contexts, data, space)
        self._turn_backward(data[:, : self._rotated], step, saved.heads)
        if not self._number:  # nothing before it is trainable
            qkv_map.backward_low(dqkv)
            qkv_map.grads(saved.h1, saved.h1[:, qkv_map.columns :], dqkv, grads)
            return
        dh = space.get("update", step.tokens, width)
        self._map_backward(qkv_map, saved.h1, dqkv, dh, grads)
        _pre_backward(dh, saved.h1[:, :width], saved.inv1, dx[:, :width])

    @staticmethod
    def _map_backward(linear: FusedLinear, x: Array, dout: Array, dx: Array, grads: Grads) -> None:
        """Run a map's whole backward; x (T, in + R) is the input of its forward."""
        linear.backward(dout, dx)
        linear.grads(x, x[:, linear.columns :], dout, grads)

    def _pre(self, x: Array, out: Array, update: Array | None) -> Array | None:
        """Add `update` to x and write the input of a map; return inv, or None without a norm."""
        if self._pre_norms:
            return rms_norm(x, self._eps, out, update)
        if update is not None:
            x += update
        out[...] = x
        return None

    def _post(
        self, change: Array, sublayer: int, space: Workspace, name: str
    ) -> tuple[Array, Array] | None:
        """Normalise an update in place, in families that do; return the result and inv, or None."""
        if self._posts is None:
            return None
        xhat = space.get(name, *change.shape)
        inv = rms_norm(change, self._eps, xhat)
        np.multiply(xhat, self._posts[sublayer], out=change)
        return xhat, inv

    def _post_backward(
        self,
        dx: Array,
        saved: tuple[Array, Array] | None,
        sublayer: int,
        rank: int,
        space: Workspace,
    ) -> Array:
        """Return the gradient of an update before its norm, (T2, C + rank); dx without a norm."""
        if self._posts is None or saved is None:
            return dx[:, : self._width + rank]
        dout = space.get("dpost", len(dx), self._width + rank)
        data = dout[:, : self._width]
        data[...] = 0.0
        rms_norm_backward(dx[:, : self._width] * self._posts[sublayer], *saved, data)
        return dout

    def _turn(self, qk: Array, step: Step, name: str) -> Heads | None:
        """Rotate q and k and normalise their heads, in the family's order; return `heads`."""
        if self._turns_first:
            rotate(qk, step.tables[self.kind])
        heads = self._normalise_heads(qk, step.space, name)
        if not self._turns_first:
            rotate(qk, step.tables[self.kind])
        return heads

    def _turn_backward(self, dqk: Array, step: Step, heads: Heads | None) -> None:
        """Turn the gradient of `_turn`'s result into that of its input, in place."""
        if not self._turns_first:
            rotate_backward(dqk, step.tables[self.kind])
        self._heads_backward(dqk, heads, step.space)
        if self._turns_first:
            rotate_backward(dqk, step.tables[self.kind])

    def _normed(self, qk: Array) -> list[Array]:
        """View q and k (T, (H + K) * D) as the rows that are normalised, in families that do."""
        if self._whole:
            return [qk[:, : self._whole], qk[:, self._whole :]]
        return [qk.reshape(-1, self._dim)]

    def _normalise_heads(self, qk: Array, space: Workspace, name: str) -> Heads | None:
        """Normalise each head of q and k in place, in families that do."""
        if self._head_gain is None:
            return None
        xhat = space.get(name + "heads", *qk.shape)
        xhat[...] = qk
        invs = [rms_norm(rows, self._eps, rows) for rows in self._normed(xhat)]
        np.multiply(xhat, self._head_gain, out=qk)
        return xhat, invs

    def _heads_backward(self, dqk: Array, saved: Heads | None, space: Workspace) -> None:
        """Turn the gradient of normalised heads into that of the heads, in place."""
        if self._head_gain is None or saved is None:
            return
        xhat, invs = saved
        dheads = np.multiply(dqk, self._head_gain)
        before = space.get("dheads", *xhat.shape)
        before[...] = 0.0
        views = (self._normed(array) for array in (dheads, xhat, before))
        for grad, rows, out, inv in zip(*views, invs, strict=True):
            rms_norm_backward(grad, rows, inv, out)
        dqk[...] = before


def _by_place(
    config: DecoderConfig, gains: list[Array]
) -> tuple[tuple[Array | None, Array | None], tuple[Array, Array] | None]:
    """Return the gains of the norms before attention and MLP, and of those after them, if any."""
    if not config.pre_norms:
        return (None, None), (gains[0], gains[1])
    if config.post_norms:
        return (gains[0], gains[2]), (gains[1], gains[3])
    return (gains[0], gains[1]), None


def _pre_backward(dout: Array, out: Array, inv: Array | None, dx: Array) -> None:
    """Add the gradient of `Layer._pre` to dx; overwrites dout."""
    if inv is None:
        dx += dout
    else:
        rms_norm_backward(dout, out, inv, dx)


def _gain(
    config: DecoderConfig, weights: Mapping[str, NDArray[Any]], name: str, storage: Storage
) -> Array:
    """Return a norm's gain with the family's offset added."""
    gain = np.array(weights[f"{name}.weight"], storage.dtype)
    gain += config.norm_offset
    return gain


def _head_gain(
    config: DecoderConfig, weights: Mapping[str, NDArray[Any]], prefix: str, storage: Storage
) -> Array:
    """Return the gains of q's and k's heads, ((H + K) * D,), in the order of rotated channels."""
    parts = []
    scale = config.score_scale if config.turns_before_norm else 1.0
    counts = (config.num_heads, config.num_kv_heads)
    for name, heads, factor in zip(config.head_norm_names(), counts, (scale, 1.0), strict=True):
        gain = _gain(config, weights, f"{prefix}.{name}", storage)
        gain *= factor
        halves = gain.reshape(-1, 2, config.head_dim // 2)
        rows = np.broadcast_to(halves, (heads, *halves.shape[1:]))
        parts.append(rows.swapaxes(1, 2).reshape(-1))
    return np.concatenate(parts)


def _scatter(rows: Array, index: Index, out: Array) -> Array:
    """Write `rows` (M, X) at `index` of out (T, X) and zero elsewhere; return out."""
    out[...] = 0.0
    out[index] = rows
    return out
