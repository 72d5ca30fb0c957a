"""The description of one model family: plain data, which import, training and export read.

`m2m/families/NAME.py` holds one `FAMILY`. m2m.checkpoint reads and writes config.json and GGUF by
it, and m2m.nn computes with the traits that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """The place of one of the model's modules in a file, and how its values differ there.

    Modules with the same name are the rows of one tensor, in the order of the table. A module with
    a number at its end is in the table under ".*".

    Attributes:
        name: its name in the file, without the layer's prefix and without ".weight".
        heads: the attribute of DecoderConfig with the number of heads, if llama.cpp rotates
            neighbouring rows and Hugging Face rows half a head apart; else "".
        shift: number that the file adds to the values of its ".weight" (Gemma's norms: 1).
        transposed: the file stores matrices as (in, out), as GPT-2's Conv1D does.
        by_head: of a tensor that holds q, k and v, each head of k has its rows together, those of
            its heads of q first.
        stacked: the modules are rows of one matrix, and not parts of one vector.
        channels: the file has an axis of one element after the first (torch's Conv1d).
        tiled: parts in which the file has the heads of a DeltaNet's values in another order: the
            first of each key's, then the second, and so on (ggml repeats keys in this way).
        bare: the file's name has no ".weight" or ".bias".
        logarithm: the file has log(-x).
    """

    name: str
    heads: Literal["", "num_heads", "num_kv_heads"] = ""
    shift: float = 0.0
    transposed: bool = False
    by_head: bool = False
    stacked: bool = False
    channels: bool = False
    tiled: Literal["", "rows", "values", "columns"] = ""
    bare: bool = False
    logarithm: bool = False


@dataclass(frozen=True)
class Flag:
    """One trait of a family that its files switch on and off.

    Attributes:
        name: the attribute of DecoderConfig.
        json: the key in config.json.
        default: the value of config.json without the key.
        gguf: the key in GGUF, after the architecture; "": the tensor says it.
        tensor: the GGUF tensor of the first layer that exists only with the trait.
        absent: this tensor exists only without the trait.
    """

    name: str
    json: str
    default: bool
    gguf: str = ""
    tensor: str = ""
    absent: bool = False


@dataclass(frozen=True)
class Field:
    """One positive number of a family: in DecoderConfig, in config.json and in GGUF.

    Attributes:
        name: the attribute of DecoderConfig.
        json: the key in config.json.
        gguf: the key in GGUF, after the architecture.
        default: the value of config.json without the key; None: the key is needed.
        missing: returns the value of a GGUF without the key, from the sizes; None: it is needed.
        read: DecoderConfig's value from config.json's and the sizes; None: they are the same.
        write: the inverse of `read`.
        whole: whether it is a whole number.
        in_rope: whether config.json has it among the settings of `rope_scaling`.
    """

    name: str
    json: str
    gguf: str
    default: float | None = None
    missing: Callable[[Values], float] | None = None
    read: Callable[[float, Values], float] | None = None
    write: Callable[[float, Values], float] | None = None
    in_rope: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Spelling:
    """Another class of transformers that computes a family's layers, under other names.

    A folder of this class is imported as one of the family.

    Attributes:
        sizes: keys of its config.json, and the family's keys that have their values.
        needed: keys, and the values with which it computes what the family does.
        tensors: the family's modules in its files.
    """

    sizes: Mapping[str, str]
    needed: Mapping[str, tuple[Any, ...]]
    tensors: Mapping[str, Stored]


# Hugging Face's modules of a layer, as GGUF stores them (gguf-py/gguf/tensor_mapping.py).
TOP = {
    "model.embed_tokens": Stored("token_embd"),
    "model.norm": Stored("output_norm"),
    "model.embed_positions": Stored("position_embd"),
    "model.embed_norm": Stored("token_embd_norm"),
    "lm_head": Stored("output"),
}
LAYER = {
    "input_layernorm": Stored("attn_norm"),
    "self_attn.q_proj": Stored("attn_q"),
    "self_attn.k_proj": Stored("attn_k"),
    "self_attn.v_proj": Stored("attn_v"),
    "self_attn.o_proj": Stored("attn_output"),
    "self_attn.q_norm": Stored("attn_q_norm"),
    "self_attn.k_norm": Stored("attn_k_norm"),
    "post_attention_layernorm": Stored("ffn_norm"),
    "mlp.gate_proj": Stored("ffn_gate"),
    "mlp.up_proj": Stored("ffn_up"),
    "mlp.down_proj": Stored("ffn_down"),
}
# LlamaModel.permute of convert_hf_to_gguf.py.
PAIRED = LAYER | {
    "self_attn.q_proj": Stored("attn_q", heads="num_heads"),
    "self_attn.k_proj": Stored("attn_k", heads="num_kv_heads"),
}


# Traits of the layers that came with GPT-2: layer norms, biases, an MLP of GELU without a gate.
GPT_TRAITS: dict[str, Any] = {
    "norm": "layer",
    "norm_bias": True,
    "attention_bias": True,
    "output_bias": True,
    "mlp_bias": True,
    "gated": False,
    "activation": "gelu_tanh",
}

# Of families that llama.cpp gives q, k and v as one tensor, and an MLP without a gate.


def joined(stored: Stored) -> dict[str, Stored]:
    """Return q, k and v as parts of one tensor."""
    return {f"self_attn.{part}_proj": stored for part in "qkv"}


FUSED = LAYER | joined(Stored("attn_qkv"))


def one_key(key: str) -> Callable[[Values], dict[str, object]]:
    """Return what states the number of keys, `key`, of a config.json that has `multi_query`."""
    return lambda data: {**data, key: 1 if data.get("multi_query", True) else None}


def of_width(factor: int) -> Callable[[Values], int | None]:
    """Return a default of config.json that is a multiple of `hidden_size`."""

    def default(data: Values) -> int | None:
        width = data.get("hidden_size")
        return factor * width if type(width) is int else None

    return default


def _nothing(values: Values) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        name: `DecoderConfig.architecture`.
        title: the models that people know it by, for messages and pages.
        model_types: `model_type` of config.json; the first is written.
        hf_class: `architectures[0]` of config.json.
        gguf: `general.architecture`, if it is not `name`.
        spellings: other classes of transformers with the same layers, by `model_type`.
        window: which layers look through `sliding_window`; "some": all but every n-th.
        period: n, if the files do not say it.
        local_theta: rotary base of these layers, if the files do not say it; None: `rope_theta`.
        biases: whether config.json can ask for biases (`attention_bias`, `mlp_bias`).
        alpha: whether `rope_scaling` may be "dynamic" with an alpha, which only changes the base.
        activation: the key in config.json that names the activation; "" if none does.
        activations: the values of this key that are accepted, the one that is written first;
            empty: the usual name.
        partial: whether `partial_rotary_factor` may say that some channels of a head rotate.
        plain_yarn: whether YaRN does not multiply q and k (`mscale` and `mscale_all_dim` are 1).
        longrope: whether `rope_scaling` may be "longrope".
        llama3: whether it may be "llama3"; of other families llama.cpp takes no such factors.
        turns_to_tanh: config.json may ask for GELU by erf, which llama.cpp computes by tanh.
        json: names of config.json that are not the usual ones, by the usual name; the first is
            written.
        tensors: GGUF's tensors of a layer, by the model's module.
        top: GGUF's other tensors.
        hf: the places of modules in a Hugging Face folder that are not the model's own names.
        hf_layers: the prefix of layers there.
        mixers: values of config.json's `layer_types` for layers without attention, by
            `DecoderConfig.mixer`.
        mixer_period: of how many layers the last has attention, if a GGUF does not say it.
        written: returns keys that are written to GGUF, from the sizes. In a file that is read, a
            number must have this value.
        respelled: returns a config.json in which values that the class computes are stated.
        idle: keys of config.json that change nothing, besides those of all families.
        keyed: a layer's tensors of one number, and the GGUF keys that hold those of all layers.
        traits: arguments of DecoderConfig in addition to the sizes.
        derive: returns more such arguments, from the sizes.
        fields: numbers in addition to the sizes.
        flags: traits that files switch on and off.
        defaults: values that transformers uses if config.json does not set them, or functions that
            return them from the other values.
        stated: returns keys that are written to config.json, from the sizes. In a config.json that
            is read they are absent or have this value; another is refused.
        neutral: GGUF keys, and their values with which llama.cpp computes as m2m does. No value:
            the key must be absent.
        pico: traits and sizes of the small model that the tests make.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    hf_class: str
    gguf: str = ""
    spellings: Mapping[str, Spelling] = field(default_factory=dict)
    window: Literal["none", "all", "some"] = "none"
    period: int = 6  # Gemma 3 (gemma3.cpp, Gemma3TextConfig)
    local_theta: float | None = 10000.0
    biases: bool = False
    alpha: bool = False
    activation: str = "hidden_act"
    activations: tuple[str, ...] = ()
    partial: bool = False
    plain_yarn: bool = False
    longrope: bool = False
    llama3: bool = False
    turns_to_tanh: bool = False
    json: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tensors: Mapping[str, Stored] = field(default_factory=lambda: LAYER)
    top: Mapping[str, Stored] = field(default_factory=lambda: TOP)
    hf: Mapping[str, Stored] = field(default_factory=dict)
    hf_layers: str = "model.layers"
    mixers: Mapping[str, str] = field(default_factory=dict)
    mixer_period: int = 0
    written: Callable[[Values], dict[str, Any]] = _nothing
    respelled: Callable[[Values], dict[str, Any]] = dict
    idle: frozenset[str] = frozenset()
    keyed: Mapping[str, str] = field(default_factory=dict)
    traits: Values = field(default_factory=dict)
    derive: Callable[[Values], dict[str, Any]] = _nothing
    fields: tuple[Field, ...] = ()
    flags: tuple[Flag, ...] = ()
    defaults: Values = field(default_factory=dict)
    stated: Callable[[Values], dict[str, Any]] = _nothing
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    pico: Values = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Return `general.architecture` in GGUF."""
        return self.gguf or self.name

    @property
    def epsilon(self) -> str:
        """Return the key in GGUF with the epsilon of the norms, after the architecture."""
        layer = self.traits.get("norm") == "layer"
        return f"attention.layer_norm_{'' if layer else 'rms_'}epsilon"

    @property
    def keys(self) -> frozenset[str]:
        """Return the keys in GGUF, after the architecture, that only this family computes with."""
        flags = {flag.gguf for flag in self.flags if flag.gguf}
        rope = {"rope.scaling.attn_factor"} if self.longrope else set()
        rope |= {"rope.scaling.yarn_log_multiplier"} if self.plain_yarn else set()
        mixers = {"attention.recurrent_layers", "full_attention_interval"}
        rope |= mixers if self.mixer_period else set()
        rope |= {"ssm.inner_size", "rope.dimension_sections"} if self.mixer_period else set()
        return frozenset({self.epsilon, *flags, *rope, *(own.gguf for own in self.fields)})
