"""ggml's tensor types: sizes, and bytes <-> float32.

The one place that uses the `gguf` package; m2m.llamacpp.quantize is the other direction for
types that need a quantiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf import quants as _quants
from numpy.typing import NDArray

from m2m.formats.half import bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16

__all__ = ["GGMLQuantizationType", "GGUFValueType", "dequantize", "encode", "nbytes_of"]

_DEQUANTIZED_AT_ONCE = 1 << 20  # values; bounds the temporaries of one step to a few MB


def nbytes_of(shape: Sequence[int], type: GGMLQuantizationType) -> int:
    """Bytes of a tensor; ValueError where its rows are no multiple of the type's block."""
    block, block_bytes = GGML_QUANT_SIZES[type]
    columns = shape[-1] if shape else 1
    if columns % block:
        raise ValueError(f"rows of {columns} values, {type.name} needs a multiple of {block}")
    return math.prod(shape) // block * block_bytes


def dequantize(
    raw: NDArray[np.uint8], type: GGMLQuantizationType, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Turn the bytes of a tensor into a new float32 array of `shape`, a few rows at a time.

    Raises:
        NotImplementedError: for a type that the gguf package cannot read.
    """
    out = np.empty(shape, np.float32)
    rows = out.reshape(-1, shape[-1] if shape else 1)
    packed = raw.reshape(rows.shape[0], -1)
    step = max(1, _DEQUANTIZED_AT_ONCE // max(1, rows.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged file's scales may be anything
        for start in range(0, rows.shape[0], step):
            rows[start : start + step] = _decoded(packed[start : start + step], type)
    return out


def _decoded(packed: NDArray[np.uint8], type: GGMLQuantizationType) -> NDArray[np.float32]:
    packed = np.ascontiguousarray(packed)
    if type == GGMLQuantizationType.F32:
        return packed.view("<f4")
    if type == GGMLQuantizationType.F16:
        return f16_to_f32(packed.view("<f2"))
    if type == GGMLQuantizationType.BF16:
        return bf16_to_f32(packed.view("<u2"))
    decoded: NDArray[np.float32] = _quants.dequantize(packed, type)
    return decoded


def encode(array: NDArray[np.float32], type: GGMLQuantizationType) -> NDArray[np.uint8]:
    """Bytes of a float32 array as F32, F16 or BF16 (flat); other types: m2m.llamacpp.quantize."""
    flat: NDArray[Any] = np.ascontiguousarray(array, np.float32).reshape(-1)
    if type == GGMLQuantizationType.F16:
        flat = f32_to_f16(flat)
    elif type == GGMLQuantizationType.BF16:
        flat = f32_to_bf16(flat)
    elif type != GGMLQuantizationType.F32:
        raise ValueError(f"{type.name} needs a quantiser")
    return flat.view(np.uint8)
