"""The model families that m2m knows, and the names of their sizes in config.json and GGUF.

A new family is one row of FAMILIES; the differences of its layers are traits of DecoderConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from m2m.errors import InputError, Problems
from m2m.nn.config import DecoderConfig


@dataclass(frozen=True)
class Family:
    """One model family: a row of FAMILIES.

    Attributes:
        name: `DecoderConfig.architecture`.
        model_types: `model_type` of config.json; the first is written.
        hf_class: `architectures[0]` of config.json.
        gguf: `general.architecture`, if it is not `name`.
        window: which layers look through `sliding_window`; "some": all but every n-th.
        scaled_embeddings: embeddings are multiplied by the square root of their width.
        traits: arguments of DecoderConfig in addition to the sizes.
        defaults: values that transformers uses if config.json does not set them.
    """

    name: str
    model_types: tuple[str, ...]
    hf_class: str
    gguf: str = ""
    window: Literal["none", "all", "some"] = "none"
    scaled_embeddings: bool = False
    traits: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Return `general.architecture` in GGUF."""
        return self.gguf or self.name


# Add a family only after nn.decoder computes its traits: tests compare each with llama.cpp and
# transformers. llama.cpp knows Mistral as "llama" and does not apply its window.
FAMILIES = {
    family.name: family
    for family in (
        Family("llama", ("llama",), "LlamaForCausalLM"),
        Family(
            "mistral",
            ("mistral",),
            "MistralForCausalLM",
            gguf="llama",
            window="all",
            defaults={"sliding_window": 4096},  # MistralConfig
        ),
        Family("qwen2", ("qwen2",), "Qwen2ForCausalLM", traits={"attention_bias": True}),
        Family("qwen3", ("qwen3",), "Qwen3ForCausalLM", traits={"qk_norm": True}),
        Family(
            "gemma3",
            ("gemma3_text", "gemma3"),
            "Gemma3ForCausalLM",
            window="some",
            scaled_embeddings=True,
            traits={
                "activation": "gelu_tanh",
                "qk_norm": True,
                "post_norms": True,
                "norm_offset": 1.0,
            },
            defaults={  # Gemma3TextConfig; the files of the larger models rely on them
                "vocab_size": 262208,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "max_position_embeddings": 131072,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1e6,
                "query_pre_attn_scalar": 256,
                "tie_word_embeddings": True,
            },
        ),
    )
}

# Names of a model's sizes: in DecoderConfig, in config.json, in GGUF after the architecture.
SIZES = (
    ("hidden_size", "hidden_size", "embedding_length"),
    ("intermediate_size", "intermediate_size", "feed_forward_length"),
    ("num_layers", "num_hidden_layers", "block_count"),
    ("num_heads", "num_attention_heads", "attention.head_count"),
    ("num_kv_heads", "num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "head_dim", "attention.key_length"),
    ("max_position_embeddings", "max_position_embeddings", "context_length"),
)
JSON, GGUF = 1, 2  # columns of SIZES
PERIOD = 6  # every 6th layer is global if the file does not say (gemma3.cpp, Gemma3TextConfig)
LOCAL_THETA = 10000.0  # rotary base of local layers if the file does not say
_LIMIT = (1 << 31) - 1  # llama.cpp counts in int32
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS, llama-hparams.h; llama.cpp aborts above it
_LAYERS_27B = 62


def family_of(name: Any, table: Mapping[str, Family], field: str) -> Family:
    """Return the family `name`; raise InputError that lists the known ones if there is none."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise InputError(
        f"{field} is {name!r}, which m2m does not compute", f"it knows: {', '.join(sorted(table))}"
    )


def local_layers(layers: int, period: int) -> tuple[bool, ...]:
    """Return one flag a layer: all but every `period`-th are local (0: all of them)."""
    return tuple(period == 0 or (layer + 1) % period != 0 for layer in range(layers))


def period_of(flags: tuple[bool, ...]) -> int | None:
    """Return the period that gives these flags (inverse of `local_layers`); None if none does."""
    period = flags.index(False) + 1 if False in flags else 0
    return period if flags == local_layers(len(flags), period) else None


@dataclass
class Keys:
    """Look up values of given types; collect every missing or impossible value as a problem."""

    get: Callable[[str], Any]
    problems: Problems

    def size(self, key: str, *, default: int | None = None, at_most: int = _LIMIT) -> int:
        """Return a whole number from 1 to `at_most`; 1 after a problem, to check the rest too."""
        value = self.get(key)
        value = default if value is None else value
        if type(value) is int and 1 <= value <= at_most:
            return value
        self.problems.add(f"{key} is {value!r}, expected a whole number from 1 to {at_most}")
        return 1

    def number(self, key: str, *, default: float | None = None) -> float:
        """Return a positive finite number; a stored float32 is read as its shortest decimal."""
        value: Any = self.get(key)
        value = default if value is None else value
        if type(value) in (int, float) and 0 < value < 3e38:
            return float(str(np.float32(value)))
        self.problems.add(f"{key} is {value!r}, expected a positive number")
        return 1.0

    def sizes(self, column: int) -> dict[str, int]:
        """Return all SIZES, by their names in DecoderConfig."""
        by_name: dict[str, int] = {}
        for row in SIZES:
            name, most = row[0], _MOST_LAYERS if row[0] == "num_layers" else _LIMIT
            default = None
            if name == "num_kv_heads":
                default = by_name["num_heads"]
            elif name == "head_dim":
                default = by_name["hidden_size"] // by_name["num_heads"]
            by_name[name] = self.size(row[column], default=default, at_most=most)
        return by_name


def query_width(architecture: str, sizes: Mapping[str, int]) -> int:
    """Return the width by whose square root q k' is divided.

    It is head_dim. Only Gemma 3 27B has hidden_size // num_heads; llama.cpp recognises that model
    by its 62 layers (src/models/gemma3.cpp, f_attention_scale).
    """
    if architecture == "gemma3" and sizes["num_layers"] == _LAYERS_27B:
        return sizes["hidden_size"] // sizes["num_heads"]
    return sizes["head_dim"]


def build_config(
    where: str, family: Family, problems: Problems, values: Mapping[str, Any]
) -> DecoderConfig:
    """Return the config: the values of a file together with the family's traits.

    Raises:
        InputError: `problems` is not empty, or the sizes do not fit one another.
    """
    if (flags := values.get("layer_is_local")) and True not in flags:
        problems.add("no layer looks through the sliding window, which llama.cpp cannot compute")
    problems.raise_if_any(InputError, where)
    derived = {"embedding_scale": values["hidden_size"] ** 0.5} if family.scaled_embeddings else {}
    if (width := query_width(family.name, values)) != values["head_dim"]:
        derived["query_scale"] = width**-0.5
    try:
        return DecoderConfig(architecture=family.name, **family.traits, **derived, **values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
