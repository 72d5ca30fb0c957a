"""Compute the memory of a training from sizes alone, so that m2m knows it before the start."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache

from m2m.kernels.q8_0 import BYTES, VALUES
from m2m.nn.blocks.delta_net import STATES
from m2m.nn.config import DecoderConfig
from m2m.nn.delta_rule import PIECE
from m2m.nn.head import LOGITS, MOST_ROWS
from m2m.nn.layout import PADS, QUERIES, SCORES
from m2m.nn.lora import select_modules
from m2m.nn.matrix import KINDS

FLOAT, HALF = 4, 2
TABLES = ("model.embed_tokens.weight", "lm_head.weight")  # stays in 16 bits if the base is
BLAS = 24 << 20  # bytes of packing buffers that OpenBLAS uses per thread


@dataclass(frozen=True)
class Load:
    """The sizes of a training that decide its memory.

    Attributes:
        rank: rank of every adapter.
        modules: last parts of the modules that have one.
        tokens: most tokens of a batch.
        length: tokens of the longest row.
        threads: number of threads that share a step.
        copies: number of arrays as large as all adapters, besides one gradient a thread: adapters,
            AdamW's two, and the best adapter or a second batch's gradients if these are kept.
        narrow: whether the base's weights have 16 bits, so that they can stay so.
        precision: "float32"; "bf16": maps are stored once for each direction; "q8_0": in 8.5 bits.
    """

    rank: int
    modules: tuple[str, ...]
    tokens: int
    length: int
    threads: int
    copies: int = 3
    narrow: bool = False
    precision: str = "float32"


def peak_bytes(config: DecoderConfig, load: Load, *, recompute: int, half: bool) -> int:
    """Return the most bytes that a `Decoder` with these options and an optimiser hold at once."""
    again = min(recompute, config.num_layers)
    kept = [_kept(config, load, layer) for layer in range(config.num_layers)]
    states = sum(kept[again:]) + max(kept[:again], default=0)  # those that run again share buffers
    states += again * load.tokens * config.hidden_size
    floats = states + _passing(config, load) + load.threads * _blocks(config, load)
    return (
        FLOAT * floats
        + _weights(config, load, half)
        + _adapters(config, load)
        + BLAS * load.threads
    )


Map = tuple[int, int, int]  # rows, columns and low-rank columns


@lru_cache(maxsize=16)  # a saving is chosen among as many ways as there are layers
def _maps(config: DecoderConfig, load: Load) -> list[tuple[Map, Map, Map, Map]]:
    """Return each layer's fused maps: into the mixer (q, k, v), out of it, up and down."""
    chosen = select_modules(config.linear_shapes(), load.modules)
    return [_maps_of(config, load, layer, chosen) for layer in range(config.num_layers)]


def _maps_of(
    config: DecoderConfig, load: Load, layer: int, chosen: Container[str]
) -> tuple[Map, Map, Map, Map]:
    """Return a layer's fused maps; `chosen`: the modules that have an adapter."""
    mixing = config.mixer_shapes(config.mixer(layer))
    mlp = [f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")]
    c, f = config.hidden_size, config.intermediate_size
    sizes = mixing | dict(zip(mlp, [(f, c), (f, c), (c, f)], strict=True))

    def fused(names: Sequence[str]) -> Map:
        rank = load.rank * sum(f"model.layers.{layer}.{name}" in chosen for name in names)
        rank = KINDS["bf16"].room(rank) if load.precision == "bf16" else rank
        return sum(sizes[name][0] for name in names), sizes[names[0]][1], rank

    *first, last = mixing
    up = mlp[:2] if config.gated else mlp[1:2]
    return fused(first), fused([last]), fused(up), fused(mlp[2:])


def _ranks(config: DecoderConfig, load: Load, layer: int) -> tuple[int, int, int, int]:
    """Return the low-rank columns of a layer's fused maps."""
    q, o, g, d = (rank for _, _, rank in _maps(config, load)[layer])
    return q, o, g, d


def _up(config: DecoderConfig) -> int:
    """Return the rows of the map from the stream to the MLP: gate and up, or up alone."""
    return config.intermediate_size * (2 if config.gated else 1)


def _padded(load: Load) -> int:
    """Return the tokens of a batch with the pads of its groups."""
    return load.tokens + max(PADS[0], load.tokens // PADS[1])


def _kept(config: DecoderConfig, load: Load, layer: int) -> int:
    """Return the floats that a layer's forward saves (`layer.Saved`)."""
    c, wide = config.hidden_size, config.query_size
    q, o, g, d = _ranks(config, load, layer)
    token = (c + q) + (c + g) + (_up(config) + g) + d + 2
    if config.post_norms:
        token += 2 * c + 2
    if config.mixer(layer) == "conv":
        return (token + 3 * c + (c + o)) * load.tokens
    if config.mixer(layer) == "delta":
        rows, values, dim = _delta(config)
        states = -(-load.tokens // PIECE) * values * dim
        return (token + rows + 2 * values + o) * load.tokens + states
    token += wide + o
    if config.attention_gate:
        token += 2 * wide
    if config.qk_norm:
        token += wide + config.kv_size + config.num_heads + config.num_kv_heads
    heads = (config.num_heads + 2 * config.num_kv_heads) * (config.head_dim + 1)
    return token * load.tokens + heads * _padded(load)


def _delta(config: DecoderConfig) -> tuple[int, int, int]:
    """Return the rows of a DeltaNet's first maps, the width of its values, channels of a head."""
    first = sum(rows for rows, _ in list(config.mixer_shapes("delta").values())[:-1])
    return first, config.delta_heads * config.delta_dim, config.delta_dim


def _passing(config: DecoderConfig, load: Load) -> int:
    """Return the floats of buffers that all layers use in turn, and that chunks send each other."""
    c, f, wide, kv = (
        config.hidden_size,
        config.intermediate_size,
        config.query_size,
        config.kv_size,
    )
    ranks = [_ranks(config, load, layer) for layer in range(config.num_layers)]
    q, o, g, d = (max(rank[i] for rank in ranks) for i in range(4))
    low = max(o, d)
    token = 2 * c + (wide + 2 * kv + q) + (f + d) + 2 * (c + low) + 2 * wide + g
    token += 2 * (wide + kv)  # the rotary table, and the arrays that make it
    token += c + max(q, g)  # a map's input times the gain
    padded = (wide + 2 * kv) + 2 * (wide + config.num_heads) + wide + 2 * kv
    head = 7 * c * load.tokens
    token += c if config.parallel else 0
    if "conv" in config.layer_mixers:
        token += max(0, 3 * c - wide - 2 * kv) + 4 * c
    if "delta" in config.layer_mixers:
        rows, values, _ = _delta(config)
        token += max(0, rows - wide - 2 * kv) + 5 * rows + 5 * values
    if config.attention_gate:
        token += 4 * wide
    between = 4 * kv * min(load.length, load.tokens) * config.num_layers if load.threads > 1 else 0
    return token * load.tokens + padded * _padded(load) + head + between


def _blocks(config: DecoderConfig, load: Load) -> int:
    """Return the floats of one thread's blocks: scores, logits, a part of the vocabulary."""
    scores = max(SCORES, config.num_heads * QUERIES * load.length)
    rows = MOST_ROWS * config.hidden_size * (2 if load.precision == "bf16" else 1)
    return 3 * scores + max(2 * LOGITS, rows) + _pieces(config, load)


def _pieces(config: DecoderConfig, load: Load) -> int:
    """Return the floats of one thread's states of some rows and of one piece of them."""
    if "delta" not in config.layer_mixers:
        return 0
    _, values, dim = _delta(config)
    rows = max(1, STATES // (values * dim))
    tokens = min(rows * PIECE, load.tokens // load.threads)
    return 2 * max(STATES, values * dim) + 3 * tokens * (config.delta_heads * PIECE + values)


def _weights(config: DecoderConfig, load: Load, half: bool) -> int:
    """Return the bytes of the base, with the adapters' places in it."""
    shapes = config.weight_shapes()
    total = sum(math.prod(shape) for shape in shapes.values())
    every = [each for layer in _maps(config, load) for each in layer]
    places = sum((r + rank) * (c + rank) - r * c for r, c, rank in every)
    inner = sum(r * c for r, c, _ in every)
    rest = (HALF if half or load.narrow else FLOAT) * (total - inner)
    if half or load.precision == "q8_0":
        # Stored as wide as they are cast; every thread casts one map at a time.
        wide = KINDS["half" if half else "q8_0"].wide
        stored = sum(rows * wide(columns, rank) for rows, columns, rank in every)
        cast = max((rows + rank) * wide(columns, rank) for rows, columns, rank in every)
        maps = HALF * stored if half else stored // VALUES * BYTES
        return maps + rest + FLOAT * (places + load.threads * cast)
    if load.precision == "bf16":
        twice = sum(2 * r * c + rank * (r + c) for r, c, rank in every)
        low = sum(rank * (r + c) for r, c, rank in every)
        return HALF * twice + FLOAT * low + rest
    tables = sum(math.prod(shapes[name]) for name in TABLES if name in shapes)
    saved = (FLOAT - HALF) * tables if load.narrow else 0
    return FLOAT * (total + places) - saved


def _adapters(config: DecoderConfig, load: Load) -> int:
    """Return the bytes of adapters, gradients and the optimiser's state."""
    shapes = select_modules(config.linear_shapes(), load.modules)
    parameters = load.rank * sum(rows + columns for rows, columns in shapes.values())
    return FLOAT * parameters * (load.copies + load.threads)
