"""Measure scoring against llama.cpp itself, and a mixture's turn-around against scripting it.

    python scripts/bench/score.py [--type q8_0 ...] [--rounds 3] [--adapters 3]

Needs the starter model (scripts/fetch-starter). Everything that is compared runs in turn, within
one process. The last line is JSON; its ratios (the first type's at the top level):

    rate_over_llama_decode  tokens/s of scoring / of raw llama_decode on random tokens: the same
                            batches, only each batch's last logits. Scoring also needs the output
                            matrix for every scored token, which raw decoding does not
    work_over_llama_decode  the same by processor time, which a busy machine hardly changes
    rate_over_same_logits   the same against raw batches with as many rows of logits
    tokens_over_naive       tokens of one sequence per choice / tokens really decoded
    seconds_over_naive      the same in time, on a few rows
    turnaround_speedup      the user's chain / one mixture made scorable here. The chain: a merge by
                            PEFT saved as a folder (own process, in .venv-peer), its F16 GGUF,
                            llama-quantize, a fresh load. The last three run in this process, so
                            without what Python, the converter and llama-quantize need to start
    turnaround_speedup_warm the same without PEFT's start and imports either
    turnaround_over_copy    one mixture made scorable / (copying the adapted tensors' quantised
                            bytes + each expert's products), the floor on one thread
    turnaround_work_...     speedup, warm speedup and over_copy by processor time of all threads and
                            processes, which a busy machine hardly changes; over_copy is then also
                            what it would be with the floor shared among as many threads
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import Adapter, save_adapter
from m2m.blas import one_blas_thread
from m2m.checkpoint import BaseModel, gguf_rules, hf_to_gguf_name
from m2m.evaluate.tasks import load_task, requests
from m2m.formats.gguf import nbytes_of, write_gguf
from m2m.formats.safetensors import SafetensorsFile
from m2m.llamacpp import bindings as c
from m2m.llamacpp.filetypes import FileType, file_type, quantized_layout
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import quantize
from m2m.llamacpp.scoring import Request, common_prefix, score
from m2m.llamacpp.scratch_model import Surrogate
from m2m.llamacpp.type_speed import raw_seconds
from m2m.merge.merger import Merger
from m2m.mix.mixture import Mixture
from m2m.mix.surrogate import adapted_tensors
from m2m.nn.lora import LoraPair, lora_delta
from m2m.pipeline.inputs import make_formatter

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "smollm2-135m-instruct"
TASK = ROOT / "examples" / "swahili" / "target" / "dev.jsonl"
PEER = ROOT / ".venv-peer" / "bin" / "python"
RANK = 16


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    return clocked(work)[0]


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and processor seconds of all threads and of processes started and ended in it."""
    before, start = os.times(), time.perf_counter()
    work()
    passed, after = time.perf_counter() - start, os.times()
    return passed, sum(after[:4]) - sum(before[:4])


def random_adapters(base: BaseModel, count: int) -> dict[str, Adapter]:
    """Adapters of all projections, deltas of about 1 % of a weight's norm."""
    rng = np.random.default_rng(0)
    adapters = {}
    for number in range(count):
        pairs = {}
        for module, (rows, columns) in base.config.linear_shapes().items():
            a = rng.standard_normal((RANK, columns), np.float32) * np.float32(0.02)
            b = rng.standard_normal((rows, RANK), np.float32) * np.float32(0.02)
            pairs[module] = LoraPair(a, b, 1.0)
        adapters[f"d{number}"] = Adapter(RANK, float(RANK), pairs, base.name, None)
    return adapters


class Turnaround:
    """One mixture made scorable: ours, its floor, and the user's chain."""

    def __init__(self, base: BaseModel, target: FileType, adapters: int, folder: Path) -> None:
        self.base, self.target, self.folder = base, target, folder
        self.merger = Merger(base, random_adapters(base, adapters))
        self.mixture = Mixture.uniform(list(self.merger.adapters))
        self.surrogate = Surrogate(base.gguf, target, folder)
        self._copied = np.ones(self.surrogate.size, np.uint8)
        self._source = self._copied[: sum(map(self._bytes, self.merger.modules))].copy()

    def _bytes(self, module: str) -> int:
        spec = self.surrogate._specs[hf_to_gguf_name(f"{module}.weight", self.base.config)]
        return nbytes_of(spec.shape, spec.type)

    def ours(self) -> LlamaModel:
        """As a study does it."""
        return self.surrogate.load(adapted_tensors(self.merger, self.mixture))

    def floor(self) -> None:
        """What no way can do without: the products, and moving the quantised bytes."""
        for adapter in self.merger.adapters.values():
            for pair in adapter.pairs.values():
                lora_delta(pair)
        self._copied[: self._source.size] = self._source

    def chain(self) -> tuple[float, float]:
        """The user's chain; what PEFT needed to start, in seconds and processor seconds."""
        merged = self.folder / "merged"
        done = subprocess.run(
            [PEER, Path(__file__).with_name("chain.py"), json.dumps(self._settings(merged))],
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        f16, out = self.folder / "merged-f16.gguf", self.folder / "merged.gguf"
        self._convert(merged / "model.safetensors", f16)
        params = c.llama_model_quantize_default_params()
        params.ftype, params.nthread = self.target.number, os.cpu_count()
        if c.llama_model_quantize(os.fsencode(f16), os.fsencode(out), ctypes.byref(params)):
            raise RuntimeError("llama_model_quantize failed")
        LlamaModel(out).close()
        start, start_work = map(float, done.stdout.split()[-2:])
        return start, start_work

    def _settings(self, out: Path) -> dict[str, Any]:
        folders = []
        for name, adapter in self.merger.adapters.items():
            folders.append(self.folder / name)
            if not folders[-1].exists():
                save_adapter(folders[-1], adapter)
        return {
            "base": str(self.base.path),
            "adapters": [str(folder) for folder in folders],
            "weights": self.mixture.weights,
            "out": str(out),
            "threads": os.cpu_count(),
            "started": time.time(),
        }

    def _convert(self, weights: Path, out: Path) -> None:
        """The merged folder as F16 GGUF, as llama.cpp's converter would make it."""
        metadata, specs = quantized_layout(self.base.gguf, file_type("f16"))
        merged = SafetensorsFile(weights)

        def data(name: str, kind: int) -> Any:
            array = gguf_rules(self.base.config).join(name, merged.array)
            return array if array.ndim == 1 else quantize(array, kind)

        write_gguf(out, metadata, specs, (data(spec.name, int(spec.type)) for spec in specs))


def naive_seconds(model: LlamaModel, requests: Sequence[Request]) -> float:
    """One sequence per choice, nothing shared, one after the other."""

    def run() -> None:
        for request in requests:
            for continuation in request.continuations:
                model.clear()
                score(model, [Request(request.prompt, [continuation])])

    return seconds(run)


def measure_rate(model: LlamaModel, requests: Sequence[Request], rounds: int) -> dict[str, float]:
    """Scoring against raw decoding and against one sequence per choice."""
    scored = score(model, requests)
    # Logits are needed after the prompt and after every token of a choice but its last.
    starts = [{tuple(c[:n]) for c in r.continuations for n in range(len(c))} for r in requests]
    fraction = sum(map(len, starts)) / scored.decoded
    rows = max(1, round(fraction * model.batch))
    ratios: dict[str, list[float]] = {"last": [], "same": [], "naive": []}
    rates = []
    few = requests[:3]
    prefix = len(common_prefix(requests))
    raw_work, work = [], []
    for _ in range(rounds):
        raw_work.append(clocked(lambda: raw_seconds(model, scored.decoded))[1])
        model.clear()
        work.append(clocked(lambda: score(model, requests))[1])
        plain = scored.decoded / raw_seconds(model, scored.decoded)
        same = scored.decoded / raw_seconds(model, scored.decoded, rows)
        model.clear()
        rate = scored.decoded / seconds(lambda: score(model, requests))
        rates.append(rate)
        ratios["last"].append(rate / plain)
        ratios["same"].append(rate / same)
        model.keep(requests[0].prompt[:prefix])
        shared = seconds(lambda: score(model, few))
        ratios["naive"].append(naive_seconds(model, few) / shared)
    return {
        "rate_over_llama_decode": round(statistics.median(ratios["last"]), 3),
        "work_over_llama_decode": round(min(raw_work) / min(work), 3),
        "rate_over_same_logits": round(statistics.median(ratios["same"]), 3),
        "tokens_over_naive": round(scored.separate / scored.decoded, 2),
        "seconds_over_naive": round(statistics.median(ratios["naive"]), 2),
        "tokens_per_second": round(statistics.median(rates), 1),
    }


def measure_turnaround(turn: Turnaround, rounds: int) -> dict[str, float]:
    """Ours, the floor and the user's chain, in turn; the best of each: what disturbs adds time."""
    turn.ours()  # the first one opens the model
    ours, floor, chain, warm = [], [], [], []
    with one_blas_thread():  # for all alike: more of them only wait on busy cores
        for _ in range(rounds):
            for _ in range(4):
                ours.append(clocked(turn.ours))
                floor.append(clocked(turn.floor))
            if PEER.exists():
                startup: list[tuple[float, float]] = []

                def follow(into: list[tuple[float, float]] = startup) -> None:
                    into.append(turn.chain())

                took = clocked(follow)
                chain.append(took)
                warm.append((took[0] - startup[0][0], took[1] - startup[0][1]))
    best, work = map(min, zip(*ours, strict=True))
    figures = {
        "turnaround_seconds": round(best, 3),
        "turnaround_median": round(statistics.median(first for first, _ in ours), 3),
        "turnaround_work_seconds": round(work, 3),
        "delta_gain": round(turn.surrogate.survival.gain, 3),
        "delta_cosine": round(turn.surrogate.survival.cosine, 3),
    }
    least, least_work = map(min, zip(*floor, strict=True))
    figures["turnaround_over_copy"] = round(best / least, 2)
    figures["turnaround_work_over_copy"] = round(work / least_work, 2)
    for suffix, times in (("", chain), ("_warm", warm)):
        if times:
            wall, spent = map(min, zip(*times, strict=True))
            figures[f"turnaround_speedup{suffix}"] = round(wall / best, 1)
            figures[f"turnaround_work_speedup{suffix}"] = round(spent / work, 1)
    return figures


def measure(
    base: BaseModel, kind: str, requests: Sequence[Request], rounds: int, adapters: int
) -> Any:
    """All ratios of one type."""
    ram = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=ram if ram.is_dir() else None) as folder:
        turn = Turnaround(base, file_type(kind), adapters, Path(folder))
        with turn.surrogate:
            figures = measure_turnaround(turn, rounds)
            return measure_rate(turn.ours(), requests, rounds) | figures


def main(arguments: Sequence[str]) -> int:
    """Print a line per type, then the JSON line that python scripts/bench reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--type", nargs="+", default=["q8_0"], dest="types")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--adapters", type=int, default=3)
    options = parser.parse_args(arguments)
    base = BaseModel.open(MODEL)
    chosen = requests(load_task(TASK), make_formatter(base.gguf, "chat"))[:48]
    by_type = {}
    for kind in options.types:
        by_type[kind] = measure(base, kind, chosen, options.rounds, options.adapters)
        print(kind, by_type[kind], file=sys.stderr)
    print(json.dumps({**by_type[options.types[0]], "types": by_type}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
