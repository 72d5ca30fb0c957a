"""Attention of packed rows on a graph: each group of rows with similar lengths is one block.

    scores = scale k' q,     p = softmax(scores + mask),     out = v p

The heads that share keys are computed as one product. The backward computes p again: to keep it
would take H N^2 numbers for every row of N tokens and every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2m.ggml.graph import Graph, Value
from m2m.nn.layout import RowGroup


@dataclass(frozen=True)
class Heads:
    """The heads of one kind of layer.

    Attributes:
        kv: K, key/value heads.
        group: G, query heads that share one of them.
        dim: D.
        scale: factor on scores.
        cap: scores s become cap * tanh(s / cap); 0: they do not.
    """

    kv: int
    group: int
    dim: int
    scale: float
    cap: float


@dataclass(frozen=True)
class Block:
    """A group of rows with the tensors that gather it from the batch and put it back.

    Attributes:
        start, tokens: its first token in the batch, and their number.
        rows, length: S and N; each row is padded to N.
        sources: (S * N,) the token for each padded place; None if nothing is padded.
        slots: (tokens,) each token's padded place.
        pads: (1, S * N), 0 for pads and 1 for tokens.
        mask: (N, N), 0 or -inf.
    """

    start: int
    tokens: int
    rows: int
    length: int
    sources: int | None
    slots: int | None
    pads: int | None
    mask: int


def make_block(graph: Graph, group: RowGroup, window: int) -> Block:
    """Return the block of a group; with a window, a token sees that many, itself included."""
    places = np.arange(group.length)
    distance = places[:, None] - places
    seen = distance >= 0
    if window:
        seen &= distance < window
    mask = graph.input(np.where(seen, 0.0, -np.inf).astype(np.float32))
    tokens = sum(group.lengths)
    sizes = (group.start, tokens, group.rows, group.length)
    if group.slots is None:
        return Block(*sizes, None, None, None, mask)
    real = np.zeros((group.rows * group.length, 1), np.float32)
    real[group.slots] = 1.0
    sources = graph.input((group.start + group.sources).astype(np.int32))
    slots = graph.input(group.slots.astype(np.int32))
    return Block(*sizes, sources, slots, graph.input(real), mask)


def attention(
    graph: Graph, q: Value, k: Value, v: Value, heads: Heads, blocks: list[Block]
) -> Value:
    """Return attention's output (H * D, T) for q (H * D, T) and k, v (K * D, T)."""
    parts = [_Part(graph, (q.tensor, k.tensor, v.tensor), heads, block) for block in blocks]
    out = _joined(graph, [part.forward() for part in parts])

    def back(grad: int) -> None:
        grads = [part.backward(grad) for part in parts]
        for value, own in zip((q, k, v), zip(*grads, strict=True), strict=True):
            graph.give(value, _joined(graph, list(own)))

    return graph.apply(out, q.shape, (q, k, v), back)


def _joined(graph: Graph, parts: list[int]) -> int:
    """Return the tokens of all blocks, in the batch's order."""
    out = parts[0]
    for part in parts[1:]:
        out = graph.op("concat", out, part, 1)
    return out


class _Part:
    """Attention within one block, S rows of N tokens."""

    def __init__(self, graph: Graph, qkv: tuple[int, int, int], heads: Heads, block: Block) -> None:
        self._g, self._qkv, self._heads, self._block = graph, qkv, heads, block

    def forward(self) -> int:
        """Return the output of the block's tokens, (H * D, tokens)."""
        g, kv, dim = self._g, self._heads.kv, self._heads.dim
        _, probabilities, _ = self._probabilities()
        values = g.swap(self._split(self._qkv[2], kv), 1, 2, 0, 3)  # (N, D, K, S)
        return self._packed(g.op("mul_mat", values, probabilities), kv * self._heads.group * dim)

    def backward(self, grad: int) -> tuple[int, int, int]:
        """Return the gradients of the tokens' q, k and v from that of the batch's output."""
        g, h = self._g, self._heads
        queries, probabilities, tanh = self._probabilities()
        keys, values = (self._split(x, h.kv) for x in self._qkv[1:])
        dout = self._merged(self._gathered(grad, h.kv * h.group * h.dim, clear=True))
        dp = g.op("mul_mat", g.swap(values, 0, 2, 1, 3), dout)
        scale = 1.0 if tanh is not None else h.scale
        by_head = self._by_head(probabilities)
        ds = g.op("soft_max_ext_back", self._by_head(dp), by_head, scale, 0.0)
        if tanh is not None:
            slope = g.op("scale_bias", g.op("mul", tanh, tanh), -h.scale, h.scale)
            ds = g.op("mul", ds, slope)
        ds = self._together(ds)
        dq = g.op("mul_mat", g.swap(keys, 1, 2, 0, 3), ds)
        dk = g.op("mul_mat", g.across(queries), g.across(ds))
        dv = g.op("mul_mat", g.across(dout), g.across(probabilities))
        width = h.kv * h.dim
        return (
            self._packed(dq, width * h.group),
            self._packed(dk, width, shared=True),
            self._packed(dv, width, shared=True),
        )

    def _probabilities(self) -> tuple[int, int, int | None]:
        """Return q (D, N * G, K, S), p (N, N * G, K, S) and, with a cap, tanh(s / cap)."""
        g, h = self._g, self._heads
        keys = g.swap(self._split(self._qkv[1], h.kv), 0, 2, 1, 3)
        queries = self._merged(self._gathered(self._qkv[0], h.kv * h.group * h.dim))
        scores, scale, tanh = self._by_head(g.op("mul_mat", keys, queries)), h.scale, None
        if h.cap:
            tanh = g.op("tanh", g.op("scale", scores, h.scale / h.cap))
            scores, scale = g.op("scale", tanh, h.cap), 1.0
        p = g.op("soft_max_ext", scores, self._block.mask, scale, 0.0)
        return queries, self._together(p), tanh

    def _gathered(self, x: int, width: int, clear: bool = False) -> int:
        """Return the block's tokens of x (width, T) with pads, (width, S * N)."""
        g, block = self._g, self._block
        if block.sources is None:
            return g.op("view_2d", x, width, block.tokens, 4 * width, 4 * width * block.start)
        padded = g.op("get_rows", x, block.sources)
        return g.op("mul", padded, block.pads) if clear else padded

    def _split(self, x: int, heads: int) -> int:
        """Return the block's tokens of x by head, (D, heads, N, S)."""
        block, dim = self._block, self._heads.dim
        padded = self._gathered(x, heads * dim)
        return self._g.reshape(padded, dim, heads, block.length, block.rows)

    def _merged(self, padded: int) -> int:
        """Return (H * D, S * N) with the heads that share keys side by side, (D, N * G, K, S)."""
        g, h, block = self._g, self._heads, self._block
        split = g.reshape(padded, h.dim, h.kv * h.group, block.length, block.rows)
        return g.reshape(g.swap(split, 0, 2, 1, 3), h.dim, block.length * h.group, h.kv, block.rows)

    def _by_head(self, scores: int) -> int:
        """View (N, N * G, K, S) as (N, N, H, S)."""
        h, block = self._heads, self._block
        return self._g.reshape(scores, block.length, block.length, h.kv * h.group, block.rows)

    def _together(self, scores: int) -> int:
        """View (N, N, H, S) as (N, N * G, K, S)."""
        h, block = self._heads, self._block
        return self._g.reshape(scores, block.length, block.length * h.group, h.kv, block.rows)

    def _packed(self, x: int, width: int, shared: bool = False) -> int:
        """Return (D, N * G, K, S) or (D, N, K, S) as the tokens' rows, (width, tokens)."""
        g, h, block = self._g, self._heads, self._block
        heads = h.kv if shared else h.kv * h.group
        by_token = g.swap(g.reshape(x, h.dim, block.length, heads, block.rows), 0, 2, 1, 3)
        rows = g.reshape(by_token, width, block.length * block.rows)
        return rows if block.slots is None else g.op("get_rows", rows, block.slots)
