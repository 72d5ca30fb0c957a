from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from m2m.ggml import bindings
from m2m.ggml.devices import gpu, handle, list_devices
from m2m.llamacpp import bindings as c
from m2m.machine import total_memory_bytes

HEADERS = Path(sysconfig.get_path("purelib")) / "include"


def test_the_prototypes_are_those_of_the_headers() -> None:
    """The package installs the headers that its library was compiled with."""
    files = [HEADERS / f"ggml{part}.h" for part in ("", "-alloc", "-backend", "-cpu")]
    files.append(HEADERS / "llama.h")
    if not all(path.is_file() for path in files):
        pytest.skip("llama-cpp-python was installed without its headers")
    text = ";".join(path.read_text(encoding="utf-8") for path in files)
    for mark in ("GGML_BACKEND_API", "GGML_API", "LLAMA_API"):
        text = text.replace(mark, ";")
    theirs = bindings.prototypes(text)
    for name, line in bindings.prototypes(bindings.PROTOTYPES + c.PROTOTYPES).items():
        assert theirs[name] == line


def test_the_processor_is_a_device_with_this_machines_memory() -> None:
    cpu = list_devices()[-1]
    assert (cpu.name, cpu.kind, cpu.is_gpu) == ("CPU", "cpu", False)
    assert cpu.description
    assert cpu.total == pytest.approx(total_memory_bytes(), rel=0.01)
    assert handle(cpu.name)


def test_a_gpu_is_one_of_the_devices() -> None:
    found = gpu()
    assert (found in list_devices()) if found else not any(d.is_gpu for d in list_devices())


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="no device Vulkan99"):
        handle("Vulkan99")
