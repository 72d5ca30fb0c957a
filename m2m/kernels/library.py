"""Find ggml's libraries without importing llama-cpp-python.

The import of that package takes longer than most uses of the loops.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path

# The library loads OpenMP, which reads this variable once, at that time. Threads that wait in a
# busy loop slow down others on a shared machine (two went from 69 to 491 tokens/s when passive).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

INSTALL_HINT = (
    "install the version that m2m was tested with: `pip install llama-cpp-python==0.3.36`"
)
_NAMES = ("lib{}.so", "lib{}.dylib", "{}.dll")


@functools.cache
def library_path(name: str) -> Path | None:
    """Return the file of one of ggml's libraries; None if llama-cpp-python has none there."""
    package = importlib.util.find_spec("llama_cpp")
    for place in (package and package.submodule_search_locations) or ():
        for pattern in _NAMES:
            if (path := Path(place) / "lib" / pattern.format(name)).is_file():
                return path
    return None


def load(name: str = "ggml-cpu", kind: type[ctypes.CDLL] = ctypes.CDLL) -> ctypes.CDLL | None:
    """Return one of ggml's libraries; None if llama-cpp-python is not installed in the usual way.

    kind: CDLL lets other threads of Python run during a call; PyDLL is faster for short calls.
    """
    if (place := library_path(name)) is None:
        return None
    try:
        library = kind(str(place))
        if name == "ggml-cpu":
            library.ggml_cpu_init()  # fills tables for processors that lack an instruction
    except (OSError, AttributeError):
        return None
    return library
