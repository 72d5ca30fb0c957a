"""The decoder of m2m.nn as a graph, from the same description of the family.

    x += P1(attention(N1(x)));     x += P2(mlp(N2(x)))

It has fewer traits than m2m.nn: `missing` names those of a family that the graph lacks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from m2m.ggml import bindings as c
from m2m.ggml.attention import Block, Heads, attention, make_block
from m2m.ggml.graph import Graph, LinearMap, Rope, Value
from m2m.nn.config import DecoderConfig, LayerKind
from m2m.nn.layout import Layout
from m2m.nn.rope import amplitude, frequencies, rotation

LOGITS = 1 << 24  # elements of one block of logits: 64 MiB of float32, and again for its gradient

ACTIVATIONS = ("silu", "gelu_tanh")
# Traits that any value of is computed; of all others only the default is.
COMPUTED = """
    architecture vocab_size hidden_size intermediate_size num_layers num_heads num_kv_heads head_dim
    rms_norm_eps rope_theta tie_word_embeddings max_position_embeddings activation attention_bias
    output_bias mlp_bias qk_norm turns_before_norm norms_whole_qk pre_norms post_norms shared_norm
    norm_offset embedding_scale query_scale residual_scale logit_divisor logit_scale parallel
    attention_cap logit_cap rotary_dim rotates_neighbours layer_is_rotated sliding_window
    layer_is_local local_rope_theta rope_scaling
"""


def missing(config: DecoderConfig) -> list[str]:
    """Return the traits of a model that the graph does not compute; none: it can be trained."""
    lacking = [
        each.name
        for each in fields(config)
        if each.name not in COMPUTED.split() and getattr(config, each.name) != each.default
    ]
    return lacking + (["activation"] if config.activation not in ACTIVATIONS else [])


def rows_of_logits(config: DecoderConfig) -> int:
    """Return the number of positions whose logits are one block."""
    return max(32, LOGITS // config.vocab_size)


@dataclass(frozen=True)
class Weights:
    """The frozen tensors on the device.

    Attributes:
        maps: linear maps by module path, with the adapters of this step.
        vectors: gains of norms by name, with the family's offset added.
        table: embeddings (C, V).
        head: output head (C, V).
        head_back: the same, transposed: (V, C).
    """

    maps: Mapping[str, LinearMap]
    vectors: Mapping[str, int]
    table: int
    head: int
    head_back: int


@dataclass(frozen=True)
class Losses:
    """The result of a graph: probabilities (1, M) of the targets, position by position."""

    parts: list[tuple[int, int]]  # tensor and number of positions


class Network:
    """Puts the forward and the backward of one batch on a graph.

    Args:
        graph: an empty graph.
        config: the family's traits.
        weights: on the device.
        layout: the batch; no prefix is shared.
        boost: factor on all gradients, for weights of 16 bits.
        recompute: whether the backward computes each layer again instead of keeping its values.
    """

    def __init__(
        self,
        graph: Graph,
        config: DecoderConfig,
        weights: Weights,
        layout: Layout,
        boost: float,
        recompute: bool,
    ) -> None:
        self._g, self._config, self._weights, self._layout = graph, config, weights, layout
        self._boost, self._recompute = boost, recompute
        self._positions = graph.input(layout.positions.astype(np.int32))
        self._blocks: dict[int, list[Block]] = {}
        self._ropes: dict[LayerKind, Rope | None] = {}

    def losses(self, grad: bool) -> Losses:
        """Put the whole step on the graph, with its backward if `grad`."""
        tokens = self._g.input(self._layout.tokens.astype(np.int32))
        size = (self._config.hidden_size, len(self._layout.tokens))
        x = Value(self._g.op("get_rows", self._weights.table, tokens), size)
        x = self._g.scale(x, self._config.embedding_scale)
        last = self._config.num_layers - 1
        for number in range(last + 1):
            rows = self._layout.loss_index if number == last else None
            layer = functools.partial(self._layer, number, rows)
            x = self._g.again(x, layer) if grad and self._recompute else layer(x)
        h = self._g.norm(x, self._weights.vectors["model.norm"], self._config.rms_norm_eps)
        losses, dh = self._head(h, grad)
        if grad:
            self._g.give(h, dh)
            self._g.backward()
        return losses

    def _layer(self, number: int, rows: NDArray[np.intp] | None, x: Value) -> Value:
        g, config, prefix = self._g, self._config, f"model.layers.{number}"
        first, after, second, last = (name and f"{prefix}.{name}" for name in config.norm_places())
        mixed = self._attention(number, self._norm(x, first))
        if rows is not None:
            mixed, x = g.rows(mixed, rows), g.rows(x, rows)
        stream = x
        update = self._norm(self._linear(f"{prefix}.self_attn.o_proj", mixed), after)
        x = g.add(x, g.scale(update, config.residual_scale))
        h = self._norm(stream if config.parallel else x, second)
        gate, up = (self._linear(f"{prefix}.mlp.{name}_proj", h) for name in ("gate", "up"))
        down = self._linear(f"{prefix}.mlp.down_proj", g.glu(gate, up, config.activation))
        return g.add(x, g.scale(self._norm(down, last), config.residual_scale))

    def _norm(self, x: Value, name: str | None) -> Value:
        if name is None:
            return x
        return self._g.norm(x, self._weights.vectors[name], self._config.rms_norm_eps)

    def _linear(self, module: str, x: Value) -> Value:
        return self._g.linear(x, self._weights.maps[module])

    def _attention(self, number: int, h: Value) -> Value:
        config, kind = self._config, self._config.kind(number)
        prefix, tokens = f"model.layers.{number}.self_attn", h.shape[1]
        q, k, v = (self._linear(f"{prefix}.{name}_proj", h) for name in "qkv")
        turned = [
            self._g.view(self._turn(x, f"{prefix}.{name}", count, kind), x.shape[0], tokens)
            for x, name, count in ((q, "q", config.num_heads), (k, "k", config.num_kv_heads))
        ]
        heads = Heads(
            config.num_kv_heads,
            config.num_heads // config.num_kv_heads,
            config.head_dim,
            config.score_scale,
            config.attention_cap,
        )
        window = config.sliding_window if kind.local else 0
        return attention(self._g, turned[0], turned[1], v, heads, self._blocks_of(window))

    def _turn(self, x: Value, name: str, heads: int, kind: LayerKind) -> Value:
        """Normalise and rotate q or k (heads * D, T), in the family's order: (D, heads, T)."""
        config, g, shape = self._config, self._g, (self._config.head_dim, heads, x.shape[1])
        rope = self._rope(kind)
        if config.turns_before_norm and rope:
            x = g.rope(g.view(x, *shape), rope)
        if config.qk_norm:
            if not config.norms_whole_qk:
                x = g.view(x, *shape)
            x = g.norm(x, self._weights.vectors[name], config.rms_norm_eps)
        x = g.view(x, *shape)
        return x if config.turns_before_norm or not rope else g.rope(x, rope)

    def _blocks_of(self, window: int) -> list[Block]:
        if window not in self._blocks:
            groups = self._layout.groups
            self._blocks[window] = [make_block(self._g, group, window) for group in groups]
        return self._blocks[window]

    def _rope(self, kind: LayerKind) -> Rope | None:
        """Return a kind's rotation. Factors stretch ggml's frequencies to those of the family."""
        if not kind.rotated:
            return None
        if kind not in self._ropes:
            config = self._config
            theta, scaling = rotation(config, kind)
            plain = frequencies(config.rotary_size, theta)
            factors = plain / frequencies(config.rotary_size, theta, scaling)
            tensor = self._g.input(factors.astype(np.float32)) if scaling else None
            mode = c.NORMAL if config.rotates_neighbours else c.NEOX
            self._ropes[kind] = Rope(
                self._positions, tensor, config.rotary_size, mode, theta, amplitude(scaling)
            )
        return self._ropes[kind]

    def _head(self, h: Value, grad: bool) -> tuple[Losses, int]:
        """Return the losses and the gradient of h (C, M): `softmax(E h) E - E[target]`."""
        g, size, (width, count) = self._g, self._config.vocab_size, h.shape
        step, parts, dh = rows_of_logits(self._config), [], 0
        for start in range(0, count, step):
            target = self._layout.loss_target[start : start + step]
            some = g.op("view_2d", h.tensor, width, len(target), 4 * width, 4 * width * start)
            logits, slope = self._capped(g.op("mul_mat", self._weights.head, some))
            p = g.op("soft_max_ext", logits, None, 1.0, 0.0)
            flat = g.input((target + size * np.arange(len(target))).astype(np.int32))
            picked = g.op("get_rows", g.reshape(p, 1, size * len(target)), flat)
            parts.append((g.output(picked), len(target)))
            if grad:
                rows = g.op("get_rows", self._weights.head, g.input(target.astype(np.int32)))
                if slope is not None:
                    p = g.op("mul", p, slope)
                    own = g.op("get_rows", g.reshape(slope, 1, size * len(target)), flat)
                    rows = g.op("mul", rows, g.reshape(own, 1, len(target)))
                product = g.op("mul_mat", self._weights.head_back, g.op("scale", p, self._boost))
                part = g.op("add", product, g.op("scale", rows, -self._boost))
                dh = g.op("concat", dh, part, 1) if start else part
        return Losses(parts), dh

    def _capped(self, logits: int) -> tuple[int, int | None]:
        """Return capped logits and their slope, or the logits and None."""
        cap = self._config.logit_cap
        if not cap:
            return logits, None
        tanh = self._g.op("tanh", self._g.op("scale", logits, 1.0 / cap))
        slope = self._g.op("scale_bias", self._g.op("mul", tanh, tanh), -1.0, 1.0)
        return self._g.op("scale", tanh, cap), slope
