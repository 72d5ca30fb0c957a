"""Measure a training step against its bare matrix products and against PyTorch + PEFT.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python scripts/bench/train.py [CASE ...]

Weights are random, the shapes are real (SmolLM2-135M). A step's products are recorded as it runs
(operands and results, wherever they lie in memory) and then replayed alone, in turn with whole
steps, so that both see the same machine. Cases: short_512, short_2048 (rows of about 40 tokens
after a prefix that all share, a fifth of them with loss), long_512, long_2048 (rows of 512, loss
everywhere). Where scripts/install-peers was run, PEFT makes steps on the same rows, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from cases import CASES, MODELS, RANK, RandomWeights, make_batch
from servers import PEER, against_peer

from m2m.machine import peak_rss_bytes, usable_threads
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, init_lora
from m2m.nn.matrix import KINDS
from m2m.nn.memory import Load, peak_bytes
from m2m.nn.optim import AdamW, clip_factor, global_norm
from m2m.recipe import PROJECTIONS

PEER_CASES = ("short_512", "long_512")
PEER_WAYS = {
    "": [],
    "workers_": ["--workers", "2"],
    "bf16_": ["--maps", "bf16"],
    "bf16_workers_": ["--maps", "bf16", "--workers", "2"],
}
WAYS = [("whole", 0.0), ("whole", 1.0)]
WAYS += [(maps, again) for maps in ("half", "q8_0") for again in (0.0, 0.25, 0.5, 1.0)]

Product = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


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


def peak_gib() -> float:
    """Peak resident memory of this process."""
    return peak_rss_bytes() / 2**30


class Bench:
    """A decoder with adapters and their optimiser, ready to make steps.

    Args:
        options: the command line's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        config, rng = MODELS[options.model], np.random.default_rng(0)
        self.decoder = Decoder(
            config,
            RandomWeights(config),
            threads=options.threads,
            recompute=options.recompute,
            maps=options.maps,
            rank=RANK,
        )
        self.lora = init_lora(config, config.linear_shapes(), RANK, 2.0 * RANK, rng)
        for module, pair in self.lora.items():
            noise = rng.standard_normal(pair.b.shape, dtype=np.float32) * np.float32(0.01)
            self.lora[module] = LoraPair(pair.a, noise, pair.scale)
        arrays = [array for pair in self.lora.values() for array in (pair.a, pair.b)]
        self.optimizer = AdamW(arrays, pool=self.decoder.pool)
        self.grads: Any = None
        self.batches = {
            case: make_batch(case, config.vocab_size, np.random.default_rng(1))
            for case in options.cases
        }

    def gradients(self, case: str) -> None:
        """The decoder's part of a step."""
        batch, _ = self.batches[case]
        self.grads = self.decoder.loss_and_grads(batch, self.lora, out=self.grads)[2]

    def step(self, case: str) -> None:
        """A whole step as the trainer makes it."""
        self.gradients(case)
        flat = [gradient for pair in self.grads.values() for gradient in pair]
        count = len(self.batches[case][0].loss_index)
        self.optimizer.step(flat, 1e-5, clip_factor(global_norm(flat) / count, 1.0) / count)

    def recorded(self, case: str, threads: int) -> list[list[Product]]:
        """Return the products of a step as (a, b, out), in order, for each of its threads."""
        products: dict[int, list[Product]] = {}
        matmul, pool = np.matmul, self.decoder.pool
        count, pool.count = pool.count, threads

        def record(a: Any, b: Any, out: Any = None) -> Any:
            result = matmul(a, b, out=out)
            if result.shape[-2:] != (1, 1):  # dot products of rows are element-wise work
                products.setdefault(threading.get_ident(), []).append((a, b, result))
            return result

        np.matmul = record  # type: ignore[assignment]
        try:
            self.gradients(case)
        finally:
            np.matmul, pool.count = matmul, count
        return list(products.values())

    def measure(self, case: str, repeats: int) -> dict[str, float]:
        """Return what one case takes: ratios, tokens per second, GFLOP/s of its products.

        The bare products are done twice: as the threads do them, and whole by OpenBLAS's own
        threads. The ratio is to the faster.
        """
        batch, text = self.batches[case]
        for _ in range(2):
            self.step(case)
        peak, pool = peak_gib(), self.decoder.pool
        shared = self.recorded(case, pool.count)
        whole = self.recorded(case, 1)[0]
        runs: dict[str, Callable[[], object]] = {
            "step": lambda: self.step(case),
            "gradients": lambda: self.gradients(case),
            "shared": lambda: pool.run(lambda m: replay(shared[m.number]), len(shared)),
            "whole": lambda: replay(whole),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                times[name].append(seconds(run))
        best = {name: min(spent) for name, spent in times.items()}
        bare = min(best["shared"], best["whole"])
        return {
            "step_over_gemm": round(best["step"] / bare, 3),
            "gradients_over_gemm": round(best["gradients"] / bare, 3),
            "gradients_over_whole_gemm": round(best["gradients"] / best["whole"], 3),
            "gradients_over_shared_gemm": round(best["gradients"] / best["shared"], 3),
            "step_seconds": round(best["step"], 4),
            "step_seconds_median": round(statistics.median(times["step"]), 4),
            "tokens_per_second": round(len(batch.tokens) / best["step"], 1),
            "text_tokens_per_second": round(text / best["step"], 1),
            "gemm_gflops": round(flops(whole) / bare / 1e9, 1),
            "peak_rss_gib": round(peak, 3),
        }


def serve(options: argparse.Namespace) -> int:
    """Be such a process."""
    bench = Bench(options)
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds(partial(bench.step, line.strip())), peak_gib(), flush=True)
    return 0


def child(options: argparse.Namespace, case: str, threads: int, *more: str) -> dict[str, Any]:
    """Measure one case in a process of its own, for its memory."""
    command = [sys.executable, __file__, "--alone", "--threads", str(threads), *more, case]
    command += ["--repeats", str(options.repeats)]
    done = subprocess.run(
        command,
        env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["cases"][case]
    return figures


def scaling(options: argparse.Namespace) -> int:
    """Print tokens per second, time in GEMM and peak memory over models, tokens and threads."""
    print(f"{'model':6}{'tokens':>7}{'threads':>8}{'tokens/s':>10}{'GEMM':>7}{'GiB':>7}")
    for model in MODELS:
        for tokens in (128, 512, 2048):
            for threads in (2, 1):
                case = f"long_{tokens}"
                figures = child(options, case, threads, "--model", model)
                speed, gemm_fraction = figures["tokens_per_second"], 1 / figures["step_over_gemm"]
                row = f"{model:6}{tokens:7}{threads:8}{speed:10.0f}{gemm_fraction:7.0%}"
                print(f"{row}{figures['peak_rss_gib']:7.2f}", flush=True)
    return 0


def savings(options: argparse.Namespace) -> int:
    """Print what each way to save memory costs and saves, beside the peak that is expected."""
    print(f"{'case':11}{'maps':>6}{'again':>6}{'seconds':>9}{'cost':>6}{'GiB':>6}{'expected':>9}")
    config = MODELS[options.model]
    for case in options.cases:
        plain = 0.0
        for maps, fraction in WAYS:
            again = round(fraction * config.num_layers)
            ways = ["--model", options.model, "--maps", maps, "--recompute", str(again)]
            figures = child(options, case, options.threads, *ways)
            plain = plain or figures["step_seconds"]
            tokens = int(case.split("_")[1])
            length = min(tokens, 512)
            precision = "q8_0" if maps == "q8_0" else "float32"
            load = Load(
                RANK, PROJECTIONS, tokens, length, options.threads, narrow=True, precision=precision
            )
            expected = peak_bytes(config, load, recompute=again, half=maps == "half")
            cost = figures["step_seconds"] / plain - 1
            row = f"{case:11}{maps:>6}{again:6}{figures['step_seconds']:9.3f}{cost:6.0%}"
            print(f"{row}{figures['peak_rss_gib']:6.2f}{expected / 2**30:9.2f}", flush=True)
    return 0


def busy(options: argparse.Namespace) -> int:
    """Print a step's time alone and beside one busy process."""
    bench = Bench(options)
    for case in options.cases:
        bench.step(case)
        alone = min(seconds(partial(bench.step, case)) for _ in range(options.repeats))
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            beside = [seconds(partial(bench.step, case)) for _ in range(options.repeats)]
            other.kill()
        middle = statistics.median(beside)
        print(f"{case}: {alone:.3f} s alone, {middle:.3f} s beside one: x{middle / alone:.2f}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Print a table of the cases, or the JSON line that python scripts/bench reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--repeats", type=int, default=5, help="steps per case")
    parser.add_argument("--threads", type=int, default=usable_threads(), help="that share a step")
    parser.add_argument("--model", choices=sorted(MODELS), default="135m", help="shapes to take")
    parser.add_argument("--recompute", type=int, default=0, help="layers that run again")
    parser.add_argument("--maps", choices=KINDS, default="whole", help="how the base is kept")
    parser.add_argument("--workers", type=int, default=1, help="of ours, beside PyTorch + PEFT")
    parser.add_argument("--scaling", action="store_true", help="a table of models, tokens, threads")
    parser.add_argument("--savings", action="store_true", help="a table of ways to save memory")
    parser.add_argument("--busy", action="store_true", help="beside a busy process")
    parser.add_argument("--alone", action="store_true", help="without PyTorch + PEFT")
    parser.add_argument("--peer", action="store_true", help="PyTorch + PEFT and nothing else")
    parser.add_argument("--serve", action="store_true", help="make the steps that stdin asks for")
    options = parser.parse_args(arguments)
    for chosen, table in (
        (options.scaling, scaling),
        (options.savings, savings),
        (options.busy, busy),
        (options.serve, serve),
    ):
        if chosen:
            return table(options)
    if options.peer:
        print(json.dumps(against_peer(options)))
        return 0
    bench, measured = Bench(options), {}
    for case in options.cases:
        measured[case] = bench.measure(case, options.repeats)
        print(case, measured[case], file=sys.stderr)
    result: dict[str, Any] = {
        "step_over_gemm": {case: figures["step_over_gemm"] for case, figures in measured.items()},
        "vs_peft_f32": None,
        "vs_peft_bf16": None,
        "rss_over_peft": None,
        "cases": measured,
    }
    if not options.alone and PEER.exists():
        command = [sys.executable, __file__, "--peer", "--model", options.model, *PEER_CASES]
        for name, ways in PEER_WAYS.items():
            done = subprocess.run([*command, *ways], stdout=subprocess.PIPE, check=True)
            peers = json.loads(done.stdout.splitlines()[-1])
            result |= {name + key: value for key, value in peers.items()}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
