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
    """One tensor in GGUF, and how its values differ from those of Hugging Face's tensor.

    Attributes:
        name: its name in GGUF, without "blk.N." and without ".weight".
        heads: the attribute of DecoderConfig with the number of heads, if llama.cpp rotates
            neighbouring rows and Hugging Face rows half a head apart; else "".
        shift: number that GGUF adds to the values (Gemma's norms: 1).
    """

    name: str
    heads: Literal["", "num_heads", "num_kv_heads"] = ""
    shift: float = 0.0


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
    """

    name: str
    json: str
    gguf: str
    default: float | None = None
    missing: Callable[[Values], float] | None = None
    read: Callable[[float, Values], float] | None = None
    write: Callable[[float, Values], float] | None = None


@dataclass(frozen=True)
class Spelling:
    """Another class of transformers that computes a family's layers, under other names.

    A folder of this class is imported as one of the family.

    Attributes:
        sizes: keys of its config.json, and the family's keys that have their values.
        needed: keys, and the values with which it computes what the family does.
        modules: its modules of a layer, and the family's modules that are their rows, in order
            and of equal size.
    """

    sizes: Mapping[str, str]
    needed: Mapping[str, tuple[Any, ...]]
    modules: Mapping[str, tuple[str, ...]]


# Hugging Face's modules of a layer, as GGUF stores them (gguf-py/gguf/tensor_mapping.py).
TOP = {
    "model.embed_tokens": Stored("token_embd"),
    "model.norm": Stored("output_norm"),
    "model.rotary_emb": Stored("rope_freqs"),  # transformers computes it and stores no such tensor
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
        biases: whether config.json can ask for biases (`attention_bias`, `mlp_bias`).
        alpha: whether `rope_scaling` may be "dynamic" with an alpha, which only changes the base.
        activation: the key in config.json that names the activation.
        tensors: GGUF's tensors of a layer, by Hugging Face's module.
        top: GGUF's other tensors.
        traits: arguments of DecoderConfig in addition to the sizes.
        derive: returns more such arguments, from the sizes.
        fields: numbers in addition to the sizes.
        defaults: values that transformers uses if config.json does not set them.
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
    biases: bool = False
    alpha: bool = False
    activation: str = "hidden_act"
    tensors: Mapping[str, Stored] = field(default_factory=lambda: LAYER)
    top: Mapping[str, Stored] = field(default_factory=lambda: TOP)
    traits: Values = field(default_factory=dict)
    derive: Callable[[Values], dict[str, Any]] = _nothing
    fields: tuple[Field, ...] = ()
    defaults: Values = field(default_factory=dict)
    stated: Callable[[Values], dict[str, Any]] = _nothing
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    pico: Values = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Return `general.architecture` in GGUF."""
        return self.gguf or self.name

    def module(self, name: str) -> Stored | None:
        """Return the place of a tensor in GGUF, by its Hugging Face name; None if it has none."""
        module = name.removesuffix(".weight").removesuffix(".bias")
        if module.startswith("model.layers."):
            return self.tensors.get(module.split(".", 3)[-1])
        return self.top.get(module)
