"""Measure a training step against its bare matrix products, on SmolLM2-135M's shapes.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python scripts/bench_train.py [--json] [CASE ...]

Weights are random, the shapes are real. A step's products are recorded as it runs (operands and
results, wherever they lie in memory) and then replayed alone, in turn with whole steps, so that
both see the same machine. Cases: short_512, short_2048 (rows of about 40 tokens after a prefix
that all share, a fifth of them with loss), long_512, long_2048 (rows of 512, loss everywhere).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, init_lora

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
    "135m": SMOLLM2_135M,
    "360m": replace(
        SMOLLM2_135M,
        hidden_size=960,
        intermediate_size=2560,
        num_layers=32,
        num_heads=15,
        num_kv_heads=5,
    ),
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
}
CASES = ("short_512", "short_2048", "long_512", "long_2048")
RANK = 16
PREFIX = 24  # tokens of a chat template's opening, which short rows share

Product = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


class RandomWeights(Mapping[str, Any]):
    """Weights of the right shapes, drawn when asked for: norms one, the rest small."""

    def __init__(self, config: DecoderConfig, half: bool = False) -> None:
        self._shapes = config.weight_shapes()
        self._dtype = np.float16 if half else np.float32
        self._rng = np.random.default_rng(0)

    def __getitem__(self, name: str) -> Any:
        shape = self._shapes[name]
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        drawn = self._rng.standard_normal(shape, dtype=np.float32)
        drawn *= np.float32(0.02)
        return drawn.astype(self._dtype, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def make_batch(case: str, vocabulary: int, rng: np.random.Generator) -> tuple[Batch, int]:
    """Return a batch of one of the CASES and the tokens of text it stands for."""
    kind, budget = case.split("_")
    if kind == "long":
        length = min(512, int(budget))
        lengths, prefix, share = np.full(int(budget) // length, length), 0, 1.0
    else:
        prefix, share = PREFIX, 0.2
        drawn = np.cumsum(rng.integers(28, 53, 1000) - prefix)
        lengths = np.diff(drawn[drawn <= int(budget) - prefix], prepend=0)
    ends = prefix + np.cumsum(lengths)
    index = [
        np.arange(end - min(length, max(1, round((prefix + length) * share))), end)
        for end, length in zip(ends, lengths, strict=True)
    ]
    loss_index = np.concatenate(index)
    total = int(prefix + lengths.sum())
    tokens = rng.integers(0, vocabulary, total).astype(np.int32)
    target = rng.integers(0, vocabulary, len(loss_index))
    text = int(lengths.sum() + prefix * len(lengths))
    return Batch(tokens, lengths, prefix, loss_index, target), text


def recorded(run: Callable[[], object]) -> list[Product]:
    """Run a step and return its matrix products in order, as (a, b, out)."""
    products: list[Product] = []
    matmul = np.matmul

    def record(a: Any, b: Any, out: Any = None) -> Any:
        result = matmul(a, b, out=out)
        if result.shape[-2:] != (1, 1):  # dot products of rows are element-wise work
            products.append((a, b, result))
        return result

    np.matmul = record  # type: ignore[assignment]
    try:
        run()
    finally:
        np.matmul = matmul
    return products


def replay(products: Sequence[Product]) -> None:
    """Do the products again, and nothing else."""
    for a, b, out in products:
        np.matmul(a, b, out=out)


def seconds(run: Callable[[], object]) -> float:
    """Time one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def flops(products: Sequence[Product]) -> float:
    """Return the multiply-adds of the products, twice."""
    return sum(2.0 * float(out.size) * float(a.shape[-1]) for a, _, out in products)


def measure(
    decoder: Decoder, case: str, lora: dict[str, LoraPair], repeats: int
) -> dict[str, float]:
    """Return what one case takes: ratio, tokens per second, GFLOP/s of its products."""
    batch, text = make_batch(case, decoder.config.vocab_size, np.random.default_rng(1))
    _, _, grads = decoder.loss_and_grads(batch, lora)

    def step() -> None:
        decoder.loss_and_grads(batch, lora, out=grads)

    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    products = recorded(step)
    steps, bare = [], []
    for _ in range(repeats):
        steps.append(seconds(step))
        bare.append(seconds(lambda: replay(products)))
    step_time, bare_time = min(steps), min(bare)
    return {
        "step_over_gemm": round(step_time / bare_time, 3),
        "step_over_gemm_median": round(statistics.median(steps) / statistics.median(bare), 3),
        "step_seconds": round(step_time, 4),
        "tokens_per_second": round(len(batch.tokens) / step_time, 1),
        "text_tokens_per_second": round(text / step_time, 1),
        "gemm_gflops": round(flops(products) / bare_time / 1e9, 1),
        "products": len(products),
        "peak_rss_gib": round(peak, 3),
    }


def scaling() -> int:
    """Print tokens per second, GEMM share and peak memory over models, tokens and threads."""
    print(f"{'model':6}{'tokens':>7}{'threads':>8}{'tokens/s':>10}{'GEMM':>7}{'GiB':>7}")
    for model in MODELS:
        for tokens in (128, 512, 2048):
            for threads in (1, 2):
                case = f"long_{tokens}"
                command = [sys.executable, __file__, "--json", "--repeats", "2"]
                found = subprocess.run(
                    [*command, "--model", model, case],
                    env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                result = json.loads(found.stdout)
                speed, share = result["cases"][case]["tokens_per_second"], result["step_over_gemm"]
                row = f"{model:6}{tokens:7}{threads:8}{speed:10.0f}{1 / share[case]:7.0%}"
                print(f"{row}{result['peak_rss_gib']:7.2f}", flush=True)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Print a table of the cases, or the JSON line that scripts/bench.py reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--json", action="store_true", help="one JSON line, last")
    parser.add_argument("--repeats", type=int, default=5, help="steps per case")
    parser.add_argument("--model", choices=sorted(MODELS), default="135m", help="shapes to take")
    parser.add_argument("--recompute", action="store_true", help="recompute activations")
    parser.add_argument("--half", action="store_true", help="keep the base as float16")
    parser.add_argument("--scaling", action="store_true", help="a table of models, tokens, threads")
    options = parser.parse_args(arguments)
    if options.scaling:
        return scaling()
    rng, config = np.random.default_rng(0), MODELS[options.model]
    weights = RandomWeights(config, options.half)
    decoder = Decoder(config, weights, recompute=options.recompute, half=options.half)
    lora = init_lora(config, config.linear_shapes(), RANK, 2.0 * RANK, rng)
    for module, pair in lora.items():
        noise = rng.standard_normal(pair.b.shape, dtype=np.float32) * np.float32(0.01)
        lora[module] = LoraPair(pair.a, noise, pair.scale)
    found = {}
    for case in options.cases:
        found[case] = measure(decoder, case, lora, options.repeats)
        print(case, found[case], file=sys.stderr)
    if options.json:
        ratios = {case: result["step_over_gemm"] for case, result in found.items()}
        peak = max(result["peak_rss_gib"] for result in found.values())
        print(json.dumps({"step_over_gemm": ratios, "cases": found, "peak_rss_gib": peak}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
