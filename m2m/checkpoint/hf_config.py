"""Convert a model's sizes and traits from and to config.json of transformers 4 and 5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2m.checkpoint.hf_rope import (
    longrope,
    refuse_two_scalings,
    rope_scaling,
    rope_settings,
    scaling_to_json,
    without_alpha,
)
from m2m.checkpoint.sizes import (
    JSON,
    SIZES,
    Keys,
    build_config,
    family_of,
    fields_from_json,
    fields_to_json,
    local_layers,
    period_of,
)
from m2m.counted import counted
from m2m.errors import InputError, Problems
from m2m.families import FAMILIES, Family, Spelling
from m2m.families.refused import REFUSED
from m2m.formats.records import read_object
from m2m.nn.config import DecoderConfig

_BY_MODEL_TYPE = {kind: family for family in FAMILIES.values() for kind in family.model_types}
_SPELLINGS = {k: spelling for f in FAMILIES.values() for k, spelling in f.spellings.items()}
_BY_MODEL_TYPE |= {kind: family for family in FAMILIES.values() for kind in family.spellings}
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"} | {x: x for x in ("silu", "relu2", "xielu")}
_BIASES = ("attention_bias", "mlp_bias")
_PARTIAL = "partial_rotary_factor"
_OUTSIDE = ("tie_word_embeddings", "quantization_config")  # also of a model with a vision part
_FLAGS = {"sliding_attention": True, "full_attention": False}
# Traits that no family here has: the values that say so.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "is_causal": (None, True),
    "use_sliding_window": (None, False),  # Qwen's, which llama.cpp does not apply
    "use_bidirectional_attention": (None, False),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    _PARTIAL: (None, 1),
    "quantization_config": (None,),
}


# Keys that change no logits of a trained model: ids, names, training, and programs' settings.
_IDLE = re.compile(
    r"_.*|architectures|model_type|(torch_)?dtype|transformers_version|auto_map|name_or_path"
    r"|\w+_token_ids?|mamba_\w+|router_\w+|num_experts_per_tok|time_step_\w+|use_cache|cache_implementation|initializer_range|(?>\w*?dropout)\w*|\w+_pdrop"
    r"|pretraining_tp|return_dict|output_\w+|chunk_size_feed_forward|is_(encoder_)?decoder"
    r"|id2label|label2id|problem_type|max_window_layers|unsloth_\w+|text_config|n_ctx|mup_denominator"
    r"|summary_\w+|task_specific_params|gradient_checkpointing"
)
_READ = {
    *("vocab_size", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters"),
    *("rope_local_base_freq", "sliding_window", "sliding_window_pattern", "layer_types"),
    *(
        "original_max_position_embeddings",
        "tie_word_embeddings",
        *_BIASES,
        *_HARMLESS,
        *(row[JSON] for row in SIZES),
    ),
}


def unknown_json(path: Path, config: DecoderConfig) -> list[str]:
    """Return a warning that names the keys of a config.json that m2m does not know, or none."""
    data, family = read_object(path), FAMILIES[config.architecture]
    if isinstance(nested := data.get("text_config"), dict):
        data = nested
    known = _READ | {family.activation, *family.stated(vars(config)), *family.defaults}
    known |= {field.json for field in family.fields} | {flag.json for flag in family.flags}
    known |= {name for names in family.json.values() for name in names} | family.idle
    if spelling := spelling_of(data):
        known |= {*spelling.sizes, *spelling.needed}
    unknown = sorted(key for key in data if key not in known and not _IDLE.fullmatch(key))
    warnings = []
    if (
        family.turns_to_tanh
        and {**family.defaults, **data}.get(family.activation, "gelu") == "gelu"
    ):
        warnings.append(
            "The model was trained with GELU by erf. llama.cpp computes GELU by tanh, and so does "
            "m2m: logits differ by some thousandths from those of its maker's program."
        )
    rope = rope_settings(data)[0]
    if rope.get("rope_type", rope.get("type")) == "dynamic" and not family.alpha:
        warnings.append(
            "rope_scaling is dynamic. It changes nothing up to "
            f"{counted(config.max_position_embeddings, 'token')}. The imported model takes texts "
            "up to this length, and its files do not have the setting."
        )
    if (
        config.sliding_window
        and not config.layer_is_local
        and "full_attention" in _kinds(data.get("layer_types"))
    ):
        warnings.append(
            "Some layers look through a window, others do not. llama.cpp has no window here. The "
            f"imported model takes texts of up to {counted(config.sliding_window, 'token')}, for "
            "which it is the same. Its files have the window in all layers."
        )
    if not unknown:
        return warnings
    return [
        *warnings,
        f"{path.name} has keys that m2m does not know: {', '.join(unknown):.300}. m2m computes "
        "as if they were not there; if one changes the layers, answers differ from its maker's.",
    ]


def config_from_json(path: Path) -> DecoderConfig:
    """Read a model's sizes and traits from its config.json.

    Raises:
        InputError: an unreadable file, an unknown family, sizes that are missing or out of range,
            or a trait that m2m does not compute.
    """
    data = read_object(path)
    family = family_of(data.get("model_type"), _BY_MODEL_TYPE, f"{path}: model_type")
    if spelling := spelling_of(data):
        data = _respelled(path, data, spelling)
    if isinstance(nested := data.get("text_config"), dict):  # a model with a vision part
        data = {key: data[key] for key in _OUTSIDE if key in data} | nested
        if "model_type" in nested:  # Mistral 3's part may be a Ministral 3 or a Mistral
            family = family_of(nested["model_type"], _BY_MODEL_TYPE, f"{path}: model_type")
    problems = Problems()
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(data.get(key, {}), dict | None):
            problems.add(f"{key} is {data[key]!r:.60}, expected names with values")
    refuse_two_scalings(data, problems)  # of the file, not of the family's defaults
    data = _completed(data, family)
    names = {ours: theirs[0] for ours, theirs in family.json.items()}
    keys = Keys(data.get, problems, names)
    values: dict[str, Any] = keys.sizes(JSON)
    rope, local = rope_settings(data)
    rope = without_alpha(rope, data, values["head_dim"]) if family.alpha else rope
    theta = Keys(lambda key: rope.get(key, data.get(key)), problems, names)
    values |= {
        "vocab_size": keys.size("vocab_size"),
        "rms_norm_eps": keys.number("rms_norm_eps"),
        "rope_theta": theta.number("rope_theta", default=10000.0),
        "rope_scaling": rope_scaling(rope, family, problems),
        "tie_word_embeddings": bool(data.get("tie_word_embeddings", False)),
    }
    if family.longrope and rope.get("rope_type", rope.get("type")) in ("longrope", "su"):
        values["rope_scaling"] = longrope(rope, data, problems)
    values |= _window(keys, family, values, local)
    if family.mixers:
        values["layer_mixers"] = _mixers(keys, family, values["num_layers"])
    own = Keys(lambda key: data.get(key, rope.get(key)), problems, names)
    values |= fields_from_json(own, family, values)
    values |= {flag.name: bool(data.get(flag.json, flag.default)) for flag in family.flags}
    values |= _rotary_dim(theta, family, values["head_dim"])
    if family.biases:
        attention, mlp = (bool(data.get(key)) for key in _BIASES)
        values |= {"attention_bias": attention, "output_bias": attention, "mlp_bias": mlp}
    _refuse_traits(keys, family, values)
    return build_config(str(path), family, problems, values)


def _completed(data: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """Return a config.json with the usual names of keys, and the family's defaults."""
    data = family.respelled(data)
    whole = dict(data)
    for ours, names in family.json.items():
        for name in reversed(names):
            if name in data:
                whole[ours] = data[name]
    for own in family.fields:  # null switches it off, and is no default
        if own.json in data and data[own.json] is None:
            whole[own.json] = "null"
    for key, value in family.defaults.items():
        if callable(value):
            if whole.get(key) is None:
                whole[key] = value(whole)
        elif key not in whole:
            whole[key] = value
    return whole


def _rotary_dim(keys: Keys, family: Family, head_dim: int) -> dict[str, int]:
    """Return how many channels of a head rotate, if it is not all of them."""
    if not family.partial:
        return {}
    count = int(head_dim * keys.number(_PARTIAL, default=1.0))
    return {} if count == head_dim else {"rotary_dim": count}


def spelling_of(data: Mapping[str, Any]) -> Spelling | None:
    """Return the family's other spelling that a config.json has, if it is not the usual one."""
    kind = data.get("model_type")
    return _SPELLINGS.get(kind) if isinstance(kind, str) else None


def _respelled(path: Path, data: Mapping[str, Any], spelling: Spelling) -> dict[str, Any]:
    """Return a config.json in the family's own spelling; raise InputError if it computes more."""
    problems = Problems()
    for key, values in spelling.needed.items():
        value = data.get(key)
        for item in value if isinstance(value, list) else [value]:
            if item not in values:
                reason = REFUSED.get(str(data["model_type"]), "m2m does not compute that")
                problems.add(f"{key} is {value!r:.60}: {reason}")
                break
    problems.raise_if_any(InputError, str(path))
    renamed = {ours: data[theirs] for theirs, ours in spelling.sizes.items() if theirs in data}
    return {key: value for key, value in data.items() if key not in spelling.needed} | renamed


def _refuse_traits(keys: Keys, family: Family, sizes: Mapping[str, Any]) -> None:
    usual = _ACTIVATIONS[family.traits.get("activation", "silu")]
    attention, mlp = ((None, False, family.biases or family.traits.get(k, False)) for k in _BIASES)
    stated = {key: (None, value) for key, value in family.stated(sizes).items()}
    harmless = _HARMLESS | stated | {"attention_bias": attention, "mlp_bias": mlp}
    if family.activation:
        harmless[family.activation] = (None, *(family.activations or (usual,)))
    own = {_PARTIAL} if family.partial else set()
    own |= {*(f.json for f in family.fields), *(flag.json for flag in family.flags)}
    for key, values in harmless.items():
        if key not in own and (value := keys.get(key)) not in values:
            keys.problems.add(f"{key} is {value!r:.60}, which m2m does not compute")


def _window(
    keys: Keys, family: Family, sizes: Mapping[str, Any], local: Mapping[str, Any]
) -> dict[str, Any]:
    kinds, layers = keys.get("layer_types"), sizes["num_layers"]
    if family.window == "none":
        if "sliding_attention" in _kinds(kinds):
            keys.problems.add("layer_types has sliding_attention, which llama.cpp does not compute")
        return {}
    if family.window == "all":
        if keys.get("sliding_window") is None or _kinds(kinds) == {"full_attention"}:
            return {}
        return {"sliding_window": keys.size("sliding_window")}
    flags = local_layers(layers, keys.size("sliding_window_pattern", default=family.period))
    if isinstance(kinds, list):
        flags = tuple(_FLAGS[kind] for kind in map(str, kinds) if kind in _FLAGS)
    if len(flags) != layers or period_of(flags) is None:
        keys.problems.add("layer_types are none that llama.cpp computes: all but every n-th local")
    if local.get("rope_type", "default") != "default":
        keys.problems.add("rotary frequencies of local layers are scaled, which is not computed")
    values = {"sliding_window": keys.size("sliding_window"), "layer_is_local": flags}
    if family.local_theta is None:
        if (base := local.get("rope_theta")) not in (None, sizes["rope_theta"]):
            keys.problems.add(f"rope_theta of local layers is {base!r:.60}, not that of the others")
        return values
    theta = Keys(lambda key: local.get("rope_theta"), keys.problems)
    number = theta.number("rope_local_base_freq", default=family.local_theta)
    return values | {"local_rope_theta": number}


def _kinds(layer_types: Any) -> set[str]:
    return {*map(str, layer_types)} if isinstance(layer_types, list) else set()


def _mixers(keys: Keys, family: Family, layers: int) -> tuple[str, ...]:
    """Return the mixer of each layer."""
    known = {"full_attention": "attention"} | {kind: own for own, kind in family.mixers.items()}
    kinds = keys.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers and {*map(str, kinds)} <= known.keys():
        return tuple(known[kind] for kind in kinds)
    keys.problems.add(
        f"layer_types is {kinds!r:.60}, expected {layers} times {' or '.join(sorted(known))}"
    )
    return ("attention",) * layers


def config_to_json(config: DecoderConfig, dtype: str, token_ids: Mapping[str, Any]) -> Any:
    """Return the content of config.json, in the spelling of transformers 4 and 5.

    Args:
        config: sizes and traits.
        dtype: "float16" or "bfloat16".
        token_ids: values of "bos_token_id" and others that the tokenizer has.
    """
    family = FAMILIES[config.architecture]
    scaling = config.rope_scaling
    own = {flag.name for flag in family.flags}
    activation: dict[str, Any] = {}
    rope: dict[str, Any] = {}
    if family.activation:
        names = family.activations or (_ACTIVATIONS[config.activation],)
        activation = {family.activation: names[0]}
    if config.positions == "rotary":
        rope["rope_theta"] = config.rope_theta
        plain = {"rope_type": "default"} if "rope_scaling" in family.defaults else None
        rope["rope_scaling"] = plain if scaling is None else scaling_to_json(scaling)
    # The order is part of a model's fingerprint: a model that is imported again has the same one.
    data: dict[str, Any] = {
        "architectures": [family.hf_class],
        "model_type": family.model_types[0],
        "vocab_size": config.vocab_size,
        **{name: getattr(config, ours) for ours, name, _ in SIZES},
        **activation,
        **{key: getattr(config, key) for key in _BIASES if key not in own},
        "rms_norm_eps": config.rms_norm_eps,
        **rope,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype,
        **token_ids,
    }
    if scaling is not None and family.plain_yarn:
        inside = {field.json: fields_to_json(config)[field.json] for field in family.fields}
        data["rope_scaling"] |= {"mscale": 1.0, "mscale_all_dim": 1.0, **inside}
    if scaling is not None and scaling.kind == "longrope":
        name = "original_max_position_embeddings"
        data[name] = scaling.original_max_position_embeddings
    if family.partial:
        data[_PARTIAL] = config.rotary_size / config.head_dim
    if family.window != "none":
        data["sliding_window"] = config.sliding_window or None
    if config.layer_is_local:
        kinds = {flag: name for name, flag in _FLAGS.items()}
        data["layer_types"] = [kinds[flag] for flag in config.layer_is_local]
        if config.local_rope_theta is not None:
            data["rope_local_base_freq"] = config.local_rope_theta
    if config.layer_mixers:
        mixers = {"attention": "full_attention"} | dict(family.mixers)
        data["layer_types"] = [mixers[mixer] for mixer in config.layer_mixers]
    data |= {flag.json: getattr(config, flag.name) for flag in family.flags}
    outside = {field.json for field in family.fields if not field.in_rope}
    data |= {key: value for key, value in fields_to_json(config).items() if key in outside}
    data |= family.stated(vars(config))
    return {family.json.get(key, (key,))[0]: value for key, value in data.items()}
