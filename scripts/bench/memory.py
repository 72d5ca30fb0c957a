"""Measure the peak memory of importing, training, merging and scoring a 1B Llama.

    python scripts/bench/memory.py [--model 1b] [--folder DIR]

The model has Llama 3.2 1B's shapes and random weights; it is written to a temporary folder, with
all that is made of it (10 GB). Each step runs in a process of its own, as m2m runs it: import as
F16, one optimiser step of 512 tokens with rank 16 on all projections, merge into a Q8_0 file, and
the score of a few rows through a Q8_0 surrogate. Peak resident memory counts mapped files as far as
they were touched; what the process alone holds (RssAnon) stands beside it, where Linux tells.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import MODELS, RANK

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from m2m.nn.config import DecoderConfig
from tests.tiny import choice_rows, gguf_name, pico_metadata, write_jsonl

TOKENS = 512
LIMIT = 4.0  # GiB
STEPS = ("import", "train", "merge", "score")


@dataclass(frozen=True)
class Scene:
    """A model's shapes, and where everything made of it lies."""

    model: str
    folder: Path

    @property
    def config(self) -> DecoderConfig:
        """The shapes."""
        return MODELS[self.model]

    @property
    def source(self) -> Path:
        """The file that is imported."""
        return self.folder / "source.gguf"

    @property
    def adapter(self) -> Path:
        """What training makes."""
        return self.folder / "adapter"

    def base(self) -> Any:
        """The imported model."""
        from m2m.checkpoint import BaseModel

        return BaseModel.open(self.folder / "models" / self.model)


def make(scene: Scene) -> None:
    """Write the random model as an F16 GGUF file, one tensor at a time."""
    from m2m.formats.gguf import (
        GGMLQuantizationType,
        GGUFTensorSpec,
        GGUFValue,
        GGUFValueType,
        write_gguf,
    )

    config, rng = scene.config, np.random.default_rng(0)
    metadata = pico_metadata(config)
    for key, kind in (("tokens", GGUFValueType.STRING), ("token_type", GGUFValueType.INT32)):
        known = metadata[f"tokenizer.ggml.{key}"].value
        spare = range(len(known), config.vocab_size)
        more = [1] * len(spare) if key == "token_type" else [f"spare{number}" for number in spare]
        metadata[f"tokenizer.ggml.{key}"] = GGUFValue.array(kind, known + more)
    specs = [
        GGUFTensorSpec(
            gguf_name(name), shape, GGMLQuantizationType(1 if len(shape) > 1 else 0)
        )  # F16, F32
        for name, shape in config.weight_shapes().items()
    ]

    def tensors() -> Iterator[np.ndarray[Any, Any]]:
        for spec in specs:
            if len(spec.shape) == 1:
                yield np.ones(spec.shape, np.float32)
                continue
            tensor = np.empty(spec.shape, np.float16)
            for row in tensor:
                row[:] = rng.standard_normal(len(row), np.float32) * np.float32(0.02)
            yield tensor

    write_gguf(scene.source, metadata, specs, tensors())


def import_(scene: Scene) -> None:
    """`m2m models add`."""
    from m2m.checkpoint import import_model

    import_model(scene.source, scene.folder / "models" / scene.model, name=scene.model)


def train(scene: Scene) -> None:
    """One optimiser step, and the adapter that it makes."""
    from m2m.dataset import Sample
    from m2m.machine import usable_threads
    from m2m.nn.decoder import Decoder
    from m2m.recipe import Train
    from m2m.tuner.trainer import Origin, Trainer

    base, rng = scene.base(), np.random.default_rng(1)
    ids = rng.integers(3, 256, TOKENS).astype(np.int32)
    sample = Sample(ids, np.arange(TOKENS) > 0, 1)
    config = Train(rank=RANK, steps=1, batch_tokens=TOKENS, learning_rate=1e-3, warmup=0.0)
    threads = usable_threads()
    decoder = Decoder(
        base.config,
        base.compact_weights,
        threads=threads,
        recompute=base.config.num_layers,
        maps="half",
        rank=RANK,
    )
    origin = Origin("random", base.name, base.fingerprint, "")
    Trainer(decoder, [sample], config, folder=scene.adapter, origin=origin).run()


def merge(scene: Scene) -> None:
    """`m2m merge --type q8_0`."""
    from m2m.commands.merge import merge_adapters
    from m2m.recipe import Merge

    model = str(scene.base().path)
    merge_adapters(model, [str(scene.adapter)], Merge(), "q8_0", None, scene.folder / "merged.gguf")


def score(scene: Scene) -> None:
    """A mixture's surrogate on a few rows."""
    from m2m.adapter import load_adapter
    from m2m.evaluate.evaluator import Evaluator
    from m2m.evaluate.tasks import load_task
    from m2m.llamacpp.filetypes import file_type
    from m2m.llamacpp.scratch_model import Surrogate, scratch_folder
    from m2m.machine import usable_threads
    from m2m.merge.merger import Merger
    from m2m.mix.mixture import Mixture
    from m2m.mix.surrogate import SurrogateScorer
    from m2m.pipeline.inputs import make_formatter

    base = scene.base()
    rows = write_jsonl(scene.folder / "dev.jsonl", choice_rows("copy", 16))
    evaluator = Evaluator(load_task(rows), make_formatter(base.gguf, "chat"))
    merger = Merger(base, {"a": load_adapter(scene.adapter)})
    folder = scratch_folder(scene.folder / "scratch", 2 * base.info.parameters)
    with Surrogate(base.gguf, file_type("q8_0"), folder, threads=usable_threads()) as surrogate:
        scorer = SurrogateScorer(merger, {"a": ""}, surrogate, {"t": evaluator}, {})
        scorer.score(Mixture(("a",), (1.0,)))
    folder.rmdir()


RUNS: dict[str, Callable[[Scene], None]] = {
    "make": make,
    "import": import_,
    "train": train,
    "merge": merge,
    "score": score,
}


@dataclass(frozen=True)
class Measured:
    """Peak resident GiB, peak anonymous GiB (nan where unknown) and seconds of a process."""

    peak: float
    anonymous: float
    seconds: float


def measured(step: str, scene: Scene) -> Measured:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--model", scene.model]
    started, anonymous = time.perf_counter(), 0.0
    process = subprocess.Popen([*command, "--folder", str(scene.folder)])
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        anonymous = max(anonymous, anonymous_now(process.pid))
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"memory: {step} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(usage.ru_maxrss * unit / 2**30, anonymous, time.perf_counter() - started)


def anonymous_now(pid: int) -> float:
    """RssAnon of a process in GiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(status.split("RssAnon:")[1].split()[0]) / 2**20
    except (OSError, IndexError):
        return float("nan")


def main(arguments: Sequence[str]) -> int:
    """Print the table and, last, the JSON line that python scripts/bench promises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="1b", help="shapes to take")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--step", choices=sorted(RUNS), help="run this alone, in this process")
    options = parser.parse_args(arguments)
    if options.step:
        RUNS[options.step](Scene(options.model, options.folder))
        return 0
    results = {}
    print(f"{'step':8}{'peak GiB':>10}{'anonymous':>11}{'seconds':>9}")
    with tempfile.TemporaryDirectory(prefix="m2m-bench-", dir=options.folder) as folder:
        scene = Scene(options.model, Path(folder))
        measured("make", scene)
        for step in STEPS:
            results[step] = measured(step, scene)
            row = results[step]
            mark = "" if row.peak < LIMIT else f"  over {LIMIT:g}"
            print(
                f"{step:8}{row.peak:10.2f}{row.anonymous:11.2f}{row.seconds:9.0f}{mark}", flush=True
            )
    print(json.dumps({options.model: {step: round(row.peak, 3) for step, row in results.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
