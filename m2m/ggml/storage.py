"""Tensors that stay on a device between graphs: the frozen base, or adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2m.errors import DeviceError
from m2m.formats.half import f32_to_bf16, f32_to_f16
from m2m.ggml import bindings as c
from m2m.kernels.q8_0 import BYTES, VALUES
from m2m.nn.functional import widened

Kind = Literal["f32", "f16", "bf16", "q8_0"]
TYPES = {"f32": c.F32, "f16": c.F16, "bf16": c.BF16, "q8_0": c.Q8_0}
_MOST = 1 << 14  # tensors of a store


class Store:
    """A ggml context with a buffer on a device: name all tensors, allocate, then write.

    Args:
        functions: ggml's.
        backend: of the device.
        device: its name, for messages.
    """

    def __init__(self, functions: c.Functions, backend: int | None, device: str) -> None:
        self._f, self._backend, self._device = functions, backend, device
        room = _MOST * functions.tensor_overhead()
        self._context: int | None = functions.init(c.InitParams(room, None, True))
        self._buffer: int | None = None
        self._later: dict[str, list[Callable[[NDArray[Any]], None]]] = {}

    def close(self) -> None:
        """Free buffer and context; twice is safe."""
        if self._buffer is not None:
            self._f.backend_buffer_free(self._buffer)
        if self._context is not None:
            self._f.free(self._context)
        self._buffer = self._context = None

    def tensor(self, rows: int, columns: int, kind: Kind = "f32") -> int:
        """Return a new tensor for a NumPy array (rows, columns)."""
        tensor: int = self._f.new_tensor_2d(self._context, TYPES[kind], columns, rows)
        return tensor

    def matrix(self, name: str, shape: tuple[int, ...], kind: Kind) -> int:
        """Return a tensor for a frozen matrix."""
        rows, columns = shape
        return self._named(name, kind, rows, columns)

    def both(self, name: str, shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
        """Return tensors for a frozen matrix and for its transpose."""
        rows, columns = shape
        back = self._named(name, kind, columns, rows, turned=True)
        return self._named(name, kind, rows, columns), back

    def _named(self, name: str, kind: Kind, rows: int, columns: int, turned: bool = False) -> int:
        """Q8_0 has blocks of 32 values in a row; matrices of other sizes stay in float16."""
        own: Kind = "f16" if kind == "q8_0" and columns % VALUES else kind
        tensor = self.tensor(rows, columns, own)

        def write(array: NDArray[Any]) -> None:
            self.put(tensor, self._stored(array.T if turned else array, own))

        self._later.setdefault(name, []).append(write)
        return tensor

    def vector(self, name: str, size: int, offset: float = 0.0, factor: float = 1.0) -> int:
        """Return a float32 tensor for `factor * (values + offset)`."""
        tensor = self.tensor(1, size)

        def write(array: NDArray[Any]) -> None:
            values = widened(array, np.dtype(np.float32)).reshape(1, -1)
            self.put(tensor, ((values + offset) * factor).astype(np.float32))

        self._later.setdefault(name, []).append(write)
        return tensor

    def allocate(self) -> None:
        """Allocate all tensors on the device; DeviceError if its memory is too small."""
        buffer = self._f.backend_alloc_ctx_tensors(self._context, self._backend)
        if not buffer:
            raise DeviceError(
                f"{self._device} has too little memory for the base model",
                'use a smaller base, or set device = "cpu" in [limits]',
            )
        self._buffer = buffer

    def write(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the named tensors; each weight is read once, and freed before the next."""
        for name, writes in self._later.items():
            array = np.asarray(weights[name])
            for write in writes:
                write(array)
        self._later = {}

    def size(self) -> int:
        """Return the bytes of the buffer."""
        return int(self._f.backend_buffer_get_size(self._buffer)) if self._buffer else 0

    def put(self, tensor: int, array: NDArray[Any]) -> None:
        """Write an array into a tensor of the same type and size."""
        whole = np.ascontiguousarray(array)
        if whole.nbytes != self._f.nbytes(tensor):
            raise ValueError(f"{whole.nbytes} bytes for a tensor of {self._f.nbytes(tensor)}")
        self._f.backend_tensor_set(tensor, whole.ctypes.data, 0, whole.nbytes)

    def _stored(self, array: NDArray[Any], kind: Kind) -> NDArray[Any]:
        """Return an array in the type of the device; a 16-bit one of the same type as it is."""
        if array.dtype == {"f16": np.float16, "bf16": np.uint16}.get(kind):
            return array
        wide = np.ascontiguousarray(widened(np.ascontiguousarray(array), np.dtype(np.float32)))
        if kind == "f32":
            return wide
        if kind == "q8_0":
            rows, columns = wide.shape
            out = np.empty((rows, columns // VALUES * BYTES), np.uint8)
            self._f.quantize_chunk(
                c.Q8_0, wide.ctypes.data, out.ctypes.data, 0, rows, columns, None
            )
            return out
        return f32_to_f16(wide) if kind == "f16" else f32_to_bf16(wide)
