"""Convert float16, and bfloat16 in uint16 arrays, to float32 at the speed of memory.

NumPy converts float16 in 1.6 ns per value. The loop that llama-cpp-python compiled for this
machine's vectors needs 0.08 ns per value. Both are exact.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from ctypes import c_int64, c_void_p

import numpy as np
from numpy.typing import NDArray

from m2m.kernels import library

_WORTH_A_CALL = 256  # fewest values for which the loop is faster


def widen(source: NDArray[np.float16] | NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Write float16 values, or bfloat16 in uint16, into a float32 array of the same shape.

    Uses the loop if both arrays are contiguous; other threads of Python run meanwhile.

    Raises:
        ValueError: the shapes differ.
    """
    if source.shape != out.shape:
        raise ValueError(f"cannot widen {source.shape} into {out.shape}")
    kind = "bf16" if source.dtype == np.uint16 else "fp16"
    loop = _loop(kind) if source.size >= _WORTH_A_CALL else None
    if loop and source.flags.c_contiguous and out.flags.c_contiguous:
        loop(source.ctypes.data, out.ctypes.data, source.size)
    elif kind == "bf16":  # the upper half of a float32
        np.left_shift(source, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, source)


@functools.cache
def _loop(kind: str) -> Callable[[int, int, int], None] | None:
    """Return ggml's loop, or None if there is none.

    void ggml_cpu_fp16_to_fp32(const ggml_fp16_t *, float *, int64_t);  -- ggml-cpu.h
    void ggml_cpu_bf16_to_fp32(const ggml_bf16_t *, float *, int64_t);
    """
    function = getattr(library.load(), f"ggml_cpu_{kind}_to_fp32", None)
    if function is not None:
        function.restype, function.argtypes = None, [c_void_p, c_void_p, c_int64]
    return function
