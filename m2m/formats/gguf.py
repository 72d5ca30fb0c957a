"""GGUF: llama.cpp's model files, read through a memory map and written one tensor at a time.

Callers can also import the names of m2m.formats.ggml and m2m.formats.gguf_header from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.formats.atomic import atomic_file
from m2m.formats.ggml import (
    GGMLQuantizationType,
    dequantize,
    encode,
    nbytes_of,
)
from m2m.formats.gguf_header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    GGUFTensor,
    GGUFTensorSpec,
    GGUFValue,
    GGUFValueType,
    HeaderReader,
    placed_tensors,
    plan_gguf,
)
from m2m.formats.mapped import map_file, release

__all__ = [
    "GGMLQuantizationType",
    "GGUFFile",
    "GGUFTensor",
    "GGUFTensorSpec",
    "GGUFValue",
    "GGUFValueType",
    "dequantize",
    "encode",
    "nbytes_of",
    "plan_gguf",
    "write_gguf",
]


class GGUFFile:
    """An open GGUF file: its metadata, and its tensors as views of the mapped file.

    Attributes:
        path: the file's path.
        metadata: all key-values in file order.
        tensors: all tensors by name, in file order.

    Raises:
        InputError: the file is missing, truncated or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._bytes = map_file(self.path, "GGUF", 24)
        reader = HeaderReader(self.path, self._bytes.data)
        kv_count, tensor_count = reader.counts()
        self.metadata: dict[str, GGUFValue] = reader.metadata(kv_count)
        table = reader.table(tensor_count)
        self.tensors: dict[str, GGUFTensor] = placed_tensors(reader, table, _alignment(self))

    def value(self, key: str, default: Any = None) -> Any:
        """Return the plain value under `key`, or `default` if the file does not have the key."""
        entry = self.metadata.get(key)
        return default if entry is None else entry.value

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a tensor: a flat read-only view of the file, without a copy."""
        tensor = self._tensor(name)
        return self._bytes[tensor.offset : tensor.offset + tensor.nbytes]

    def array(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as a new float32 array of its shape.

        Raises:
            InputError: there is no such tensor, or its type cannot be read.
        """
        tensor, raw = self._tensor(name), self.raw(name)
        try:
            return dequantize(raw, tensor.type, tensor.shape)
        except NotImplementedError as error:
            raise InputError(
                f"{self.path}: tensor {name} has type {tensor.type.name}, which m2m cannot read",
                "use an F16, BF16, Q8_0, K-quant or Q4/Q5 version of the model",
            ) from error
        finally:
            release(raw)

    def release(self) -> None:
        """Take the file's pages out of this process's memory; reading them loads them again."""
        release(self._bytes)

    def _tensor(self, name: str) -> GGUFTensor:
        try:
            return self.tensors[name]
        except KeyError:
            raise InputError(f"{self.path}: has no tensor {name}") from None


def _alignment(file: GGUFFile) -> int:
    value = file.value(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value < 1 or value & (value - 1) or value > 1 << 20:
        raise InputError(
            f"{file.path}: {ALIGNMENT_KEY} is {value!r}, expected a power of two up to 2^20"
        )
    return value


def write_gguf(
    path: Path,
    metadata: Mapping[str, GGUFValue],
    specs: Sequence[GGUFTensorSpec],
    data: Iterable[NDArray[Any]],
) -> dict[str, int]:
    """Write a GGUF file atomically, taking one tensor's bytes at a time.

    Args:
        path: the file to make.
        metadata: key-values, written in their order.
        specs: the tensors in order.
        data: an array for each spec; its memory holds the tensor's bytes (C order).

    Returns:
        each tensor's offset from the file's start, in bytes.
    """
    header, offsets, size = plan_gguf(metadata, specs)
    ends = [*offsets.values(), size][1:]
    with atomic_file(path, size) as file:
        file.write(header)
        for spec, end, array in zip(specs, ends, data, strict=True):
            expected = nbytes_of(spec.shape, spec.type)
            if array.nbytes != expected:
                raise ValueError(f"{spec.name}: got {array.nbytes} bytes, expected {expected}")
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            file.write(bytes(end - offsets[spec.name] - expected))
            release(array)
    return offsets
