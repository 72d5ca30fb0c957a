"""ggml's tensor types: sizes, and bytes <-> float32.

m2m.llamacpp.quantize writes the types that need a quantiser. The names are those of the `gguf`
package. m2m does not use that package: it installs an HTTP client and is slower than ggml.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.formats.half import bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16
from m2m.kernels import blocks


class GGMLQuantizationType(IntEnum):
    """`enum ggml_type` of ggml.h, with the number of values and of bytes in a block of each type.

    The sizes are here so that m2m can read a file's header without llama.cpp's libraries.
    """

    values_per_block: int
    block_bytes: int

    def __new__(cls, number: int, values: int = 0, size: int = 0) -> GGMLQuantizationType:
        """Make a member; `GGMLQuantizationType(number)` returns the existing one."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.values_per_block, member.block_bytes = values, size
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 36
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18


def nbytes_of(shape: Sequence[int], type: GGMLQuantizationType) -> int:
    """Return the bytes of a tensor; ValueError if its rows do not fill blocks of the type."""
    columns = shape[-1] if shape else 1
    if columns % type.values_per_block:
        raise ValueError(
            f"rows of {columns} values, {type.name} needs a multiple of {type.values_per_block}"
        )
    return math.prod(shape) // type.values_per_block * type.block_bytes


def dequantize(
    raw: NDArray[np.uint8], type: GGMLQuantizationType, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Turn the bytes of a tensor into a new float32 array of `shape`.

    Raises:
        NotImplementedError: ggml does not read this type.
        ValueError: the number of bytes does not fit the shape.
    """
    if raw.nbytes != nbytes_of(shape, type):
        raise ValueError(f"{raw.nbytes} bytes are no {type.name} tensor of shape {shape}")
    raw = np.ascontiguousarray(raw)
    if type == GGMLQuantizationType.F32:
        return raw.view("<f4").astype(np.float32).reshape(shape)
    if type == GGMLQuantizationType.F16:
        return f16_to_f32(raw.view("<f2")).reshape(shape)
    if type == GGMLQuantizationType.BF16:
        return bf16_to_f32(raw.view("<u2")).reshape(shape)
    out = np.empty(shape, np.float32)
    blocks.widen(raw, type, out)
    return out


def encode(array: NDArray[np.float32], type: GGMLQuantizationType) -> NDArray[np.uint8]:
    """Return flat bytes of float32 values as F32, F16, BF16; others: m2m.llamacpp.quantize."""
    flat: NDArray[Any] = np.ascontiguousarray(array, np.float32).reshape(-1)
    if type == GGMLQuantizationType.F16:
        flat = f32_to_f16(flat)
    elif type == GGMLQuantizationType.BF16:
        flat = f32_to_bf16(flat)
    elif type != GGMLQuantizationType.F32:
        raise ValueError(f"{type.name} needs a quantiser")
    return flat.view(np.uint8)
