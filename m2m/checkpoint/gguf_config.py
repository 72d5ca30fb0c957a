"""Convert a model's sizes and traits from and to GGUF metadata (gguf-py's constants.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.gguf_keys import refuse_keys
from m2m.checkpoint.names import LONG_FACTORS, ROPE_FACTORS, gguf_rules
from m2m.checkpoint.sizes import (
    GGUF,
    SIZES,
    Keys,
    build_config,
    family_of,
    fields_from_gguf,
    local_layers,
    period_of,
    shortest,
)
from m2m.errors import Problems
from m2m.families import FAMILIES, Family
from m2m.formats.gguf import GGUFValue, GGUFValueType
from m2m.nn.config import DecoderConfig, RopeScaling
from m2m.nn.rope import frequencies

# Llama 3.1 and later have the first; other makers used the rest in the same formula.
_WITH_BIAS = ("attn_q", "attn_output", "ffn_up")
_YARN_LOG = "rope.scaling.yarn_log_multiplier"
ORIGINAL = "m2m.original_context_length"
_LLAMA3_CONTEXTS = (8192, 1024, 2048, 4096, 16384, 32768, 65536, 131072)


def config_from_gguf(
    where: str,
    get: Callable[[str], Any],
    shapes: Mapping[str, Sequence[int]],
    factors: Mapping[str, NDArray[np.float32]] | None = None,
) -> DecoderConfig:
    """Read a model's sizes and traits from its GGUF metadata.

    Args:
        where: the file, for errors.
        get: returns the value of a metadata key, or None.
        shapes: shapes of the file's tensors, by GGUF name.
        factors: the file's tensors `rope_freqs.weight` and `rope_factors_*.weight`, (D / 2,), by
            name.

    Raises:
        InputError: an architecture or trait that m2m does not have, or sizes that do not fit.
    """
    architecture = get("general.architecture")
    family = _family(where, architecture, bool(get(f"{architecture}.attention.sliding_window")))
    problems = Problems()
    keys = Keys(lambda key: get(f"{architecture}.{key}"), problems)
    mixers, keys = _mixers(keys, family)
    values: dict[str, Any] = keys.sizes(GGUF) | mixers
    values |= {
        "vocab_size": next(iter(shapes.get("token_embd.weight", ())), 0),
        "rms_norm_eps": keys.number(family.epsilon),
        "rope_theta": keys.number("rope.freq_base", default=10000.0),  # llama.cpp's own default
        "rope_scaling": _rope_scaling(keys, family, values, factors or {}),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    values |= _window(keys, family, values["num_layers"])
    values |= fields_from_gguf(keys, family, values) | _biases(keys, family, shapes)
    _check_written(keys, family, values)
    values |= _flags(keys, family, shapes) | _rotary_dim(keys, family, values["head_dim"])
    if (value := keys.get("attention.value_length")) not in (None, values["head_dim"]):
        problems.add(f"attention.value_length is {value!r:.60}, head_dim is {values['head_dim']}")
    config = build_config(f"{where}: {architecture} metadata", family, problems, values)
    refuse_keys(where, get, config.head_dim, family)
    return config


def _family(where: str, architecture: Any, window: bool) -> Family:
    """Return the family; of two with one architecture, the one that has a window or not."""
    known = {family.architecture: family for family in FAMILIES.values()}
    fitting = {f.architecture: f for f in FAMILIES.values() if (f.window != "none") == window}
    return family_of(architecture, known | fitting, f"{where}: architecture")


def _biases(keys: Keys, family: Family, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return which maps have biases; a GGUF says so by its tensors."""
    if not family.biases:
        return {}
    qkv, output, mlp = (f"blk.0.{name}.bias" in shapes for name in _WITH_BIAS)
    if qkv != output:
        keys.problems.add("q, k and v have biases and the output of attention has none, or reverse")
    return {"attention_bias": qkv, "output_bias": output, "mlp_bias": mlp}


def _mixers(keys: Keys, family: Family) -> tuple[dict[str, Any], Keys]:
    """Return the mixer of each layer, and keys with one number of K/V heads.

    The file has a number for each layer, 0 for those without attention.
    """
    if family.mixer_period:
        return _recurrent(keys, family), keys
    name = "attention.head_count_kv"
    counts = keys.get(name)
    if "conv" not in family.mixers:
        return {}, keys
    others = [n for n in counts if n] if isinstance(counts, list) else []
    if len({*others}) != 1 or len(counts) != keys.get("block_count"):
        keys.problems.add(
            f"{name} is {counts!r:.60}, expected one number a layer: 0 or that of the K/V heads"
        )
        return {}, keys
    mixers = tuple("attention" if count else "conv" for count in counts)
    get = keys.get
    return {"layer_mixers": mixers}, Keys(
        lambda key: others[0] if key == name else get(key), keys.problems
    )


def _recurrent(keys: Keys, family: Family) -> dict[str, Any]:
    """Return the mixer of each layer of a file that has flags, or a period."""
    layers, other = keys.size("block_count"), next(iter(family.mixers))
    flags = keys.get("attention.recurrent_layers")
    if flags is None:
        period = keys.size("full_attention_interval", default=family.mixer_period)
        flags = [layer % period != 0 for layer in range(1, layers + 1)]
    if not isinstance(flags, list) or len(flags) != layers:
        keys.problems.add(f"attention.recurrent_layers is {flags!r:.60}, expected one flag a layer")
        return {}
    return {"layer_mixers": tuple(other if flag else "attention" for flag in flags)}


def _check_written(keys: Keys, family: Family, values: Mapping[str, Any]) -> None:
    for key, expected in family.written(values).items():
        value = keys.get(key)
        if isinstance(expected, int) and value != expected:
            keys.problems.add(f"{key} is {value!r:.60}, expected {expected}")


def _flags(keys: Keys, family: Family, shapes: Mapping[str, Sequence[int]]) -> dict[str, bool]:
    """Return the traits that the file switches on and off."""
    values = {}
    for flag in family.flags:
        there = (f"blk.0.{flag.tensor}" in shapes) != flag.absent
        value = keys.get(flag.gguf) if flag.gguf else there
        if type(value) is not bool:
            keys.problems.add(f"{flag.gguf} is {value!r:.60}, expected true or false")
        values[flag.name] = bool(value)
    return values


def _rotary_dim(keys: Keys, family: Family, head_dim: int) -> dict[str, int]:
    """Return how many channels of a head rotate, if it is not all of them."""
    count = keys.size("rope.dimension_count", default=head_dim)
    if count == head_dim or family.traits.get("positions", "rotary") != "rotary":
        return {}
    if not family.partial:
        keys.problems.add(f"rope.dimension_count is {count}, head_dim is {head_dim}")
    return {"rotary_dim": count}


def _rope_scaling(
    keys: Keys,
    family: Family,
    sizes: Mapping[str, Any],
    tensors: Mapping[str, NDArray[np.float32]],
) -> RopeScaling | None:
    kind, factors = keys.get("rope.scaling.type"), tensors.get(ROPE_FACTORS)
    if family.longrope and any(name in tensors for name in LONG_FACTORS):
        return _longrope(keys, tensors)
    name, old = "rope.scaling.factor", "rope.scale_linear"
    name = old if keys.get(name) is None and keys.get(old) is not None else name
    if kind == "yarn":
        context = keys.size(
            "rope.scaling.original_context_length", default=keys.get("context_length")
        )
        plain = 1.0 if family.plain_yarn else 0.0
        if plain and keys.get(_YARN_LOG) != plain:
            keys.problems.add(f"{_YARN_LOG} is {keys.get(_YARN_LOG)!r:.60}, expected 1")
        return RopeScaling(
            "yarn",
            keys.number(name),
            original_max_position_embeddings=context,
            attention_factor=plain,
        )
    if kind not in (None, "none", "linear"):
        keys.problems.add(f"rotary frequencies are scaled by {kind!r}, which m2m does not compute")
    elif factors is not None and not family.llama3:
        keys.problems.add(f"{ROPE_FACTORS} is in the file, which llama.cpp does not read here")
    elif factors is not None:
        return _llama3(keys, sizes["head_dim"], factors)
    elif kind != "none" and (factor := keys.number(name, default=1.0)) != 1.0:
        return RopeScaling("linear", factor)
    return None


def _longrope(keys: Keys, tensors: Mapping[str, NDArray[np.float32]]) -> RopeScaling | None:
    if missing := [name for name in LONG_FACTORS if name not in tensors]:
        keys.problems.add(f"has no tensor {missing[0]}")
        return None
    short, long = (tuple(map(shortest, tensors[name].tolist())) for name in LONG_FACTORS)
    original = keys.get(ORIGINAL) or keys.get("rope.scaling.original_context_length")
    return RopeScaling(
        "longrope",
        short_factor=short,
        long_factor=long,
        original_max_position_embeddings=Keys(lambda key: original, keys.problems).size(
            "rope.scaling.original_context_length"
        ),
        attention_factor=keys.number("rope.scaling.attn_factor", default=1.0),
    )


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
    period = family.period if period is None else period
    if isinstance(period, list) and len(period) == layers:  # one flag a layer
        period = period_of(tuple(map(bool, period)))
    if type(period) is not int or period < 0:
        keys.problems.add(f"attention.sliding_window_pattern is {period!r:.60}, expected a number")
        period = family.period
    local = {"layer_is_local": local_layers(layers, period)}
    return window | local | _local_theta(keys, family)


def _local_theta(keys: Keys, family: Family) -> dict[str, float]:
    key = "rope.freq_base_swa"
    if family.local_theta is None and keys.get(key) is None:
        return {}
    return {"local_rope_theta": keys.number(key, default=family.local_theta)}


def config_to_gguf(config: DecoderConfig) -> dict[str, GGUFValue]:
    """Return the `ARCHITECTURE.*` keys in llama.cpp's format."""
    number, real, family = GGUFValue.uint32, GGUFValue.float32, FAMILIES[config.architecture]
    keys = {gguf: number(getattr(config, name)) for name, _, gguf in SIZES}
    keys |= {
        "vocab_size": number(config.vocab_size),
        "attention.value_length": number(config.head_dim),
        family.epsilon: real(config.rms_norm_eps),
    }
    if config.positions == "rotary":
        keys["rope.dimension_count"] = number(config.rotary_size)
        keys["rope.freq_base"] = real(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        keys["rope.scaling.type"] = GGUFValue.string(scaling.kind)  # without it, minicpm.cpp
        keys["rope.scaling.attn_factor"] = real(scaling.attention_factor)  # reads no factors
    elif scaling is not None and scaling.kind != "llama3":
        keys["rope.scaling.type"] = GGUFValue.string(scaling.kind)
        keys["rope.scaling.factor"] = real(scaling.factor)
        if scaling.kind == "yarn":
            context = scaling.original_max_position_embeddings
            keys["rope.scaling.original_context_length"] = number(context)
            if family.plain_yarn:
                keys[_YARN_LOG] = real(1.0)
    if config.sliding_window:
        keys["attention.sliding_window"] = number(config.sliding_window)
    if config.layer_is_local:
        keys["attention.sliding_window_pattern"] = number(period_of(config.layer_is_local) or 0)
    if config.local_rope_theta is not None:
        keys["rope.freq_base_swa"] = real(config.local_rope_theta)
    for field in family.fields:
        keys[field.gguf] = (number if field.whole else real)(getattr(config, field.name))
    keys |= _mixers_to_gguf(config)
    flags = {flag.gguf: getattr(config, flag.name) for flag in family.flags if flag.gguf}
    keys |= {key: GGUFValue.boolean(value) for key, value in flags.items()}
    architecture = family.architecture
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def _mixers_to_gguf(config: DecoderConfig) -> dict[str, GGUFValue]:
    family = FAMILIES[config.architecture]
    if family.mixer_period:
        flags = [mixer != "attention" for mixer in config.layer_mixers]
        keys = {"attention.recurrent_layers": GGUFValue.array(GGUFValueType.BOOL, flags)}
        for key, value in family.written(vars(config)).items():
            one = isinstance(value, int)
            keys[key] = (
                GGUFValue.uint32(value) if one else GGUFValue.array(GGUFValueType.INT32, value)
            )
        return keys
    if "conv" not in config.layer_mixers:
        return {}
    counts = [config.num_kv_heads * (mixer == "attention") for mixer in config.layer_mixers]
    return {"attention.head_count_kv": GGUFValue.array(GGUFValueType.INT32, counts)}


def longrope_keys(config: DecoderConfig, *, export: bool = False) -> dict[str, GGUFValue]:
    """Return the keys of LongRoPE's original length: in base.gguf, or in an exported file.

    llama.cpp takes the long factors for each context that is larger than this length, however
    short the texts in it are. m2m scores many short texts in one context, so base.gguf names the
    whole context here, and the true length in a key of m2m's own.
    """
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "longrope":
        return {}
    architecture, number = FAMILIES[config.architecture].architecture, GGUFValue.uint32
    original, whole = scaling.original_max_position_embeddings, config.max_position_embeddings
    key = f"{architecture}.rope.scaling.original_context_length"
    if export:
        return {key: number(original)}
    return {key: number(max(original, whole)), f"{architecture}.{ORIGINAL}": number(original)}


def gguf_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the model's GGUF file, by GGUF name."""
    extra = {name: array.shape for name, array in extra_tensors(config).items()}
    return gguf_rules(config).shapes | extra


def extra_tensors(config: DecoderConfig) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a GGUF that are no weights; llama.cpp divides frequencies by them."""
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        factors = (scaling.short_factor, scaling.long_factor)
        arrays = (np.array(numbers, np.float32) for numbers in factors)
        return dict(zip(LONG_FACTORS, arrays, strict=True))
    if scaling is None or scaling.kind != "llama3":
        return {}
    return {ROPE_FACTORS: _factors(config.rotary_size, config.rope_theta, config.rope_scaling)}


def _factors(head_dim: int, theta: float, scaling: RopeScaling | None) -> NDArray[np.float32]:
    plain, scaled = frequencies(head_dim, theta), frequencies(head_dim, theta, scaling)
    return (plain / scaled).astype(np.float32)
