"""The model families that m2m knows, and their sizes in GGUF metadata and in config.json.

A new family is one row of FAMILIES; what its layers do differently are traits of DecoderConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import InputError, Problems
from m2m.formats.gguf import GGUFFile
from m2m.formats.records import read_object
from m2m.nn.config import DecoderConfig


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        architecture: `general.architecture` in GGUF, `DecoderConfig.architecture` here.
        model_type: `model_type` of config.json.
        hf_class: `architectures[0]` of config.json.
        traits: what DecoderConfig is told beside the sizes.
    """

    architecture: str
    model_type: str
    hf_class: str
    traits: Mapping[str, Any] = field(default_factory=dict)


# A family is listed once nn.decoder computes its traits: a test compares each with llama.cpp.
# Mistral's GGUF files call themselves "llama" and are Llama in all that m2m computes.
FAMILIES = {
    family.architecture: family for family in (Family("llama", "llama", "LlamaForCausalLM"),)
}
_BY_MODEL_TYPE = {family.model_type: family for family in FAMILIES.values()}
_LIMIT = 1 << 31  # no size of a model that fits any machine comes near it


def config_from_gguf(file: GGUFFile) -> DecoderConfig:
    """Read the sizes of a model from its GGUF metadata and check its tensors against them.

    Raises:
        InputError: an architecture or trait that m2m does not have, or sizes that do not fit.
    """
    family = _known(file.value("general.architecture"), FAMILIES, f"{file.path}: architecture")
    problems = Problems()
    keys = _Keys(lambda key: file.value(f"{family.architecture}.{key}"), problems)
    _refuse_traits(file, keys)
    embedding = file.tensors.get("token_embd.weight")
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    sizes = {
        "vocab_size": embedding.shape[0] if embedding else 0,
        "hidden_size": hidden,
        "intermediate_size": keys.size("feed_forward_length"),
        "num_layers": keys.size("block_count", at_most=len(file.tensors)),
        "num_heads": heads,
        "num_kv_heads": keys.size("attention.head_count_kv", default=heads),
        "head_dim": keys.size("attention.key_length", default=hidden // max(1, heads)),
        "max_position_embeddings": keys.size("context_length"),
    }
    epsilon = keys.number("attention.layer_norm_rms_epsilon")
    theta = keys.number("rope.freq_base", default=10000.0)  # llama.cpp's own default
    if keys.size("rope.dimension_count", default=sizes["head_dim"]) != sizes["head_dim"]:
        problems.add(f"rope.dimension_count is not head_dim ({sizes['head_dim']})")
    problems.raise_if_any(InputError, f"{file.path}: {family.architecture} metadata")
    tied = "output.weight" not in file.tensors
    return _config(str(file.path), family, sizes, (epsilon, theta), tied)


def _refuse_traits(file: GGUFFile, keys: _Keys) -> None:
    scaling = keys.get("rope.scaling.type")
    if scaling not in (None, "none") or "rope_freqs.weight" in file.tensors:
        keys.problems.add("has scaled rotary frequencies, which m2m does not compute yet")
    if keys.get("expert_count"):
        keys.problems.add("is a mixture of experts, which m2m does not compute")
    if (file.value("split.count") or 1) != 1:
        keys.problems.add("is one part of a split model: join the parts with llama-gguf-split")


def config_from_json(path: Path) -> DecoderConfig:
    """Read the sizes of a model from its config.json.

    Raises:
        InputError: unreadable, of an unknown family, or with sizes missing or out of range.
    """
    data = read_object(path)
    family = _known(data.get("model_type"), _BY_MODEL_TYPE, f"{path}: model_type")
    problems = Problems()
    keys = _Keys(data.get, problems)
    hidden, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    sizes = {
        "vocab_size": keys.size("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": keys.size("intermediate_size"),
        "num_layers": keys.size("num_hidden_layers", at_most=10_000),
        "num_heads": heads,
        "num_kv_heads": keys.size("num_key_value_heads", default=heads),
        "head_dim": keys.size("head_dim", default=hidden // max(1, heads)),
        "max_position_embeddings": keys.size("max_position_embeddings"),
    }
    epsilon = keys.number("rms_norm_eps")
    theta = keys.number("rope_theta", default=10000.0)
    if keys.get("rope_scaling"):
        problems.add("rope_scaling is set, which m2m does not compute yet")
    problems.raise_if_any(InputError, f"{path}")
    tied = bool(data.get("tie_word_embeddings", False))
    return _config(str(path), family, sizes, (epsilon, theta), tied)


def config_to_json(config: DecoderConfig, dtype: str, token_ids: Mapping[str, int]) -> Any:
    """Return the content of config.json as transformers reads it.

    Args:
        config: the sizes.
        dtype: "float16" or "bfloat16".
        token_ids: "bos_token_id" and the like, where the tokenizer has them.
    """
    family = FAMILIES[config.architecture]
    return {
        "architectures": [family.hf_class],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_bias": config.attention_bias,
        "mlp_bias": False,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype,
        **token_ids,
    }


def _config(
    where: str, family: Family, sizes: Mapping[str, Any], reals: tuple[float, float], tied: bool
) -> DecoderConfig:
    try:
        return DecoderConfig(
            architecture=family.architecture,
            rms_norm_eps=reals[0],
            rope_theta=reals[1],
            tie_word_embeddings=tied,
            **sizes,
            **family.traits,
        )
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _known(name: Any, table: Mapping[str, Family], what: str) -> Family:
    if isinstance(name, str) and name in table:
        return table[name]
    raise InputError(
        f"{what} is {name!r}, which m2m does not compute", f"it knows: {', '.join(sorted(table))}"
    )


@dataclass
class _Keys:
    """Typed look-ups that note every missing or impossible value."""

    get: Callable[[str], Any]
    problems: Problems

    def size(self, key: str, *, default: int | None = None, at_most: int = _LIMIT) -> int:
        """A whole number from 1 to `at_most`; 1 after a problem, so that the rest is read too."""
        value = self.get(key)
        value = default if value is None else value
        if type(value) is int and 1 <= value <= at_most:
            return value
        self.problems.add(f"{key} is {value!r}, expected a whole number from 1 to {at_most}")
        return 1

    def number(self, key: str, *, default: float | None = None) -> float:
        """A positive finite number; stored float32 comes back as its shortest decimal."""
        value: Any = self.get(key)
        value = default if value is None else value
        if type(value) in (int, float) and 0 < value < 3e38:
            return float(str(np.float32(value)))
        self.problems.add(f"{key} is {value!r}, expected a positive number")
        return 1.0
