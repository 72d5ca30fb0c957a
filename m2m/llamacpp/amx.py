"""Know a llama.cpp whose AMX code ends its process.

GCC before 11.5, 12.4 and 13.3 takes most of the configuration of AMX's tiles for unused and drops
it (GCC bug 114098: `_tile_loadconfig` says that it reads 8 bytes, and it reads 64). llama.cpp's
next AMX instruction is then illegal. Debian 12 and Ubuntu 22.04 have such compilers. llama.cpp uses
AMX in one of its faster layouts of weights only, so a model without them runs.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from m2m.kernels.library import library_path
from m2m.opening import read_bytes

# In the section .comment of an ELF file.
_COMPILER = re.compile(rb"GCC: \([^()]{1,99}\) (\d{1,3})\.(\d{1,3})")
_MENDED = {11: 5, 12: 4, 13: 3}  # minor version of each major one that first had the correction


@functools.cache
def amx_ends_the_process(build: str) -> bool:
    """Return whether the installed llama.cpp has AMX code that such a GCC has compiled.

    Args:
        build: its description, from `build_info`.
    """
    place = library_path("ggml-cpu")
    return "AMX_INT8" in build and place is not None and dropped_tiles(place)


def dropped_tiles(library: Path) -> bool:
    """Return whether a library's newest compiler is such a GCC; the C library has its own."""
    found = _COMPILER.findall(read_bytes(library))
    newest = max(((int(major), int(minor)) for major, minor in found), default=(0, 0))
    return newest[0] in _MENDED and newest[1] < _MENDED[newest[0]]
