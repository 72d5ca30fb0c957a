"""Compare training on a device of ggml with the NumPy decoder, and measure its speed and memory.

    python scripts/bench gpu [--device NAME] [--kind f32] [--models 135m 1b] [--cases long_512]
                             [--peer PYTHON] [--minutes 8]

Weights are random, the shapes are real. The gradients of one batch are compared with the NumPy
decoder's on the first model. Then every model makes steps, and scores questions next to plain
decoding. `--peer` names a Python with PyTorch and PEFT, which makes the same steps in BF16 on the
same card. Models that do not fit into the minutes are left out, and named. Without a GPU,
`--device CPU` runs the same on ggml's processor. Nothing is built or fetched.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, MODELS, RANK, RandomWeights, make_batch
from servers import HERE, Server

from m2m.ggml.decoder import DeviceDecoder
from m2m.ggml.devices import gpu, list_devices
from m2m.ggml.storage import TYPES
from m2m.machine import usable_threads
from m2m.nn.config import DecoderConfig
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, init_lora


def adapters(config: DecoderConfig) -> dict[str, LoraPair]:
    """Return adapters of all maps whose B is not zero."""
    rng = np.random.default_rng(0)
    pairs = init_lora(config, config.linear_shapes(), RANK, 2.0 * RANK, rng)
    return {
        module: LoraPair(
            pair.a,
            rng.standard_normal(pair.b.shape, dtype=np.float32) * np.float32(0.01),
            pair.scale,
        )
        for module, pair in pairs.items()
    }


def apart(found: Any, exact: Any) -> float:
    """Return the norm of the difference of all gradients, relative to that of the gradients."""
    pairs = [(a, b) for module in exact for a, b in zip(found[module], exact[module], strict=True)]
    wrong = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in pairs)
    return float(
        (wrong / sum(float(np.square(b, dtype=np.float64).sum()) for _, b in pairs)) ** 0.5
    )


def measure(options: argparse.Namespace, model: str, device: str) -> dict[str, Any]:
    """Return seconds, tokens per second and the device's memory of each case."""
    config = MODELS[model]
    weights, lora = dict(RandomWeights(config)), adapters(config)
    started = time.perf_counter()
    decoder = DeviceDecoder(config, weights, device, threads=options.threads, kind=options.kind)
    figures: dict[str, Any] = {"open_seconds": round(time.perf_counter() - started, 2)}
    for case in options.cases:
        batch, text = make_batch(case, config.vocab_size, np.random.default_rng(1))
        grads, spent = None, []
        for _ in range(options.repeats + 1):  # the first one compiles
            started = time.perf_counter()
            loss, _, grads = decoder.loss_and_grads(batch, lora, grads)
            spent.append(time.perf_counter() - started)
        best = min(spent[1:])
        figures[case] = {
            "step_seconds": round(best, 4),
            "text_tokens_per_second": round(text / best, 1),
            "loss": loss,
            "memory_gib": round(sum(decoder.memory()) / 2**30, 3),
        }
        if model == options.models[0] and case == options.cases[0]:
            numpy = Decoder(config, weights, threads=options.threads, rank=RANK)
            exact, _, own = numpy.loss_and_grads(batch, lora)
            figures["parity"] = {"loss": abs(loss / exact - 1.0), "gradients": apart(grads, own)}
    decoder.close()
    return figures


def measure_peer(
    options: argparse.Namespace, model: str, device: str, own: dict[str, Any]
) -> dict[str, Any]:
    """Return speed and memory of the same steps in PyTorch + PEFT, and ours over theirs."""
    settings = argparse.Namespace(**{**vars(options), "model": model})
    where = "cpu" if device == "CPU" else "cuda"
    server = Server.peft(settings, "bf16", options.peer, where)
    figures: dict[str, Any] = {}
    for case in options.cases:
        spent = []
        for _ in range(options.repeats + 1):
            server.ask(case)
            spent.append(server.answer())
        text = make_batch(case, MODELS[model].vocab_size, np.random.default_rng(1))[1]
        rate = text / min(spent[1:])
        figures[case] = {
            "text_tokens_per_second": round(rate, 1),
            "memory_gib": round(server.peak_gib, 3),
            "speed_over_peft": round(own[case]["text_tokens_per_second"] / rate, 3),
            "memory_over_peft": round(own[case]["memory_gib"] / server.peak_gib, 3),
        }
    server.close()
    return figures


def main(arguments: Sequence[str]) -> int:
    """Print each model's figures, and all of them as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="ggml's name; default: the first GPU")
    parser.add_argument("--kind", choices=sorted(TYPES), default="f32", help="type of the base")
    parser.add_argument(
        "--models", nargs="+", choices=sorted(MODELS), default=["135m", "0.5b", "1b"]
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["long_512", "short_2048"])
    parser.add_argument("--repeats", type=int, default=5, help="steps per case")
    parser.add_argument("--peer", type=Path, help="a Python with PyTorch, transformers and PEFT")
    parser.add_argument("--minutes", type=float, default=8.0, help="no model starts after these")
    parser.add_argument("--threads", type=int, default=usable_threads(), help="of the processor")
    options = parser.parse_args(arguments)
    found = gpu()
    device = options.device or (found.name if found else "")
    if not device:
        names = ", ".join(each.name for each in list_devices())
        print(f"no GPU here; the devices are {names}: choose one with --device", file=sys.stderr)
        return 1
    figures: dict[str, Any] = {"device": device, "kind": options.kind}
    started = time.monotonic()
    for model in options.models:
        if time.monotonic() - started > 60 * options.minutes:
            figures[model] = f"left out: {options.minutes:g} minutes were over"
            continue
        figures[model] = measure(options, model, device)
        layers = 0 if device == "CPU" else -1
        command = [sys.executable, str(HERE / "scored.py"), model]
        command += map(str, (options.threads, layers, options.repeats))
        scoring = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures[model]["scoring"] = json.loads(scoring.stdout)
        if options.peer:
            peer = measure_peer(options, model, device, figures[model])
            figures[model]["peft_bf16"] = peer
        print(model, json.dumps(figures[model]), file=sys.stderr, flush=True)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
