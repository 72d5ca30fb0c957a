"""Compute the memory of a training from sizes alone, so that m2m knows it before the start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from m2m.nn.config import DecoderConfig
from m2m.nn.head import LOGITS, MOST_ROWS
from m2m.nn.layout import PADS, QUERIES, SCORES
from m2m.nn.lora import select_modules
from m2m.nn.matrix import KINDS

FLOAT, HALF = 4, 2
TABLES = ("model.embed_tokens.weight", "lm_head.weight")  # stays float16 if the base is
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
        float16: whether the base's weights are float16, so that they can stay so.
        bf16: whether maps are stored as bfloat16, once for each direction.
    """

    rank: int
    modules: tuple[str, ...]
    tokens: int
    length: int
    threads: int
    copies: int = 3
    float16: bool = False
    bf16: bool = False


def peak_bytes(config: DecoderConfig, load: Load, *, recompute: int, half: bool) -> int:
    """Return the most bytes that a `Decoder` with these options and an optimiser hold at once."""
    again = min(recompute, config.num_layers)
    apart = config.num_layers - again + (again > 0)  # layers that run again share buffers
    states = apart * _kept(config, load) + again * load.tokens * config.hidden_size
    floats = states + _passing(config, load) + load.threads * _blocks(config, load)
    return (
        FLOAT * floats
        + _weights(config, load, half)
        + _adapters(config, load)
        + BLAS * load.threads
    )


def _ranks(config: DecoderConfig, load: Load) -> tuple[int, int, int, int]:
    """Return the low-rank columns of qkv, o, gate and up, down."""
    names = {
        name.rsplit(".", 1)[-1] for name in select_modules(config.linear_shapes(), load.modules)
    }
    maps = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
    ranks = (load.rank * sum(name in names for name in group) for group in maps)
    q, o, g, d = (KINDS["bf16"].room(rank) if load.bf16 else rank for rank in ranks)
    return q, o, g, d


def _up(config: DecoderConfig) -> int:
    """Return the rows of the map from the stream to the MLP: gate and up, or up alone."""
    return config.intermediate_size * (2 if config.gated else 1)


def _padded(load: Load) -> int:
    """Return the tokens of a batch with the pads of its groups."""
    return load.tokens + max(PADS[0], load.tokens // PADS[1])


def _kept(config: DecoderConfig, load: Load) -> int:
    """Return the floats that a layer's forward saves (`layer.Saved`)."""
    c, wide = config.hidden_size, config.query_size
    q, o, g, d = _ranks(config, load)
    token = (c + q) + (wide + o) + (c + g) + (_up(config) + g) + d + 2
    if config.qk_norm:
        token += wide + config.kv_size + config.num_heads + config.num_kv_heads
    if config.post_norms:
        token += 2 * c + 2
    heads = (config.num_heads + 2 * config.num_kv_heads) * (config.head_dim + 1)
    return token * load.tokens + heads * _padded(load)


def _passing(config: DecoderConfig, load: Load) -> int:
    """Return the floats of buffers that all layers use in turn, and that chunks send each other."""
    c, f, wide, kv = (
        config.hidden_size,
        config.intermediate_size,
        config.query_size,
        config.kv_size,
    )
    q, o, g, d = _ranks(config, load)
    low = max(o, d)
    token = 2 * c + (wide + 2 * kv + q) + (f + d) + 2 * (c + low) + 2 * wide + g
    token += 2 * (wide + kv)  # the rotary table, and the arrays that make it
    token += c + max(q, g)  # a map's input times the gain
    padded = (wide + 2 * kv) + 2 * (wide + config.num_heads) + wide + 2 * kv
    head = 7 * c * load.tokens
    token += c if config.parallel else 0
    between = 4 * kv * min(load.length, load.tokens) * config.num_layers if load.threads > 1 else 0
    return token * load.tokens + padded * _padded(load) + head + between


def _blocks(config: DecoderConfig, load: Load) -> int:
    """Return the floats of one thread's blocks: scores, logits, a part of the vocabulary."""
    scores = max(SCORES, config.num_heads * QUERIES * load.length)
    rows = MOST_ROWS * config.hidden_size * (2 if load.bf16 else 1)
    return 3 * scores + max(2 * LOGITS, rows)


def _weights(config: DecoderConfig, load: Load, half: bool) -> int:
    """Return the bytes of the base, with the adapters' places in it."""
    shapes = config.weight_shapes()
    total = sum(math.prod(shape) for shape in shapes.values())
    c, f, wide = config.hidden_size, config.intermediate_size, config.query_size
    sizes = ((wide + 2 * config.kv_size, c), (c, wide), (_up(config), c), (c, f))
    ranks = _ranks(config, load)
    pairs = list(zip(sizes, ranks, strict=True))
    places = sum((r + rank) * (c + rank) - r * c for (r, c), rank in pairs)
    if half:
        # Stored as wide as they are cast; every thread casts one map at a time.
        wider = sum(rows * rank for (rows, _), rank in pairs)
        cast = max((rows + rank) * (columns + rank) for (rows, columns), rank in pairs)
        stored = HALF * (total + config.num_layers * wider)
        return stored + FLOAT * (config.num_layers * places + load.threads * cast)
    if load.bf16:
        twice = sum(2 * r * c + rank * (r + c) for (r, c), rank in pairs)
        low = sum(rank * (r + c) for (r, c), rank in pairs)
        maps = sum(r * c for (r, c), _ in pairs)
        kept = (HALF * twice + FLOAT * low) * config.num_layers
        rest = total - config.num_layers * maps
        return kept + (HALF if load.float16 else FLOAT) * rest
    tables = sum(math.prod(shapes[name]) for name in TABLES if name in shapes)
    saved = (FLOAT - HALF) * tables if load.float16 else 0
    return FLOAT * (total + config.num_layers * places) - saved


def _adapters(config: DecoderConfig, load: Load) -> int:
    """Return the bytes of adapters, gradients and the optimiser's state."""
    shapes = select_modules(config.linear_shapes(), load.modules)
    parameters = load.rank * sum(rows + columns for rows, columns in shapes.values())
    return FLOAT * parameters * (load.copies + load.threads)
