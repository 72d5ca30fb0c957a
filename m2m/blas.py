"""Run NumPy's matrix products in one thread while other threads use the cores.

OpenBLAS's own threads wait for each other by spinning. If anything else needs a core, that costs
far more than it gains: on two busy cores a mixture's products took 4.3 s instead of 0.3 s, and a
training step next to one busy process took up to fifty times as long as on a quiet machine. So code
with threads of its own limits OpenBLAS to one. Other libraries (Accelerate, MKL) keep their own.
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
)  # the library's folder in wheels for Linux and Windows, and for macOS
_PREFIXES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


class _Held:
    """How many callers need one thread now, and the setting before the first of them."""

    lock = threading.Lock()
    count = 0
    before = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep matrix products in the thread that calls them; no effect without OpenBLAS.

    This holds for the whole process, until the last caller has left the block.
    """
    switches = blas_switches()
    if switches is None:
        yield
        return
    get, set_ = switches
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
    """Return whether `one_blas_thread` has an effect here."""
    return blas_switches() is not None


@functools.cache
def blas_switches() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return OpenBLAS's getter and setter of its number of threads, from NumPy's own library."""
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
