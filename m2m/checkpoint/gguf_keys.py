"""The keys of a GGUF file that llama.cpp reads, and which of their values m2m can follow.

llama.cpp reads more keys than m2m. If a key changed llama.cpp's computation but not m2m's training,
every score would be wrong, so m2m refuses such a value. tests/checkpoint/test_gguf_keys.py
finds the keys that the installed llama.cpp reads, and sets each to odd values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from m2m.errors import InputError, Problems
from m2m.families import Family
from m2m.formats.gguf import GGUFValue

# After the architecture's name. m2m computes with these: m2m.checkpoint.gguf_config.
COMPUTED = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.scale_linear",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.type",
    }
)
# llama.cpp computes as m2m does only with one of these values, or without the key.
NEUTRAL: Mapping[str, Collection[Any]] = {
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_group_count": (0,),
    "expert_group_used_count": (0,),
    "expert_used_count": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "nextn_predict_layers": (0,),
    "rope.scaling.attn_factor": (1,),
}
# These must be head_dim.
HEADS = frozenset(
    {"attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"}
)
# These change names, pooled embeddings and scalings of other kinds than m2m imports.
HARMLESS = frozenset(
    {
        "classifier.output_labels",
        "classifier.pooling_type",
        "embedding_length_out",
        "pooling_type",
        "rope.scaling.alpha",
        "rope.scaling.finetuned",
        "vocab_size",
    }
)
# Lists that must be empty: tokens that llama.cpp never samples, tensors that it changes.
EMPTY = ("tokenizer.ggml.suppress_tokens", "general.tensor_extra.name")
_ADDED = {"tokenizer.ggml.add_eos_token": "eos", "tokenizer.ggml.add_sep_token": "sep"}
_HINT = "use another GGUF of this model, or its Hugging Face folder"


def refuse_keys(where: str, get: Callable[[str], Any], head_dim: int, family: Family) -> None:
    """Raise if a key makes llama.cpp compute, cut or stop in another way than m2m.

    Args:
        where: the file, for errors.
        get: returns the value of a key, or None.
        head_dim: `DecoderConfig.head_dim` of the model.
        family: the model's family.

    Raises:
        InputError: one or more such keys; the message lists all.
    """
    problems = Problems()
    neutral = {**NEUTRAL, **dict.fromkeys(HEADS, (head_dim,)), **family.neutral}
    for key, values in neutral.items():
        if key in family.keys:
            continue
        value = get(f"{family.architecture}.{key}")
        if value is not None and value not in values:
            expected = " or ".join(map(str, values)) or "no such key"
            problems.add(f"{key} is {value!r:.60}, m2m computes models with {expected} only")
    for key in EMPTY:
        if get(key):
            problems.add(f"{key} is {get(key)!r:.60}, which m2m does not follow")
    pre, tokens = get("tokenizer.ggml.pre"), get("tokenizer.ggml.tokens")
    if "jina-v2" in str(pre) and isinstance(tokens, list) and "<mask>" in tokens:
        problems.add(f"tokenizer.ggml.pre is {pre!r:.60}, which m2m does not follow")
    problems.raise_if_any(InputError, where, _HINT)


def unknown_keys(metadata: Mapping[str, GGUFValue], family: Family) -> list[str]:
    """Return a warning that names the keys of the architecture that m2m does not know, or none."""
    prefix = f"{family.architecture}."
    known = COMPUTED | NEUTRAL.keys() | HEADS | HARMLESS | family.neutral.keys()
    known |= family.keys | {"m2m.original_context_length"}
    stated = {key.removeprefix(prefix) for key in metadata if key.startswith(prefix)}
    if not (unknown := sorted(stated - known)):
        return []
    return [
        f"The file has keys that m2m does not know: {', '.join(unknown):.300}. This llama.cpp does "
        "not read them either; another program may compute with them."
    ]


def quiet_keys(metadata: Mapping[str, GGUFValue]) -> tuple[dict[str, GGUFValue], list[str]]:
    """Return keys that keep llama.cpp's programs from adding tokens after a prompt.

    A model that sees an end token after a prompt answers as if the text were over. m2m never adds
    one there, so base.gguf must say so.

    Returns:
        key-values to add or replace, and a sentence about each that had another value.
    """
    kind = metadata.get("tokenizer.ggml.model")
    keys: dict[str, GGUFValue] = {}
    warnings: list[str] = []
    for key, role in _ADDED.items():
        stated = metadata.get(key)
        if stated is None and not (role == "eos" and kind is not None and kind.value == "t5"):
            continue  # only unigram adds an end token without such a key
        keys[key] = GGUFValue.boolean(False)
        if stated is None or stated.value:
            warnings.append(
                f"The vocabulary asks for the {role} token after each text ({key}). m2m does not "
                "put it after prompts, and wrote false, so that llama.cpp's programs do not either."
            )
    return keys, warnings
