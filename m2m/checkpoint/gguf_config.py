"""Convert a model's sizes and traits from and to GGUF metadata (gguf-py's constants.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.gguf_keys import refuse_keys
from m2m.checkpoint.names import ROPE_FACTORS, hf_to_gguf_name
from m2m.checkpoint.sizes import (
    GGUF,
    LOCAL_THETA,
    PERIOD,
    SIZES,
    Keys,
    build_config,
    family_of,
    fields_from_gguf,
    local_layers,
    period_of,
)
from m2m.errors import Problems
from m2m.families import FAMILIES, Family
from m2m.formats.gguf import GGUFValue
from m2m.nn.config import DecoderConfig, RopeScaling
from m2m.nn.rope import frequencies

# Llama 3.1 and later have the first; other makers used the rest in the same formula.
_WITH_BIAS = ("attn_q", "attn_output", "ffn_gate")
_LLAMA3_CONTEXTS = (8192, 1024, 2048, 4096, 16384, 32768, 65536, 131072)


def config_from_gguf(
    where: str,
    get: Callable[[str], Any],
    shapes: Mapping[str, Sequence[int]],
    rope_factors: NDArray[np.float32] | None = None,
) -> DecoderConfig:
    """Read a model's sizes and traits from its GGUF metadata.

    Args:
        where: the file, for errors.
        get: returns the value of a metadata key, or None.
        shapes: shapes of the file's tensors, by GGUF name.
        rope_factors: the file's tensor `rope_freqs.weight` (D / 2,), if it has one.

    Raises:
        InputError: an architecture or trait that m2m does not have, or sizes that do not fit.
    """
    architecture = get("general.architecture")
    known = {family.architecture: family for family in reversed(FAMILIES.values())}
    family = family_of(architecture, known, f"{where}: architecture")
    if family.name == "llama" and get("llama.attention.sliding_window"):
        family = FAMILIES["mistral"]
    problems = Problems()
    keys = Keys(lambda key: get(f"{architecture}.{key}"), problems)
    values: dict[str, Any] = keys.sizes(GGUF)
    values |= {
        "vocab_size": next(iter(shapes.get("token_embd.weight", ())), 0),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.number("rope.freq_base", default=10000.0),  # llama.cpp's own default
        "rope_scaling": _rope_scaling(keys, values["head_dim"], rope_factors),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    values |= _window(keys, family, values["num_layers"])
    values |= fields_from_gguf(keys, family, values) | _biases(keys, family, shapes)
    _refuse_traits(keys, values["head_dim"])
    config = build_config(f"{where}: {architecture} metadata", family, problems, values)
    refuse_keys(where, get, config.head_dim, family)
    return config


def _biases(keys: Keys, family: Family, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return which maps have biases; a GGUF says so by its tensors."""
    if not family.biases:
        return {}
    qkv, output, mlp = (f"blk.0.{name}.bias" in shapes for name in _WITH_BIAS)
    if qkv != output:
        keys.problems.add("q, k and v have biases and the output of attention has none, or reverse")
    return {"attention_bias": qkv, "output_bias": output, "mlp_bias": mlp}


def _refuse_traits(keys: Keys, head_dim: int) -> None:
    for key in ("rope.dimension_count", "attention.value_length"):
        if keys.size(key, default=head_dim) != head_dim:
            keys.problems.add(f"{key} is not head_dim ({head_dim})")


def _rope_scaling(
    keys: Keys, head_dim: int, factors: NDArray[np.float32] | None
) -> RopeScaling | None:
    kind = keys.get("rope.scaling.type")
    name, old = "rope.scaling.factor", "rope.scale_linear"
    name = old if keys.get(name) is None and keys.get(old) is not None else name
    if kind == "yarn":
        context = keys.size(
            "rope.scaling.original_context_length", default=keys.get("context_length")
        )
        return RopeScaling("yarn", keys.number(name), original_max_position_embeddings=context)
    if kind not in (None, "none", "linear"):
        keys.problems.add(f"rotary frequencies are scaled by {kind!r}, which m2m does not compute")
    elif factors is not None:
        return _llama3(keys, head_dim, factors)
    elif kind != "none" and (factor := keys.number(name, default=1.0)) != 1.0:
        return RopeScaling("linear", factor)
    return None


def _llama3(keys: Keys, head_dim: int, factors: NDArray[np.float32]) -> RopeScaling | None:
    """Return the Llama 3 scaling that gives these factors; GGUF stores only the factors."""
    if np.all(factors == 1.0):
        return None
    theta = keys.number("rope.freq_base", default=10000.0)
    for context in _LLAMA3_CONTEXTS:
        scaling = RopeScaling("llama3", float(factors.max()), 1.0, 4.0, context)
        expected = _factors(head_dim, theta, scaling)
        if expected.shape == factors.shape and np.allclose(expected, factors, rtol=1e-4, atol=0.0):
            return scaling
    keys.problems.add(f"{ROPE_FACTORS} holds no rotary scaling of Llama 3's kind")
    return None


def _window(keys: Keys, family: Family, layers: int) -> dict[str, Any]:
    if family.window == "none":
        return {}
    window = {"sliding_window": keys.size("attention.sliding_window")}
    if family.window == "all":
        return window
    period = keys.get("attention.sliding_window_pattern")
    period = PERIOD if period is None else period
    if type(period) is not int or period < 0:
        keys.problems.add(f"attention.sliding_window_pattern is {period!r}, expected a number")
        period = PERIOD
    theta = keys.number("rope.freq_base_swa", default=LOCAL_THETA)
    return window | {
        "layer_is_local": local_layers(layers, period),
        "local_rope_theta": theta,
    }


def config_to_gguf(config: DecoderConfig) -> dict[str, GGUFValue]:
    """Return the `ARCHITECTURE.*` keys in llama.cpp's format."""
    number, real = GGUFValue.uint32, GGUFValue.float32
    keys = {gguf: number(getattr(config, name)) for name, _, gguf in SIZES}
    keys |= {
        "vocab_size": number(config.vocab_size),
        "attention.value_length": number(config.head_dim),
        "attention.layer_norm_rms_epsilon": real(config.rms_norm_eps),
        "rope.dimension_count": number(config.head_dim),
        "rope.freq_base": real(config.rope_theta),
    }
    if (scaling := config.rope_scaling) is not None and scaling.kind != "llama3":
        keys["rope.scaling.type"] = GGUFValue.string(scaling.kind)
        keys["rope.scaling.factor"] = real(scaling.factor)
        if scaling.kind == "yarn":
            context = scaling.original_max_position_embeddings
            keys["rope.scaling.original_context_length"] = number(context)
    if config.sliding_window:
        keys["attention.sliding_window"] = number(config.sliding_window)
    if config.layer_is_local:
        keys["attention.sliding_window_pattern"] = number(period_of(config.layer_is_local) or 0)
    if config.local_rope_theta is not None:
        keys["rope.freq_base_swa"] = real(config.local_rope_theta)
    family = FAMILIES[config.architecture]
    keys |= {field.gguf: real(getattr(config, field.name)) for field in family.fields}
    architecture = family.architecture
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def gguf_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the model's GGUF file, by GGUF name."""
    weights = config.weight_shapes().items()
    shapes = {hf_to_gguf_name(name, config): shape for name, shape in weights}
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        shapes[ROPE_FACTORS] = (config.head_dim // 2,)
    return shapes


def rope_factors(config: DecoderConfig) -> NDArray[np.float32]:
    """Return the tensor `rope_freqs.weight` (D / 2,); llama.cpp divides frequencies by it."""
    return _factors(config.head_dim, config.rope_theta, config.rope_scaling)


def _factors(head_dim: int, theta: float, scaling: RopeScaling | None) -> NDArray[np.float32]:
    plain, scaled = frequencies(head_dim, theta), frequencies(head_dim, theta, scaling)
    return (plain / scaled).astype(np.float32)
