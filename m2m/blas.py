"""NumPy's matrix products in one thread, where other threads have the cores.

OpenBLAS's own threads wait for each other by spinning. Where anything else wants a core that costs
far more than it gains: on two busy cores a mixture's products took 4.3 s instead of 0.3 s, and a
training step beside one busy process up to fifty times as long as on a quiet machine. So whoever
has threads of its own holds OpenBLAS at one. Other libraries (Accelerate, MKL) keep their own.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_FOLDERS = (
    "../numpy.libs",
    ".dylibs",
)  # where wheels for Linux and Windows, and for macOS, have it
_PREFIXES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


class _Held:
    """How many ask for one thread now, and what was set before the first of them."""

    lock = threading.Lock()
    count = 0
    before = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, a matrix product stays in the thread that asks for it; no effect without OpenBLAS.

    It counts for the whole process, until the last of those inside is out again.
    """
    found = _switches()
    if found is None:
        yield
        return
    get, set_ = found
    with _Held.lock:
        if not _Held.count:
            _Held.before = get()
            set_(1)
        _Held.count += 1
    try:
        yield
    finally:
        with _Held.lock:
            _Held.count -= 1
            if not _Held.count:
                set_(_Held.before)


def can_hold_blas() -> bool:
    """Whether `one_blas_thread` has an effect here."""
    return _switches() is not None


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
