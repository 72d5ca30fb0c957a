"""What computes here: the loops of ggml and NumPy, and OpenBLAS's kernels; and what a level allows.

`scripts/test-cpus` runs the tests at these levels, each that of many processors in use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

_EVERYWHERE = {"SSE3", "SSSE3", "LLAMAFILE", "OPENMP", "REPACK"}  # says nothing of the level


@dataclass(frozen=True)
class Computing:
    """Features of the processor that are used, above SSE 4.2.

    Attributes:
        ggml: as llama.cpp prints them.
        numpy: NumPy's own names of groups of them.
        blas: the processor whose kernels OpenBLAS uses; "?" with another BLAS.
    """

    ggml: Set[str]
    numpy: Set[str]
    blas: str

    def __str__(self) -> str:
        parts = ("llama.cpp", self.ggml), ("NumPy", self.numpy), ("OpenBLAS", {self.blas})
        return ", ".join(f"{name}: {' '.join(sorted(some)) or 'SSE'}" for name, some in parts)


LEVELS = {
    "avx2": Computing({"AVX", "AVX2", "FMA", "F16C", "BMI2"}, {"X86_V3"}, "haswell"),
    "avx": Computing({"AVX"}, set(), "sandybridge"),
    "sse": Computing(set(), set(), "nehalem"),
}


def computing() -> Computing:
    """What this process computes with."""
    parts = llama_cpp.llama_print_system_info().decode().split("|")
    ggml = {part.split("=")[0].split(":")[-1].strip() for part in parts if part.endswith("= 1 ")}
    build: Any = np.show_config(mode="dicts")
    return Computing(
        ggml - _EVERYWHERE, set(build.get("SIMD Extensions", {}).get("found", [])), _blas_core()
    )


def _blas_core() -> str:
    for path in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        # char * openblas_get_corename(void);
        name = getattr(ctypes.CDLL(str(path)), "scipy_openblas_get_corename64_", None)
        if name is not None:
            name.restype = ctypes.c_char_p
            return str(name().decode().lower())
    return "?"
