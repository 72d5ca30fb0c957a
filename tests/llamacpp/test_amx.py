"""A llama.cpp whose compiler broke its AMX code is known by its library."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.kernels.library import library_path
from m2m.llamacpp.amx import amx_ends_the_process, dropped_tiles
from m2m.llamacpp.model import build_info

DEBIAN = b"GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0"


@pytest.mark.parametrize(
    ("comment", "dropped"),
    [
        (DEBIAN, True),
        (b"GCC: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\0", True),
        (b"GCC: (GNU) 11.5.0\0", False),
        (b"GCC: (GNU) 12.4.0\0", False),
        (b"GCC: (GNU) 13.2.1 20231205\0", True),
        (b"GCC: (GNU) 13.3.0\0", False),
        (b"GCC: (Debian 14.2.0-19) 14.2.0\0", False),
        (b"GCC: (GNU) 4.8.5\0GCC: (conda-forge gcc 13.3.0-1) 13.3.0\0", False),
        (DEBIAN + b"GCC: (Debian 14.2.0-19) 14.2.0\0", False),
        (b"Debian clang version 16.0.6\0", False),
        (b"", False),
    ],
)
def test_the_compiler_is_read_from_the_library(
    tmp_path: Path, comment: bytes, dropped: bool
) -> None:
    library = tmp_path / "libggml-cpu.so"
    library.write_bytes(b"\x7fELF" + bytes(60) + comment)
    assert dropped_tiles(library) is dropped


def test_the_installed_library_without_amx_is_used_as_it_is() -> None:
    place = library_path("ggml-cpu")
    assert place is not None
    dropped_tiles(place)  # reads a real library
    assert not amx_ends_the_process("AVX512 = 1")
    assert amx_ends_the_process("AMX_INT8 = 1") is dropped_tiles(place)
    if "AMX_INT8" not in build_info():
        assert not amx_ends_the_process(build_info())
