"""What each setting of scoring costs: type, cache window, batch, threads that wait busily or not.

    python scripts/bench/settings.py [--types f16 bf16 q8_0 q4_0] [--rounds 3] [--rows 32]

Scores the starter's dev rows on the base model. Prints, per setting, the best of the rounds in
tokens per second and in milliseconds of processor time per token, of all threads together: a busy
machine hardly changes the latter. A busy wait counts there too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2m.checkpoint import BaseModel
from m2m.evaluate.tasks import load_task, requests
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import Request, score
from m2m.llamacpp.scratch_model import Surrogate
from m2m.pipeline.inputs import make_formatter

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "smollm2-135m-instruct"
TASK = ROOT / "examples" / "swahili" / "target" / "dev.jsonl"
SHAPES = ((256, 128), (256, 256), (512, 256), (512, 512), (1024, 512))  # cells, batch
WAITS = ("passive", "active")


def measure(
    models: dict[str, LlamaModel], requests: Sequence[Request], rounds: int
) -> dict[str, Any]:
    """The best of the rounds, the models in turn."""
    best = {name: [0.0, float("inf")] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            model.clear()
            wall, work = time.perf_counter(), time.process_time()
            tokens = score(model, requests).decoded
            wall, work = time.perf_counter() - wall, time.process_time() - work
            best[name][0] = max(best[name][0], tokens / wall)
            best[name][1] = min(best[name][1], 1e3 * work / tokens)
    return {name: [round(rate, 1), round(work, 3)] for name, (rate, work) in best.items()}


def one_type(
    base: BaseModel, kind: str, requests: Sequence[Request], rounds: int
) -> dict[str, Any]:
    """All shapes of one type, as it lies and repacked."""
    models: dict[str, LlamaModel] = {}
    ram = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=ram if ram.is_dir() else None) as folder,
        Surrogate(base.gguf, file_type(kind), Path(folder), patch=False) as made,
    ):
        for cells, batch in SHAPES:
            name = f"{kind} {cells} cells {batch} tokens"
            models[name] = LlamaModel(made.path, context=cells, batch=batch)
        if not models[f"{kind} 256 cells 256 tokens"].mapped:
            models[f"{kind} as it lies"] = LlamaModel(made.path, repack=False)
        models[f"{kind} F32 cache"] = LlamaModel(made.path, exact_cache=True)
        try:
            return measure(models, requests, rounds)
        finally:
            for model in models.values():
                model.close()


def main(arguments: Sequence[str]) -> int:
    """Print a line per setting, then all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", default=["f16", "bf16", "q8_0", "q4_0"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--wait", choices=WAITS, help="only this one, in this process")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    if options.wait is None:
        for wait in WAITS:  # libgomp reads it once, when it is loaded
            command = [sys.executable, __file__, "--wait", wait, *arguments]
            env = {**os.environ, "OMP_WAIT_POLICY": wait}
            done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
            results[wait] = json.loads(done.stdout.splitlines()[-1])
    else:
        base = BaseModel.open(MODEL)
        chosen = requests(load_task(TASK), make_formatter(base.gguf, "chat"))[: options.rows]
        for kind in options.types:
            for name, figures in one_type(base, kind, chosen, options.rounds).items():
                results[name] = figures
                print(options.wait, name, *figures, file=sys.stderr, flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
