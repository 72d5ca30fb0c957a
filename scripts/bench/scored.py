"""Scoring on a device next to llama.cpp's own prompt processing, with random weights of a shape.

    python scripts/bench/scored.py MODEL THREADS LAYERS REPEATS

A process of its own: training switches off Vulkan's 16-bit products for its whole process.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import MODELS, RandomWeights

from m2m.checkpoint import hf_to_gguf_name
from m2m.formats.gguf import GGMLQuantizationType, GGUFTensorSpec, GGUFValue, write_gguf
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import quantize
from m2m.llamacpp.scoring import Request, score
from m2m.llamacpp.type_speed import raw_seconds
from m2m.nn.config import DecoderConfig

QUESTIONS, SHARED, PROMPT, CHOICES, LONG = 64, 24, 60, 4, 4  # questions; tokens of their parts


def write_model(config: DecoderConfig, path: Path) -> None:
    """Write a Q8_0 model of a shape, without a vocabulary's texts."""
    number, real, family = GGUFValue.uint32, GGUFValue.float32, config.architecture
    keys = {
        "block_count": number(config.num_layers),
        "context_length": number(config.max_position_embeddings),
        "embedding_length": number(config.hidden_size),
        "feed_forward_length": number(config.intermediate_size),
        "attention.head_count": number(config.num_heads),
        "attention.head_count_kv": number(config.num_kv_heads),
        "attention.key_length": number(config.head_dim),
        "attention.value_length": number(config.head_dim),
        "attention.layer_norm_rms_epsilon": real(config.rms_norm_eps),
        "rope.freq_base": real(config.rope_theta),
        "rope.dimension_count": number(config.head_dim),
        "vocab_size": number(config.vocab_size),
    }
    metadata = {
        "general.architecture": GGUFValue.string(family),
        **{f"{family}.{key}": value for key, value in keys.items()},
        "tokenizer.ggml.model": GGUFValue.string("no_vocab"),
    }
    kinds = {1: GGMLQuantizationType.F32, 2: GGMLQuantizationType.Q8_0}
    weights, shapes = RandomWeights(config), config.weight_shapes()
    specs = [
        GGUFTensorSpec(hf_to_gguf_name(name, config), shape, kinds[len(shape)])
        for name, shape in shapes.items()
    ]
    arrays = (weights[name] for name in shapes)
    data = (a if a.ndim == 1 else quantize(a.astype(np.float32), int(kinds[2])) for a in arrays)
    write_gguf(path, metadata, specs, data)


def questions(vocabulary: int) -> list[Request]:
    """Multiple-choice questions whose prompts begin alike."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, vocabulary, SHARED).tolist()
    return [
        Request(
            [*shared, *rng.integers(0, vocabulary, PROMPT - SHARED).tolist()],
            [rng.integers(0, vocabulary, LONG).tolist() for _ in range(CHOICES)],
        )
        for _ in range(QUESTIONS)
    ]


def measure_scoring(name: str, threads: int, layers: int, repeats: int) -> dict[str, Any]:
    """Return tokens per second of scoring and of plain decoding, in turn, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.gguf"
        write_model(MODELS[name], path)
        with LlamaModel(path, threads=threads, gpu_layers=layers) as model:
            asked, rates, plain = questions(model.vocab_size), [], []
            tokens = score(model, asked).decoded  # also compiles
            for _ in range(repeats):
                plain.append(tokens / raw_seconds(model, tokens))
                model.clear()
                started = time.perf_counter()
                score(model, asked)
                rates.append(tokens / (time.perf_counter() - started))
    pairs = zip(rates, plain, strict=True)
    return {
        "tokens_per_second": round(statistics.median(rates), 1),
        "over_llama_decode": round(statistics.median(one / other for one, other in pairs), 3),
    }


if __name__ == "__main__":
    print(json.dumps(measure_scoring(sys.argv[1], *map(int, sys.argv[2:]))))
