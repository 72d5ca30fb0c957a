#!/usr/bin/env python3
"""Write the tables of docs/models.md: which models m2m takes, how exactly, and what they need.

    scripts/install-peers
    .venv-peer/bin/python scripts/model_types.py ask answers.npz
    .venv/bin/python scripts/model_types.py write answers.npz

`ask` writes transformers' logits of the pico model of every family; it runs in the environment of
scripts/install-peers, which has no llama.cpp. `write` compares them with m2m's and llama.cpp's.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from m2m.checkpoint import BaseModel, import_model  # noqa: E402
from m2m.families import FAMILIES  # noqa: E402
from m2m.families.refused import reason_for  # noqa: E402
from m2m.nn.config import DecoderConfig  # noqa: E402
from m2m.nn.decoder import Decoder  # noqa: E402
from m2m.nn.memory import Load, peak_bytes  # noqa: E402
from m2m.recipe import PROJECTIONS  # noqa: E402
from tests.families.pico import CONFIGS, family_folder  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
PART = re.compile(
    r"(<!-- (\w+): scripts/model_types\.py .*? -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL
)
POSITIONS = 32
GIB = 1 << 30
# name: family, hidden and MLP width, layers, heads, K/V heads, head size, vocabulary, tied head
SIZES: dict[str, tuple[str, int, int, int, int, int, int, int, bool]] = {
    "Goldfish and GPT-2, 124M": ("gpt2", 768, 3072, 12, 12, 12, 64, 50257, True),
    "SmolLM2 135M": ("llama", 576, 1536, 30, 9, 3, 64, 49152, True),
    "Pythia 160M": ("gptneox", 768, 3072, 12, 12, 12, 64, 50304, False),
    "Gemma 3 270M": ("gemma3", 640, 2048, 18, 4, 1, 256, 262144, True),
    "Granite 4 350M": ("granite", 1024, 2048, 28, 16, 4, 64, 100352, True),
    "LFM2 350M": ("lfm2", 1024, 4608, 16, 16, 8, 64, 65536, True),
    "SmolLM2 360M": ("llama", 960, 2560, 32, 15, 5, 64, 49152, True),
    "Qwen2.5 0.5B": ("qwen2", 896, 4864, 24, 14, 2, 64, 151936, True),
    "Qwen3 0.6B": ("qwen3", 1024, 3072, 28, 16, 8, 128, 151936, True),
    "Qwen3.5 0.8B": ("qwen3_5", 1024, 3584, 24, 8, 2, 256, 248320, True),
    "Gemma 3 1B": ("gemma3", 1152, 6912, 26, 4, 1, 256, 262144, True),
    "TinyLlama 1.1B": ("llama", 2048, 5632, 22, 32, 4, 64, 32000, False),
    "Llama 3.2 1B": ("llama", 2048, 8192, 16, 32, 8, 64, 128256, True),
    "EuroLLM 1.7B": ("llama", 2048, 5632, 24, 16, 8, 128, 128000, False),
    "Qwen3 1.7B": ("qwen3", 2048, 6144, 28, 16, 8, 128, 151936, True),
    "Llama 3.2 3B": ("llama", 3072, 8192, 28, 24, 8, 128, 128256, True),
    "Gemma 3 4B": ("gemma3", 2560, 10240, 34, 8, 4, 256, 262208, True),
    "Qwen3 4B": ("qwen3", 2560, 9728, 36, 32, 8, 128, 151936, True),
}


ATTENDING = (2, 5, 8, 10, 12, 14)  # layers of LFM2 350M
MORE: dict[str, dict[str, Any]] = {
    "LFM2 350M": {
        "layer_mixers": tuple("attention" if n in ATTENDING else "conv" for n in range(16)),
        "conv_taps": 3,
    },
    "Qwen3.5 0.8B": {
        "layer_mixers": ("delta", "delta", "delta", "attention") * 6,
        "conv_taps": 4,
        "delta_heads": 16,
        "delta_keys": 16,
        "delta_dim": 128,
    },
}


def some_ids(config: DecoderConfig) -> Any:
    """Ids of one text, no longer than what all programs compute alike."""
    length = min(POSITIONS, config.exact_length)
    return np.random.default_rng(1).integers(3, config.vocab_size, length)


def ask(path: Path) -> None:
    """Write transformers' logits by name of the pico model, and its list of model types."""
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    answers: dict[str, Any] = {
        "types": np.array(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)),
        "version": np.array(transformers.__version__),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, config) in enumerate(CONFIGS.items()):
            source = family_folder(Path(folder, str(number)), config)
            kind = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
            if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
                continue  # MiniCPM: its code is not part of transformers
            model = transformers.AutoModelForCausalLM.from_pretrained(
                str(source), dtype=torch.float32, attn_implementation="eager"
            ).eval()
            with torch.no_grad():
                logits = model(input_ids=torch.from_numpy(some_ids(config))[None]).logits[0]
            answers[f"logits {name}"] = logits.numpy()
    np.savez(path, **answers)


def exactness(answers: Any) -> str:
    """The table of accepted model types with the largest differences of logits."""
    lines = [
        "| models | `model_type` | largest difference to transformers | to llama.cpp | lines |",
        "| --- | --- | --- | --- | --- |",
    ]
    for family in FAMILIES.values():
        variants = [name for name in CONFIGS if CONFIGS[name].architecture == family.name]
        apart = [differences(name, answers) for name in variants]
        theirs = max((t for t, _ in apart if t is not None), default=None)
        kinds = ", ".join(f"`{kind}`" for kind in (*family.model_types, *family.spellings))
        shown = "not in transformers" if theirs is None else f"{theirs:.1e}"
        size = len(
            (ROOT / "m2m" / "families" / f"{family.name}.py").read_text("utf-8").splitlines()
        )
        largest = max(peer for _, peer in apart)
        lines.append(f"| {family.title} | {kinds} | {shown} | {largest:.1e} | {size} |")
    return "\n".join(lines) + "\n"


def differences(name: str, answers: Any) -> tuple[float | None, float]:
    """The largest differences of m2m's logits to transformers' and to llama.cpp's, in float32."""
    from m2m.llamacpp.filetypes import file_type
    from m2m.llamacpp.scratch_model import Surrogate

    config = CONFIGS[name]
    with tempfile.TemporaryDirectory() as folder:
        import_model(family_folder(Path(folder, "hf"), config), Path(folder, "m"), name="m")
        model, ids = BaseModel.open(Path(folder, "m")), some_ids(config)
        ours = Decoder(model.config, model.weights).logits(ids)
        with Surrogate(model.gguf, file_type("f32"), Path(folder), threads=1) as surrogate:
            peer = surrogate.load([], exact_cache=True).logits(ids.tolist())
    key = f"logits {name}"
    theirs = float(np.abs(ours - answers[key]).max()) if key in answers else None
    return theirs, float(np.abs(ours - peer).max())


def refused(answers: Any) -> str:
    """The list of transformers' other model types, by the reason."""
    known = {kind for f in FAMILIES.values() for kind in (*f.model_types, *f.spellings)}
    by_reason: dict[str, list[str]] = {}
    for kind in map(str, answers["types"]):
        if kind not in known:
            by_reason.setdefault(reason_for(kind), []).append(f"`{kind}`")
    lines = ["| refused because | `model_type` |", "| --- | --- |"]
    lines += [f"| {reason} | {', '.join(kinds)} |" for reason, kinds in by_reason.items()]
    return "\n".join(lines) + "\n"


def needs(answers: Any) -> str:
    """The table of models by size: disk of the import, memory of a training."""
    lines = [
        "| model | million weights | disk, GB | memory of a training, GiB | with `memory` low "
        '| and `precision = "q8_0"` |',
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (family, c, f, layers, heads, kv, dim, vocabulary, tied) in SIZES.items():
        config = DecoderConfig(
            family, vocabulary, c, f, layers, heads, kv, dim, 1e-5, 1e4, tied, 2048,
            **FAMILIES[family].traits, **MORE.get(name, {}),
        )  # fmt: skip
        weights = sum(math.prod(shape) for shape in config.weight_shapes().values())
        load = Load(16, PROJECTIONS, 2048, 512, 2, narrow=True)
        fast = peak_bytes(config, load, recompute=0, half=False) / GIB
        least = peak_bytes(config, load, recompute=layers, half=True) / GIB
        quantised = replace(load, precision="q8_0")
        eight = peak_bytes(config, quantised, recompute=layers, half=False) / GIB
        sizes = f"{weights / 1e6:.0f} | {2 * weights / 1e9:.1f} | {fast:.1f} | {least:.1f}"
        lines.append(f"| {name} | {sizes} | {eight:.1f} |")
    return "\n".join(lines) + "\n"


def write(path: Path) -> None:
    """Rewrite the tables of the page."""
    answers = np.load(path)
    parts = {"exactness": exactness, "refused": refused, "needs": needs}
    text = PAGE.read_text(encoding="utf-8")
    text = PART.sub(lambda match: match[1] + parts[match[2]](answers) + match[3], text)
    PAGE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    {"ask": ask, "write": write}[sys.argv[1]](Path(sys.argv[2]))
