"""Convert tensors between Hugging Face and llama.cpp, by the rules of the family's own module.

Code outside this module does not know the difference.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.families import FAMILIES
from m2m.nn.config import DecoderConfig

ROPE_FACTORS = "rope_freqs.weight"  # in GGUF; config.json holds the settings that give it

_HF = re.compile(r"(model\.layers\.(?P<layer>\d+)\.)?(?P<module>[\w.]+)\.(?P<kind>weight|bias)")
_GGUF = re.compile(r"(blk\.(?P<layer>\d+)\.)?(?P<module>\w+)\.(?P<kind>weight|bias)")


def hf_to_gguf_name(name: str, config: DecoderConfig) -> str:
    """Return the GGUF name: "model.layers.0.self_attn.q_proj.weight" is "blk.0.attn_q.weight".

    Raises:
        InputError: llama.cpp has no such tensor.
    """
    family = FAMILIES[config.architecture]
    top = {module: stored.name for module, stored in family.top.items()}
    block = {module: stored.name for module, stored in family.tensors.items()}
    return _renamed(name, _HF, "blk", top, block)


def gguf_to_hf_name(name: str, config: DecoderConfig) -> str:
    """Return the HF name: "blk.0.attn_q.weight" is "model.layers.0.self_attn.q_proj.weight".

    Raises:
        InputError: Hugging Face's models have no such tensor.
    """
    family = FAMILIES[config.architecture]
    top = {stored.name: module for module, stored in family.top.items()}
    block = {stored.name: module for module, stored in family.tensors.items()}
    return _renamed(name, _GGUF, "model.layers", top, block)


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
    stored = FAMILIES[config.architecture].module(name)
    return stored.shift if stored else 0.0


def to_gguf_rows(config: DecoderConfig, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Put the rows of a tensor into llama.cpp's order.

    Args:
        config: the model's sizes and architecture.
        name: the tensor's HF name.
        array: (rows, ...); a weight, a bias or a LoRA's B.

    Returns:
        a new array for q and k of families that llama.cpp rotates in pairs, else `array` itself.
    """
    heads = _paired_heads(config, name)
    return _swapped(array, heads, 2, array.shape[0] // heads // 2) if heads else array


def from_gguf_rows(config: DecoderConfig, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Put the rows of a tensor into Hugging Face's order (inverse of `to_gguf_rows`)."""
    heads = _paired_heads(config, name)
    return _swapped(array, heads, array.shape[0] // heads // 2, 2) if heads else array


def _paired_heads(config: DecoderConfig, name: str) -> int:
    stored = FAMILIES[config.architecture].module(name)
    return int(getattr(config, stored.heads)) if stored and stored.heads else 0


def _swapped(array: NDArray[Any], heads: int, outer: int, inner: int) -> NDArray[Any]:
    split = array.reshape(heads, outer, inner, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(array.shape)
