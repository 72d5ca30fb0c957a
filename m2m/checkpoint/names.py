"""Convert tensors between Hugging Face and llama.cpp: names, row order of q and k, Gemma's norms.

Names: gguf-py/gguf/tensor_mapping.py. Row order: LlamaModel.permute of convert_hf_to_gguf.py.
Code outside this module does not know the difference.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.families import FAMILIES
from m2m.errors import InputError
from m2m.nn.config import DecoderConfig

ROPE_FACTORS = "rope_freqs.weight"  # in GGUF; config.json holds the settings that give it

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.rotary_emb": "rope_freqs",  # transformers computes it and stores no such tensor
    "lm_head": "output",
}
_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# With a norm after attention too, "post attention" means that norm, not the MLP's.
_POST_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_HF = re.compile(r"(?:model\.layers\.(?P<layer>\d+)\.)?(?P<module>[\w.]+)\.(?P<kind>weight|bias)")
_GGUF = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<module>\w+)\.(?P<kind>weight|bias)")

# llama.cpp rotates neighbouring rows of these architectures, Hugging Face rows half a head apart.
_PERMUTED = frozenset({"llama"})


def hf_to_gguf_name(name: str, config: DecoderConfig | None = None) -> str:
    """Return the GGUF name: "model.layers.0.self_attn.q_proj.weight" is "blk.0.attn_q.weight".

    Args:
        name: the tensor's HF name.
        config: needed for the norms of a model with `post_norms`.

    Raises:
        InputError: llama.cpp has no such tensor.
    """
    return _renamed(name, _HF, "blk", _TOP, _block(config))


def gguf_to_hf_name(name: str, config: DecoderConfig | None = None) -> str:
    """Return the HF name: "blk.0.attn_q.weight" is "model.layers.0.self_attn.q_proj.weight".

    Args:
        name: the tensor's GGUF name.
        config: needed for `ffn_norm`, which is another norm in a model with `post_norms`.

    Raises:
        InputError: Hugging Face's models have no such tensor.
    """
    block = _inverse(_POST_NORMS) | _inverse(_block(config))
    return _renamed(name, _GGUF, "model.layers", _inverse(_TOP), block)


def _inverse(names: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def _block(config: DecoderConfig | None) -> dict[str, str]:
    return _BLOCK | _POST_NORMS if config is not None and config.post_norms else _BLOCK


def _renamed(
    name: str, pattern: re.Pattern[str], prefix: str, top: dict[str, str], block: dict[str, str]
) -> str:
    match = pattern.fullmatch(name)
    if match:
        layer = match["layer"]
        module = (top if layer is None else block).get(match["module"])
        if module:
            begin = "" if layer is None else f"{prefix}.{layer}."
            return f"{begin}{module}.{match['kind']}"
    raise InputError(f"tensor {name!r} is none that m2m knows")


def norm_shift(config: DecoderConfig, name: str) -> float:
    """Return the number that GGUF adds to an HF tensor: HF's Gemma norms lack 1 (Gemma3RMSNorm)."""
    return config.norm_offset if name.endswith("norm.weight") else 0.0


def to_gguf_rows(config: DecoderConfig, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Put the rows of a tensor into llama.cpp's order.

    Args:
        config: the model's sizes and architecture.
        name: the tensor's HF name.
        array: (rows, ...); a weight, a bias or a LoRA's B.

    Returns:
        a new array for q and k of the llama architecture, `array` itself for all others.
    """
    heads = _permuted_heads(config, name)
    return array if heads is None else _swapped(array, heads, 2, array.shape[0] // heads // 2)


def from_gguf_rows(config: DecoderConfig, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Put the rows of a tensor into Hugging Face's order (inverse of `to_gguf_rows`)."""
    heads = _permuted_heads(config, name)
    return array if heads is None else _swapped(array, heads, array.shape[0] // heads // 2, 2)


def _permuted_heads(config: DecoderConfig, name: str) -> int | None:
    if FAMILIES[config.architecture].architecture not in _PERMUTED:
        return None
    module = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    return {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}.get(module)


def _swapped(array: NDArray[Any], heads: int, outer: int, inner: int) -> NDArray[Any]:
    split = array.reshape(heads, outer, inner, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(array.shape)
