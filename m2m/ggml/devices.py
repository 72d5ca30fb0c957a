"""The devices that ggml can compute on: this machine's processor, and GPUs if its build has any."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

from m2m.errors import LlamaError
from m2m.ggml import bindings as c

Kind = Literal["cpu", "gpu", "igpu", "accelerator"]
_KINDS: dict[int, Kind] = {c.CPU: "cpu", c.GPU: "gpu", c.IGPU: "igpu", c.ACCEL: "accelerator"}


@dataclass(frozen=True)
class Device:
    """One of ggml's devices.

    Attributes:
        name: ggml's name, "CPU", "Vulkan0", "CUDA0".
        description: the maker's name of it.
        kind: "gpu" has memory of its own, "igpu" uses the machine's; "accelerator" helps the
            processor with some products.
        free, total: bytes of its memory; 0 if the device does not say.
    """

    name: str
    description: str
    kind: Kind
    free: int
    total: int

    @property
    def is_gpu(self) -> bool:
        """Return whether models can be computed on it instead of on the processor."""
        return self.kind in ("gpu", "igpu")


def list_devices() -> list[Device]:
    """Return ggml's devices in its order: GPUs first, the processor last.

    Raises:
        LlamaError: llama-cpp-python's libraries are missing or of another version.
    """
    functions = c.functions()
    return [_device(functions, index) for index in range(functions.backend_dev_count())]


def gpu() -> Device | None:
    """Return the first GPU, or else the first integrated one; None without either of them."""
    try:
        devices = list_devices()
    except LlamaError:
        return None
    kinds: tuple[Kind, ...] = ("gpu", "igpu")
    return next((one for kind in kinds for one in devices if one.kind == kind), None)


def handle(name: str) -> int:
    """Return ggml's address of the device with this name; ValueError if there is none."""
    functions = c.functions()
    for index in range(functions.backend_dev_count()):
        device: int = functions.backend_dev_get(index)
        if functions.backend_dev_name(device).decode() == name:
            return device
    raise ValueError(f"ggml has no device {name}")


def _device(functions: c.Functions, index: int) -> Device:
    device = functions.backend_dev_get(index)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    functions.backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return Device(
        functions.backend_dev_name(device).decode(errors="replace"),
        functions.backend_dev_description(device).decode(errors="replace").strip(),
        _KINDS.get(functions.backend_dev_type(device), "accelerator"),
        free.value,
        total.value,
    )
