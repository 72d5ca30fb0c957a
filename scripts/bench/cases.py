"""What the training benches measure with: real shapes, random weights, rows of two kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from m2m.nn.config import Batch, DecoderConfig

RANK = 16
PREFIX = 24  # tokens of a chat template's opening, which short rows share
CASES = ("short_512", "short_2048", "long_512", "long_2048")

SMOLLM2_135M = DecoderConfig(
    architecture="llama",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=100000.0,
    tie_word_embeddings=True,
    max_position_embeddings=8192,
)
MODELS = {
    "pico": replace(  # to try a bench
        SMOLLM2_135M,
        vocab_size=512,
        hidden_size=64,
        intermediate_size=192,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
    ),
    "135m": SMOLLM2_135M,
    "360m": replace(
        SMOLLM2_135M,
        hidden_size=960,
        intermediate_size=2560,
        num_layers=32,
        num_heads=15,
        num_kv_heads=5,
    ),
    "0.5b": replace(
        SMOLLM2_135M,
        architecture="qwen2",
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_layers=24,
        num_heads=14,
        num_kv_heads=2,
        rope_theta=1000000.0,
        attention_bias=True,
    ),  # Qwen2.5 0.5B
    "1b": replace(
        SMOLLM2_135M,
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        rope_theta=500000.0,
    ),  # Llama 3.2 1B
    "3b": replace(
        SMOLLM2_135M,
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_layers=28,
        num_heads=24,
        num_kv_heads=8,
        head_dim=128,
        rope_theta=500000.0,
    ),  # Llama 3.2 3B
}


class RandomWeights(Mapping[str, Any]):
    """Weights of the right shapes, drawn when asked for: norms one, the rest small float16."""

    def __init__(self, config: DecoderConfig) -> None:
        self._shapes = config.weight_shapes()
        self._rng = np.random.default_rng(0)

    def __getitem__(self, name: str) -> Any:
        shape = self._shapes[name]
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        drawn = self._rng.standard_normal(shape, dtype=np.float32)
        drawn *= np.float32(0.02)
        return drawn.astype(np.float16)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def make_batch(case: str, vocabulary: int, rng: np.random.Generator) -> tuple[Batch, int]:
    """Return a batch of one of the CASES and the tokens of text it stands for."""
    kind, budget = case.split("_")
    if kind == "long":
        length = min(512, int(budget))
        lengths, prefix, fraction = np.full(int(budget) // length, length), 0, 1.0
    else:
        prefix, fraction = PREFIX, 0.2
        drawn = np.cumsum(rng.integers(28, 53, 1000) - prefix)
        lengths = np.diff(drawn[drawn <= int(budget) - prefix], prepend=0)
    ends = prefix + np.cumsum(lengths)
    index = [
        np.arange(end - min(length, max(1, round((prefix + length) * fraction))), end)
        for end, length in zip(ends, lengths, strict=True)
    ]
    loss_index = np.concatenate(index)
    total = int(prefix + lengths.sum())
    tokens = rng.integers(0, vocabulary, total).astype(np.int32)
    target = rng.integers(0, vocabulary, len(loss_index))
    text = int(lengths.sum() + prefix * len(lengths))
    return Batch(tokens, lengths, prefix, loss_index, target), text
