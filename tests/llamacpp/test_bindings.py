"""Copied constants and layouts, compared with the library and the packages that ship them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest
from gguf import GGMLQuantizationType

from m2m.llamacpp import bindings as c
from m2m.llamacpp import filetypes


def test_copied_constants_are_the_librarys() -> None:
    assert llama_cpp.llama_max_parallel_sequences() == c.MAX_SEQUENCES
    assert c.FLASH_ATTN_DISABLED == llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert c.LOAD_MODE_MMAP == llama_cpp.LLAMA_LOAD_MODE_MMAP
    assert (c.TYPE_F32, c.TYPE_F16) == (llama_cpp.GGML_TYPE_F32, llama_cpp.GGML_TYPE_F16)


@pytest.mark.parametrize("name", filetypes.FILE_TYPES)
def test_file_types_have_llama_cpps_numbers(name: str) -> None:
    kind = filetypes.FILE_TYPES[name]
    upper = name.upper()
    prefix = "LLAMA_FTYPE_ALL_" if name == "f32" else "LLAMA_FTYPE_MOSTLY_"
    assert kind.number == getattr(llama_cpp, prefix + upper)
    tensor = upper.removesuffix("_M")
    assert kind.tensor == GGMLQuantizationType[tensor]


def test_our_batch_has_the_packages_layout() -> None:
    package = llama_cpp.llama_batch
    assert ctypes.sizeof(c.Batch) == ctypes.sizeof(package)
    assert [field[0] for field in c.Batch._fields_] == [field[0] for field in package._fields_]
    for name in (field[0] for field in package._fields_):
        assert getattr(c.Batch, name).offset == getattr(package, name).offset


@pytest.mark.slow
def test_a_passive_wait_is_asked_for_unless_the_user_chose(tmp_path: Path) -> None:
    code = "import os, m2m.llamacpp.bindings; print(os.environ['OMP_WAIT_POLICY'])"
    root = Path(__file__).parents[2]
    for chosen, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        environment |= {"PYTHONPATH": str(root), **chosen}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr
