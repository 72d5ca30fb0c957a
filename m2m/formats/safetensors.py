"""safetensors: a JSON header, then the bytes of every tensor.

Layout: https://github.com/huggingface/safetensors#format. The package checks
headers. m2m reads tensors itself because the package has no BF16 for NumPy and copies, while a
memory map costs nothing. m2m writes them itself because the package needs all tensors at once and
sorts them by name, so that the same adapter would have other bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from m2m.errors import InputError
from m2m.formats.atomic import atomic_file
from m2m.formats.half import bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, overflows_f16
from m2m.formats.mapped import map_file, release
from m2m.opening import refuse_many

_HEADER_LIMIT = 100_000_000  # bytes; MAX_HEADER_SIZE in safetensors' tensor.rs
_METADATA = "__metadata__"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_HINT = "is the file a complete download?"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to write; `dtype` is one of F32, F16 and BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """An open safetensors file: its checked header, and its tensors as views of the mapped file.

    Attributes:
        path: the file's path.
        metadata: the strings under `__metadata__`.
        names: the tensors in the order of their bytes.

    Raises:
        InputError: the file is missing, truncated or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        before = _identity(self.path)
        self._bytes = map_file(self.path, "safetensors", 10)
        length = min(int.from_bytes(self._bytes[:8].tobytes(), "little"), _HEADER_LIMIT)
        refuse_many(self.path, self._bytes[8 : 8 + length].tobytes())
        self._entries, self.metadata, self._start = _checked_header(self.path, len(self._bytes))
        if _identity(self.path) != before:  # the package opens the path again, for the header
            raise InputError(f"{path}: changed while it was opened", "run the command again")
        self.names: list[str] = list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @cached_property
    def sha256(self) -> str:
        """The sha256 (hex) of the file that was opened, even if another file has its name now."""
        return hashlib.sha256(self._bytes.data).hexdigest()

    @property
    def spare(self) -> int:
        """The number of bytes that belong neither to a tensor nor to the header."""
        used = sum(entry.end - entry.begin for entry in self._entries.values())
        return len(self._bytes) - self._start - used

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._entry(name).shape

    def dtype(self, name: str) -> str:
        """Return the stored type of a tensor: "F32", "F16", "BF16", ..."""
        return self._entry(name).dtype

    def raw(self, name: str) -> NDArray[Any]:
        """Return a tensor as a read-only view of the file, in its stored type (BF16 as uint16)."""
        entry = self._entry(name)
        view = self._bytes[self._start + entry.begin : self._start + entry.end]
        return view.view(_DTYPES[entry.dtype]).reshape(entry.shape)

    def array(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as a new float32 array.

        Raises:
            InputError: there is no such tensor, or it does not hold floats.
        """
        dtype = self.dtype(name)
        if dtype not in _FLOATS:
            raise InputError(f"{self.path}: tensor {name} is {dtype}, expected floats")
        raw = self.raw(name)
        if dtype in ("F16", "BF16"):
            array = f16_to_f32(raw) if dtype == "F16" else bf16_to_f32(raw)
        else:
            array = raw.astype(np.float32)
        release(raw)
        return array

    def compact(self, name: str) -> NDArray[Any]:
        """Return a tensor as a new array: in 16 bits if it is stored so (BF16 as uint16)."""
        if self.dtype(name) not in ("F16", "BF16"):
            return self.array(name)
        raw = self.raw(name)
        array = np.array(raw)
        release(raw)
        return array

    def release(self) -> None:
        """Take the file's pages out of this process's memory; reading them loads them again."""
        release(self._bytes)

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise InputError(f"{self.path}: has no tensor {name}") from None


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change if another file takes the path; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # `map_file` names the reason
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _checked_header(path: Path, size: int) -> tuple[dict[str, _Entry], dict[str, str], int]:
    """Return the tensors in the order of their bytes, the metadata, and the start of the first.

    The package makes sure that tensors follow each other without a gap up to the file's last byte.
    """
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.offset_keys()}
            metadata = file.metadata() or {}
            kinds = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        problem = str(error).removeprefix("Error while deserializing header: ")
        raise InputError(f"{path}: {problem}; the file has {size} bytes", _HINT) from error
    entries, end = {}, 0
    for name, (dtype, shape) in kinds.items():
        if dtype not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise InputError(f"{path}: tensor {name} has the type {dtype}, expected one of {known}")
        begin, end = end, end + math.prod(shape) * _DTYPES[dtype].itemsize
        entries[name] = _Entry(dtype, tuple(shape), begin, end)
    return entries, metadata, size - end


def write_safetensors(
    path: Path,
    specs: Sequence[TensorSpec],
    tensors: Iterable[NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file atomically, taking one tensor at a time.

    Args:
        path: the file to make.
        specs: the tensors in order.
        tensors: the array of each spec. float32 is rounded to the spec's type; float16, and
            uint16 for BF16, are written unchanged.
        metadata: strings for `__metadata__`, such as {"format": "pt"}.

    Raises:
        InputError: a value is too large for F16.
    """
    header = _packed_header(specs, metadata)
    with atomic_file(path, len(header) + sum(spec.nbytes for spec in specs)) as file:
        file.write(header)
        for spec, array in zip(specs, tensors, strict=True):
            if array.shape != spec.shape:
                raise ValueError(f"{spec.name}: got shape {array.shape}, expected {spec.shape}")
            file.write(packed(spec, array).reshape(-1).view(np.uint8).data)
            release(array)


def safetensors_sha256(
    specs: Sequence[TensorSpec], tensors: Iterable[NDArray[Any]], metadata: Mapping[str, str]
) -> str:
    """Return the sha256 (hex) of the file that `write_safetensors` would write."""
    whole = hashlib.sha256(_packed_header(specs, metadata))
    for spec, array in zip(specs, tensors, strict=True):
        whole.update(packed(spec, array).reshape(-1).view(np.uint8).data)
        release(array)
    return whole.hexdigest()


def _packed_header(specs: Sequence[TensorSpec], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for spec in specs:
        if spec.name in header:
            raise ValueError(f"tensor {spec.name} is there twice")
        offsets = [end, end + spec.nbytes]
        header[spec.name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": offsets}
        end += spec.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    return len(text).to_bytes(8, "little") + text


def packed(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as it is stored: `write_safetensors` says which arrays may come."""
    dtype = _DTYPES[spec.dtype]
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if array.dtype != np.float32:
        raise ValueError(f"{spec.name}: got {array.dtype}, expected float32 or {dtype}")
    if spec.dtype == "BF16":
        return f32_to_bf16(array)
    if spec.dtype != "F16":
        raise ValueError(f"{spec.name}: float32 is not written as {spec.dtype}")
    if overflows_f16(array):
        raise InputError(
            f"tensor {spec.name} holds values above 65504, too large for F16",
            "use a BF16 version of the model",
        )
    return f32_to_f16(array)
