"""LoRA adapters as PEFT folders: adapter_config.json and adapter_model.safetensors.

m2m writes folders that `peft.PeftModel.from_pretrained` loads as they are. It reads any folder that
PEFT wrote, if it holds plain LoRA. m2m's own data about an adapter is stored in m2m.json.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError, Problems
from m2m.formats.atomic import atomic_folder, write_json
from m2m.formats.records import read_object
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.nn.config import DecoderConfig
from m2m.nn.lora import LoraPair
from m2m.opening import refuse_links

CONFIG, WEIGHTS, OWN = "adapter_config.json", "adapter_model.safetensors", "m2m.json"
_PREFIX = "base_model.model."
_KEY = re.compile(
    r"base_model\.model\.(?P<module>[\w.]{1,200})\.lora_(?P<side>[AB])(\.\w+)?\.weight"
)
# If one of these keys has a true value, PEFT computes something else than W + scale * B A.
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "use_qalora",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# The tensors that PEFT saves for a head or embeddings trained whole (modules_to_save) or resized.
_WHOLE = ("lm_head.weight", "embed_tokens.weight")
_ENDS = ("lm_head", "embed_tokens")
_WHOLE_HINT = "merge it with PEFT (`merge_and_unload()`), save that model and import it"
# Initialisations that change the base's weights, so that B A is not a delta of the file on disk.
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
# A pattern in a stranger's file must not run for hours: no repeated groups, few repeats.
_PATTERN = re.compile(r"[\w.^$\\|()\[\]*+?-]{1,200}")
_REPEATS = 3
_MOST_PATTERNS = 2048  # each is tried on each module; a model of 126 layers has 882 modules


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory.

    Attributes:
        rank: the rank that its config names; a pair may have another.
        alpha: the alpha that its config names; the scale of each pair is used.
        pairs: factors by module path, such as "model.layers.0.self_attn.q_proj"; float32.
        base_model: name or path of the model that it was trained on, as its maker wrote it.
        base_fingerprint: fingerprint of that model, None for adapters from elsewhere.
        name: the adapter's name.
        sha256: hash of the file of its factors (hex); "" if it was not read from one.
    """

    rank: int
    alpha: float
    pairs: dict[str, LoraPair]
    base_model: str
    base_fingerprint: str | None = None
    name: str = ""
    sha256: str = ""

    @property
    def parameters(self) -> int:
        """Return the number of values in all factors."""
        return sum(pair.a.size + pair.b.size for pair in self.pairs.values())


def save_adapter(folder: Path, adapter: Adapter, extra: Mapping[str, Any] | None = None) -> None:
    """Write a PEFT folder atomically; an existing one is replaced as a whole.

    The whole folder has one rank and one alpha: pairs of a smaller rank are padded with zeros,
    and other scales are multiplied into B. Neither changes a delta.

    Args:
        folder: the folder to write.
        adapter: the adapter, which is written as float32.
        extra: JSON values for m2m.json, in addition to name and base_fingerprint.
    """
    if not adapter.pairs:
        raise ValueError("an adapter without pairs")
    scale = adapter.alpha / adapter.rank or 1.0
    pairs = uniform_pairs(adapter.pairs, scale, adapter.rank)
    rank = max(pair.rank for pair in pairs.values())
    tensors: dict[str, NDArray[np.floating]] = {}
    for module, pair in pairs.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = pair.a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = pair.b
    specs = [TensorSpec(name, "F32", array.shape) for name, array in tensors.items()]
    own = {"name": adapter.name, "base_fingerprint": adapter.base_fingerprint} | dict(extra or {})
    with atomic_folder(folder) as inside:
        write_safetensors(inside / WEIGHTS, specs, tensors.values(), {"format": "pt"})
        write_json(inside / CONFIG, _peft_config(adapter, rank, scale * rank))
        write_json(inside / OWN, {"format_version": 1} | own)


def uniform_pairs(
    pairs: Mapping[str, LoraPair], scale: float, least: int = 1
) -> dict[str, LoraPair]:
    """Return the pairs (float32) with one rank and one scale for all, and unchanged deltas.

    Smaller ranks than `least` are padded with zeros, and other scales are multiplied into B.
    """
    rank = max(least, *(pair.rank for pair in pairs.values()))
    uniform = {}
    for module, pair in pairs.items():
        a = np.zeros((rank, pair.a.shape[1]), np.float32)
        b = np.zeros((pair.b.shape[0], rank), np.float32)
        a[: pair.rank] = pair.a
        b[:, : pair.rank] = pair.b
        if pair.scale != scale:
            b *= np.float32(pair.scale / scale)
        uniform[module] = LoraPair(a, b, scale)
    return uniform


def _peft_config(adapter: Adapter, rank: int, alpha: float) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base_model,
        "revision": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": 0.0,
        "target_modules": _target_modules(adapter.pairs),
        "exclude_modules": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "auto_mapping": None,
    }


def _target_modules(pairs: Mapping[str, LoraPair]) -> list[str]:
    """Return last parts ("q_proj") if every parent has the same ones, else full paths."""
    by_layer: dict[str, set[str]] = {}
    for module in pairs:
        match = re.fullmatch(r"(?>(.*\.\d+)\.)(?:.*\W)?(\w+)", module)
        by_layer.setdefault(match[1] if match else "", set()).add(match[2] if match else module)
    parts = list(by_layer.values())
    return sorted(parts[0]) if all(part == parts[0] for part in parts) else sorted(pairs)


def load_adapter(folder: Path) -> Adapter:
    """Read a PEFT folder of plain LoRA, written by m2m or anybody else.

    Raises:
        InputError: the folder is missing or malformed, or it has features that m2m does not support
            (DoRA, biases, fully trained modules, other methods); the message lists all of them.
    """
    config = _checked_config(folder)
    file = SafetensorsFile(folder / WEIGHTS)
    factors = _factors(file)
    pairs = {}
    problems = Problems()
    for module, (a, b) in factors.items():
        rank = _pattern_value(config.ranks, module, config.rank)
        if rank != a.shape[0]:
            problems.add(f"module {module} has rank {a.shape[0]}, {CONFIG} says {rank:g}")
        alpha = _pattern_value(config.patterns, module, config.alpha)
        root = math.sqrt(a.shape[0]) if config.rslora else a.shape[0]
        pairs[module] = LoraPair(a, b, alpha / root)
    problems.raise_if_any(InputError, str(file.path), "are both files of one and the same adapter?")
    own = read_extra(folder)
    fingerprint = own.get("base_fingerprint")
    return Adapter(
        rank=config.rank,
        alpha=config.alpha,
        pairs=pairs,
        base_model=config.base_model,
        base_fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        name=str(own.get("name") or folder.resolve().name),
        sha256=file.sha256,
    )


def read_extra(folder: Path) -> dict[str, Any]:
    """Return the content of m2m.json of an adapter folder; empty for adapters from elsewhere."""
    return read_object(folder / OWN) if (folder / OWN).is_file() else {}


_Patterns = Mapping[re.Pattern[str], float]


@dataclass(frozen=True)
class _PeftConfig:
    rank: int
    alpha: float
    base_model: str
    rslora: bool = False
    patterns: _Patterns = field(default_factory=dict)
    ranks: _Patterns = field(default_factory=dict)


def _checked_config(folder: Path) -> _PeftConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(
            f"{folder}: is not an adapter folder (no {CONFIG})",
            "expected a folder as PEFT saves it",
        )
    refuse_links(folder, CONFIG, WEIGHTS, OWN)
    if not (folder / WEIGHTS).is_file():
        pickled = "m2m reads no pickled adapter_model.bin: save it with safe_serialization=True"
        mlx = "this is an adapter of mlx-lm: fuse it with `mlx_lm.fuse` and import that model"
        is_mlx = (folder / "adapters.safetensors").is_file()
        raise InputError(f"{folder}: has no {WEIGHTS}", mlx if is_mlx else pickled)
    data = read_object(path)
    problems = Problems()
    for problem in _unsupported(data):
        problems.add(problem)
    rank, alpha = data.get("r"), data.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= 1 << 20:
        problems.add(f"r is {rank!r:.40}, expected a whole number from 1")
    if not _is_real(alpha):
        problems.add(f"lora_alpha is {alpha!r}, expected a number")
    patterns, ranks = (_patterns(data, f"{name}_pattern", problems) for name in ("alpha", "rank"))
    problems.raise_if_any(
        InputError, str(path), _WHOLE_HINT if data.get("modules_to_save") else None
    )
    base = str(data.get("base_model_name_or_path") or "")
    return _PeftConfig(
        int(rank or 0), float(alpha or 0), base, bool(data.get("use_rslora")), patterns, ranks
    )


def _patterns(data: Mapping[str, Any], key: str, problems: Problems) -> _Patterns:
    """Return numbers by module pattern; compiled once, as `re` caches only 512 patterns."""
    patterns = data.get(key) or {}
    if not isinstance(patterns, dict) or not all(map(_is_real, patterns.values())):
        problems.add(f"{key} is not an object of numbers")
        return {}
    if len(patterns) > _MOST_PATTERNS:
        problems.add(f"{key} has {len(patterns):,} patterns, m2m reads {_MOST_PATTERNS:,}")
        return {}
    for pattern in patterns:
        if not _is_simple(pattern):
            problems.add(f"{key} {pattern!r:.80} is not a simple pattern")
    if not all(map(_is_simple, patterns)):
        return {}
    return {_ending(pattern): value for pattern, value in patterns.items()}


def _is_real(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _unsupported(data: Mapping[str, Any]) -> list[str]:
    # fan_in_fan_out says how the base stores its weights; A and B look the same either way.
    problems = []
    if data.get("peft_type") != "LORA":
        problems.append(f"peft_type is {data.get('peft_type')!r}, m2m reads 'LORA'")
    if data.get("bias", "none") not in ("none", None):
        problems.append(f"bias is {data['bias']!r}: trained biases are not supported")
    if str(data.get("init_lora_weights")).lower().startswith(_CHANGES_BASE):
        problems.append(
            f"init_lora_weights is {data['init_lora_weights']!r}, which changed the base: save it "
            "with path_initial_model_for_weight_conversion"
        )
    for key in _UNSUPPORTED:
        if data.get(key):
            problems.append(f"{key} is {data[key]!r}, which is not supported")
    return problems


def _factors(file: SafetensorsFile) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    problems = Problems()
    sides: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name in file.names:
        match = _KEY.fullmatch(name)
        if not match or len(file.shape(name)) != 2:
            whole = ", but a part of the model that was trained whole" * name.endswith(_WHOLE)
            problems.add(
                f"tensor {name} {list(file.shape(name))} is not a factor of plain LoRA{whole}"
            )
            continue
        array = file.array(name)
        if not np.isfinite(array).all():
            problems.add(f"tensor {name} has values that are not finite")
        sides.setdefault(match["module"], {})[match["side"]] = array
    pairs = {}
    for module, factors in sides.items():
        if factors.keys() != {"A", "B"}:
            problems.add(f"module {module} has lora_{''.join(factors)} only")
        elif factors["A"].shape[0] != factors["B"].shape[1] or factors["A"].size == 0:
            shapes = f"A {list(factors['A'].shape)} and B {list(factors['B'].shape)}"
            problems.add(f"module {module}: {shapes} share no rank")
        else:
            pairs[module] = (factors["A"], factors["B"])
    if not file.names:
        problems.add("holds no tensors")
    hint = _WHOLE_HINT if any(name.endswith(_WHOLE) for name in file.names) else None
    problems.raise_if_any(InputError, str(file.path), hint)
    return pairs


def _pattern_value(patterns: _Patterns, module: str, default: float) -> float:
    """Return the value of the first pattern that matches the end of `module` (get_pattern_key)."""
    matches = (value for pattern, value in patterns.items() if pattern.match(module))
    return float(next(matches, default))


def _ending(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for the end of a module's path; raises re.error if it is invalid."""
    return re.compile(rf"(.*\.)?({pattern})$")


def _is_simple(pattern: str) -> bool:
    repeats = sum(pattern.count(sign) for sign in "*+?")
    if not _PATTERN.fullmatch(pattern) or repeats > _REPEATS or re.search(r"\)[*+?]", pattern):
        return False
    try:
        _ending(pattern)
    except re.error:
        return False
    return True


def check_adapter(
    adapter: Adapter, config: DecoderConfig, base_fingerprint: str | None = None
) -> None:
    """Check that an adapter fits a model.

    Args:
        adapter: the adapter.
        config: the model's sizes.
        base_fingerprint: the model's fingerprint, compared if both sides have one.

    Raises:
        InputError: modules that the model lacks, other shapes, or another base (lists all).
    """
    problems = Problems()
    shapes = config.linear_shapes()
    for module, pair in adapter.pairs.items():
        if module not in shapes:
            apart = "; m2m merges nothing into heads and embeddings" * module.endswith(_ENDS)
            problems.add(f"module {module} is not a linear map of the model's layers{apart}")
        elif pair.shape != shapes[module]:
            problems.add(
                f"module {module}: the adapter is for {list(pair.shape)}, the model has "
                f"{list(shapes[module])}"
            )
    own = adapter.base_fingerprint
    if own and base_fingerprint and own != base_fingerprint:
        problems.add(f"was trained on another base model ({adapter.base_model or 'unnamed'})")
    problems.raise_if_any(
        InputError,
        f"adapter {adapter.name or 'without a name'} does not fit the model",
        "use the base model that it was trained on, or train it again",
    )
