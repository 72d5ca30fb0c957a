"""NumPy's matrix products in one thread, where other threads have the cores.

A merge makes hundreds of small products while quantising threads run. OpenBLAS's own threads then
wait for each other's turns: on two busy cores a mixture's products took 4.3 s instead of 0.3 s.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_FOLDERS = (
    "../numpy.libs",
    ".dylibs",
)  # where wheels for Linux and Windows, and for macOS, have it
_PREFIXES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, a matrix product stays in the thread that asks for it; no effect without OpenBLAS."""
    found = _switches()
    if found is None:
        yield
        return
    get, set_ = found
    before = get()
    set_(1)
    try:
        yield
    finally:
        set_(before)


@functools.cache
def _switches() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's getter and setter of its number of threads, in the library that NumPy loaded."""
    home = Path(np.__file__).parent
    for path in (p for folder in _FOLDERS for p in (home / folder).glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path.resolve()))
        except OSError:
            continue
        for prefix in _PREFIXES:
            # int openblas_get_num_threads(void);
            get = getattr(library, prefix.format("get_num_threads"), None)
            # void openblas_set_num_threads(int num_threads);
            set_ = getattr(library, prefix.format("set_num_threads"), None)
            if get is not None and set_ is not None:
                get.restype, get.argtypes = ctypes.c_int, []
                set_.restype, set_.argtypes = None, [ctypes.c_int]
                return get, set_
    return None
