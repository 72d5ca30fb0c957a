"""Measure scoring against llama.cpp itself, and a mixture's turn-around against scripting it.

    python scripts/bench_score.py [--type q8_0 ...] [--rounds 3] [--adapters 3]

Needs the starter model (scripts/fetch-starter). Everything that is compared runs in turn, within
one process. The last line is JSON; its ratios (the first type's at the top level):

    rate_over_llama_decode  tokens/s of scoring / of raw llama_decode on random tokens: the same
                            batches, only each batch's last logits. Scoring also needs the output
                            matrix for every scored token, which raw decoding does not
    rate_over_same_logits   the same against raw batches with as many rows of logits
    tokens_over_naive       tokens of one sequence per choice / tokens really decoded
    seconds_over_naive      the same in time, on a few rows
    turnaround_speedup      merge to a folder, F16 GGUF, llama-quantize, load / one Surrogate.load;
                            without PEFT's and the converter's own time, so a lower bound
    turnaround_over_copy    Surrogate.load / (copying the adapted bytes + the deltas' products)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import Adapter
from m2m.blas import one_blas_thread
from m2m.checkpoint import BaseModel, hf_to_gguf_name, to_gguf_rows
from m2m.evaluate.tasks import load_task, requests
from m2m.formats.gguf import nbytes_of, write_gguf
from m2m.llamacpp import bindings as c
from m2m.llamacpp.filetypes import FileType, file_type, quantized_layout
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import quantize, tensor_bytes
from m2m.llamacpp.scoring import Request, common_prefix, score
from m2m.llamacpp.surrogate import AdaptedTensor, Surrogate
from m2m.merge.merger import Merger
from m2m.nn.lora import LoraPair, lora_delta
from m2m.pipeline.inputs import make_formatter

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "smollm2-135m-instruct"
TASK = ROOT / "examples" / "swahili" / "target" / "dev.jsonl"
RANK = 16


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
    """One mixture made scorable, three ways."""

    def __init__(self, base: BaseModel, target: FileType, adapters: int, folder: Path) -> None:
        self.base, self.target, self.folder = base, target, folder
        self.merger = Merger(base, random_adapters(base, adapters))
        self.names = list(self.merger.adapters)
        self.weights = [1 / adapters] * adapters
        self.surrogate = Surrogate(base.gguf, target, folder)
        self._packed = [
            np.zeros(nbytes_of(spec.shape, spec.type), np.uint8)
            for spec in self.surrogate._specs.values()
            if spec.name.startswith("blk.") and len(spec.shape) == 2
        ]

    def ours(self) -> LlamaModel:
        """One `Surrogate.load`, as a study does it."""
        return self.surrogate.load(self._tensors())

    def _tensors(self) -> Iterator[AdaptedTensor]:
        config = self.base.config
        for t in self.merger.adapted(self.names, self.weights):
            base, delta = (to_gguf_rows(config, t.name, array) for array in (t.base, t.delta))
            yield AdaptedTensor(hf_to_gguf_name(t.name), base, delta)

    def floor(self) -> None:
        """What no way can do without: the products, and moving the quantised bytes."""
        for adapter in self.merger.adapters.values():
            for pair in adapter.pairs.values():
                lora_delta(pair)
        for packed in self._packed:
            packed.copy()

    def scripted(self) -> None:
        """Merged folder, F16 GGUF of it, llama-quantize, fresh load."""
        merged = self.folder / "merged"
        self.merger.write_folder(self.names, self.weights, merged)
        f16 = self.folder / "merged-f16.gguf"
        metadata, specs = quantized_layout(self.base.gguf, file_type("f16"))
        changed = {t.name: t.base + t.delta for t in self._tensors()}
        data = (
            quantize(changed[s.name], int(s.type))
            if s.name in changed
            else tensor_bytes(self.base.gguf, s)
            for s in specs
        )
        write_gguf(f16, metadata, specs, data)
        out = self.folder / "merged.gguf"
        params = c.llama_model_quantize_default_params()
        params.ftype, params.nthread = self.target.number, os.cpu_count()
        if c.llama_model_quantize(os.fsencode(f16), os.fsencode(out), ctypes.byref(params)):
            raise RuntimeError("llama_model_quantize failed")
        LlamaModel(out).close()


def raw_rate(model: LlamaModel, tokens: int, rows: int) -> float:
    """Tokens/s of llama_decode on random tokens, in full batches, each with `rows` logits."""
    ids = np.random.default_rng(0).integers(100, model.vocab_size, tokens).tolist()
    start = time.perf_counter()
    for first in range(0, tokens, model.batch):
        part = ids[first : first + model.batch]
        model.clear()
        wanted = [i >= len(part) - rows for i in range(len(part))]
        model.decode(part, range(len(part)), [(0,)] * len(part), wanted)
    return tokens / (time.perf_counter() - start)


def naive_seconds(model: LlamaModel, asked: Sequence[Request]) -> float:
    """One sequence per choice, nothing shared, one after the other."""

    def run() -> None:
        for request in asked:
            for continuation in request.continuations:
                model.clear()
                score(model, [Request(request.prompt, [continuation])])

    return seconds(run)


def measure_rate(model: LlamaModel, asked: Sequence[Request], rounds: int) -> dict[str, float]:
    """Scoring against raw decoding and against one sequence per choice."""
    scored = score(model, asked)
    predicted = sum(1 + len(set(map(tuple, r.continuations))) for r in asked)
    share = predicted / scored.decoded
    rows = max(1, round(share * model.batch))
    ratios: dict[str, list[float]] = {"last": [], "same": [], "naive": []}
    rates = []
    few = asked[:3]
    prefix = len(common_prefix(asked))
    for _ in range(rounds):
        plain = raw_rate(model, scored.decoded, 1)
        same = raw_rate(model, scored.decoded, rows)
        model.clear()
        rate = scored.decoded / seconds(lambda: score(model, asked))
        rates.append(rate)
        ratios["last"].append(rate / plain)
        ratios["same"].append(rate / same)
        model.keep(asked[0].prompt[:prefix])
        shared = seconds(lambda: score(model, few))
        ratios["naive"].append(naive_seconds(model, few) / shared)
    return {
        "rate_over_llama_decode": round(statistics.median(ratios["last"]), 3),
        "rate_over_same_logits": round(statistics.median(ratios["same"]), 3),
        "tokens_over_naive": round(scored.separate / scored.decoded, 2),
        "seconds_over_naive": round(statistics.median(ratios["naive"]), 2),
        "tokens_per_second": round(statistics.median(rates), 1),
    }


def measure_turnaround(turn: Turnaround, rounds: int) -> dict[str, float]:
    """Ours, the floor and the scripted chain, in turn."""
    ours, floor, scripted = [], [], []
    with one_blas_thread():  # for all three alike: more of them only wait on busy cores
        for _ in range(rounds):
            ours.append(seconds(turn.ours))
            floor.append(seconds(turn.floor))
            scripted.append(seconds(turn.scripted))
    return {
        "turnaround_speedup": round(statistics.median(scripted) / statistics.median(ours), 2),
        "turnaround_over_copy": round(statistics.median(ours) / statistics.median(floor), 2),
        "turnaround_seconds": round(statistics.median(ours), 3),
        "delta_gain": round(turn.surrogate.survival.gain, 3),
        "delta_cosine": round(turn.surrogate.survival.cosine, 3),
    }


def measure(
    base: BaseModel, kind: str, asked: Sequence[Request], rounds: int, adapters: int
) -> Any:
    """All ratios of one type."""
    ram = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=ram if ram.is_dir() else None) as folder:
        turn = Turnaround(base, file_type(kind), adapters, Path(folder))
        with turn.surrogate:
            found = measure_turnaround(turn, rounds)
            return measure_rate(turn.ours(), asked, rounds) | found


def main(arguments: Sequence[str]) -> int:
    """Print a line per type, then the JSON line that scripts/bench.py reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--type", nargs="+", default=["q8_0"], dest="types")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--adapters", type=int, default=3)
    options = parser.parse_args(arguments)
    base = BaseModel.open(MODEL)
    asked = requests(load_task(TASK), make_formatter(base.gguf, "chat"))[:48]
    found = {}
    for kind in options.types:
        found[kind] = measure(base, kind, asked, options.rounds, options.adapters)
        print(kind, found[kind], file=sys.stderr)
    print(json.dumps({**found[options.types[0]], "types": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
