"""Finds ggml's libraries without importing llama-cpp-python.

Importing the package takes longer than most of what its loops are wanted for.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path

# The library brings OpenMP with it, which reads this once, when it is loaded: threads that wait
# busily starve others on a shared machine (with a passive wait two went from 69 to 491 tokens/s).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

INSTALL_HINT = (
    "install the version that m2m was tested with: `pip install llama-cpp-python==0.3.36`"
)
_NAMES = ("lib{}.so", "lib{}.dylib", "{}.dll")


@functools.cache
def _path(name: str) -> Path | None:
    package = importlib.util.find_spec("llama_cpp")
    for place in (package and package.submodule_search_locations) or ():
        for pattern in _NAMES:
            if (found := Path(place) / "lib" / pattern.format(name)).is_file():
                return found
    return None


def load(name: str = "ggml-cpu", kind: type[ctypes.CDLL] = ctypes.CDLL) -> ctypes.CDLL | None:
    """A library of ggml's; None where llama-cpp-python is not installed as it usually is.

    kind: CDLL lets other threads of Python run meanwhile; PyDLL is quicker for what takes no time.
    """
    if (place := _path(name)) is None:
        return None
    try:
        library = kind(str(place))
        if name == "ggml-cpu":
            library.ggml_cpu_init()  # tables for processors that lack an instruction
    except (OSError, AttributeError):
        return None
    return library
