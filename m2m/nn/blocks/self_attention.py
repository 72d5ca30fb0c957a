"""Self-attention of a layer: q, k and v of a normalised input, turned, attended, and mapped back.

The forward saves the normalised input, rotated q, k, v, attention's output and log sums; the
backward computes all other values again if that is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.attention import GroupState, attention, attention_backward
from m2m.nn.blocks.norm import Norm, norm_gain
from m2m.nn.config import DecoderConfig, LayerKind
from m2m.nn.context import Contexts
from m2m.nn.functional import NORMS, rotate, rotate_backward
from m2m.nn.layout import AttentionPlan, Layout
from m2m.nn.linear import FusedLinear, FusedMap, Grads
from m2m.nn.matrix import Storage
from m2m.nn.thread_pool import Worker
from m2m.nn.workspace import Workspace

Heads = tuple[Array, list[Array]]


@dataclass
class LayerPass:
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
class AttentionState:
    """Attention's arrays for its backward; inputs of maps end with R low-rank columns."""

    h: Array  # (T, C + R), normalised input of q, k, v
    heads: Heads | None  # normalised q and k (T, (H + K) * D), their inv
    groups: list[GroupState]  # q, k and v, rotated, and log sums
    contexts: Contexts  # keys and values before them
    mixed: Array  # (T, H * D + R), attention's output
    gate: tuple[Array, Array] | None  # the gate's sigmoid, and the output before it, (T, H * D)


class SelfAttention:
    """Self-attention with its weights; `norm` is the norm before it."""

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        number: int,
        storage: Storage,
        norm: Norm,
    ) -> None:
        prefix = f"model.layers.{number}.self_attn"
        turned = 0 if config.rotates_neighbours else config.rotary_size
        parts = [
            FusedMap(f"{prefix}.q_proj", config.num_heads, turned, gated=config.attention_gate),
            FusedMap(f"{prefix}.k_proj", config.num_kv_heads, turned),
            FusedMap(f"{prefix}.v_proj"),
        ]
        self.first = FusedLinear(
            parts, weights, storage, norm.gain, norm.offset, config.attention_bias
        )
        output = FusedMap(f"{prefix}.o_proj", factor=config.residual_scale)
        self.o = FusedLinear([output], weights, storage, bias=config.output_bias)
        self.kind = config.kind(number)
        self._number, self._eps = number, config.rms_norm_eps
        self._rotated = config.query_size + config.kv_size
        self._gates = config.query_size if config.attention_gate else 0
        self._whole = config.query_size if config.norms_whole_qk else 0
        self._dim = config.head_dim
        self._turns_first = config.turns_before_norm
        self._norm, self._norm_backward = NORMS[config.norm]
        self._head_gain = _head_gain(config, weights, prefix, storage) if config.qk_norm else None

    def input(self, rows: int, space: Workspace, name: str) -> Array:
        """Return the buffer of the input h, (T, C + R), whose first C columns the norm writes."""
        return space.get(name + "h1", rows, self.first.columns + self.first.rank)

    def mix(self, step: LayerPass, h: Array, name: str) -> AttentionState:
        """Attend; `mixed` of the result, (T, H * D + R), is the input of the map `o`."""
        space = step.space
        whole = space.get("dqkv", step.tokens, self.first.rows + self.first.rank)
        self.first.forward(h, whole[:, : self.first.rows])
        qkv = whole[:, self._gates : self.first.rows]
        heads = self._turn(qkv[:, : self._rotated], step, name)
        mixed = space.get(name + "mixed", step.tokens, self.o.columns + self.o.rank)
        contexts = Contexts(step.layout, step.worker, space, self._number)
        out = mixed[:, : self.o.columns]
        groups = attention(qkv, step.plans[self.kind], out, contexts, space, name)
        gate = self._gate(whole[:, : self._gates], out, space, name) if self._gates else None
        return AttentionState(h, heads, groups, contexts, mixed, gate)

    def _gate(self, raw: Array, out: Array, space: Workspace, name: str) -> tuple[Array, Array]:
        """Multiply attention's output by sigmoid(raw), in place; return that and the output."""
        sigmoid = space.get(name + "gate", *raw.shape)
        np.tanh(0.5 * raw, out=sigmoid)
        sigmoid += 1.0
        sigmoid *= 0.5
        before = space.get(name + "ungated", *raw.shape)
        before[...] = out
        out *= sigmoid
        return sigmoid, before

    def backward(
        self, step: LayerPass, state: AttentionState, dmixed: Array, grads: Grads
    ) -> Array | None:
        """Return the gradient of the input, (T, C), from that of `mixed`, (T, H * D).

        None in the first layer: nothing before it is trainable.
        """
        space = step.space
        dqkv = space.get("dqkv", step.tokens, self.first.rows + self.first.rank)
        plan, mixed = step.plans[self.kind], state.mixed[:, : self.o.columns]
        data = dqkv[:, self._gates : self.first.rows]
        if state.gate is not None:
            sigmoid, mixed = state.gate
            np.multiply(dmixed * mixed, sigmoid * (1.0 - sigmoid), out=dqkv[:, : self._gates])
            dmixed = dmixed * sigmoid
        attention_backward(dmixed, mixed, state.groups, plan, state.contexts, data, space)
        self._turn_backward(data[:, : self._rotated], step, state.heads)
        return input_gradient(self.first, self._number, state.h, dqkv, grads, space)

    def _turn(self, qk: Array, step: LayerPass, name: str) -> Heads | None:
        """Rotate q and k and normalise their heads, in the family's order; return `heads`."""
        if self._turns_first:
            rotate(qk, step.tables[self.kind])
        heads = self._normalise_heads(qk, step.space, name)
        if not self._turns_first:
            rotate(qk, step.tables[self.kind])
        return heads

    def _turn_backward(self, dqk: Array, step: LayerPass, heads: Heads | None) -> None:
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
        invs = [self._norm(rows, self._eps, rows) for rows in self._normed(xhat)]
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
            self._norm_backward(grad, rows, inv, out)
        dqk[...] = before


def input_gradient(
    linear: FusedLinear, layer: int, h: Array, dout: Array, grads: Grads, space: Workspace
) -> Array | None:
    """Run the backward of a layer's first map; return the gradient of its input, (T, C).

    None in the first layer, whose input is not trainable.
    """
    if not layer:
        linear.backward_low(dout)
        linear.grads(h, h[:, linear.columns :], dout, grads)
        return None
    dh = space.get("update", len(h), linear.columns)
    linear.whole_backward(h, dout, dh, grads)
    return dh


def _head_gain(
    config: DecoderConfig, weights: Mapping[str, NDArray[Any]], prefix: str, storage: Storage
) -> Array:
    """Return the gains of q's and k's heads, ((H + K) * D,), in the order of rotated channels."""
    parts = []
    scale = config.score_scale if config.turns_before_norm else 1.0
    counts = (config.num_heads, config.num_kv_heads)
    turned = 0 if config.rotates_neighbours else config.rotary_size
    for names, heads, factor in zip(config.head_norm_names(), counts, (scale, 1.0), strict=True):
        gains = [norm_gain(config, weights, f"{prefix}.{name}", storage.dtype) for name in names]
        gain = np.concatenate(gains) * factor
        rows = np.broadcast_to(gain.reshape(-1, config.head_dim), (heads, config.head_dim))
        parts.append(FusedMap(names[0], heads, turned).ours(rows.reshape(-1)))
    return np.concatenate(parts)
