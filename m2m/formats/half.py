"""16-bit floats <-> float32: IEEE half precision (F16) and bfloat16 (BF16, the upper half of F32).

Results have the shape of the argument. BF16 is in uint16 arrays because NumPy has no such type.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F32
from m2m.kernels.float16 import widen


def f16_to_f32(array: NDArray[np.float16]) -> F32:
    """Widen F16 exactly."""
    out = np.empty(array.shape, np.float32)
    widen(array, out)
    return out


def f32_to_f16(array: F32) -> NDArray[np.float16]:
    """Round to F16, ties to even; too large values become infinite (see `overflows_f16`)."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16)


def overflows_f16(array: F32) -> bool:
    """Return whether a finite value would become infinite in F16 (65520 and above)."""
    if array.size == 0:
        return False
    return bool(max(array.max(), -array.min()) >= 65520.0)


def f32_to_bf16(array: F32) -> NDArray[np.uint16]:
    """Round to BF16, ties to even; a NaN stays a NaN (ggml_compute_fp32_to_bf16, ggml-impl.h)."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet_nan = (bits >> 16) | 64
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet_nan, rounded).astype(np.uint16)


def bf16_to_f32(bits: NDArray[np.uint16]) -> F32:
    """Widen BF16 exactly."""
    out = np.empty(bits.shape, np.uint32)
    np.left_shift(bits, 16, out=out, dtype=np.uint32)  # without another copy
    return out.view(np.float32)
