"""float16 to float32 at the speed of memory.

NumPy widens float16 a value at a time: 1.6 ns each, against 0.08 by the loop that llama-cpp-python
compiled for this machine's vectors (`ggml_cpu_fp16_to_fp32`, ggml-cpu.h). Both are exact. The loop
is found without importing that package, which takes longer than most casts.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Callable
from ctypes import c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The library brings OpenMP with it, which reads this once, when it is loaded: threads that wait
# busily starve others on a shared machine (with a passive wait two went from 69 to 491 tokens/s).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_NAMES = ("libggml-cpu.so", "libggml-cpu.dylib", "ggml-cpu.dll")
_WORTH_A_CALL = 256  # values


def widen(source: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Write float16 values into an array of the same shape.

    The loop is used where both are contiguous; it lets other threads of Python run meanwhile.

    Raises:
        ValueError: the shapes differ.
    """
    if source.shape != out.shape:
        raise ValueError(f"cannot widen {source.shape} into {out.shape}")
    loop = _loop() if source.size >= _WORTH_A_CALL else None
    if loop and source.flags.c_contiguous and out.flags.c_contiguous:
        loop(source.ctypes.data, out.ctypes.data, source.size)
    else:
        np.copyto(out, source)


@functools.cache
def _loop() -> Callable[[int, int, int], None] | None:
    """ggml's loop; None where llama-cpp-python is not installed as it usually is."""
    package = importlib.util.find_spec("llama_cpp")
    for place in (package and package.submodule_search_locations) or ():
        for path in (Path(place) / "lib" / name for name in _NAMES):
            try:
                library: Any = ctypes.CDLL(str(path))
                # void ggml_cpu_init(void);  -- tables for processors without such an instruction
                library.ggml_cpu_init()
                # void ggml_cpu_fp16_to_fp32(const ggml_fp16_t *, float *, int64_t);
                found = library.ggml_cpu_fp16_to_fp32
            except (OSError, AttributeError):
                continue
            found.restype, found.argtypes = None, [c_void_p, c_void_p, c_int64]
            return found  # type: ignore[no-any-return]
    return None
