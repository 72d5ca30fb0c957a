"""The header of a GGUF file: key-values and tensor table, bytes <-> objects.

Version 3 of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (2 is the same here):
magic, version, counts; key-values; tensor table; padding; aligned tensor data. Little-endian.
The reader compares every number with the file's size before it uses it. m2m has its own reader
because the `gguf` package installs an HTTP client and does not name the place of an error.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from m2m.counted import counted
from m2m.errors import InputError
from m2m.formats.ggml import GGMLQuantizationType, nbytes_of

_MAGIC = b"GGUF"
_LENGTH = struct.Struct("<Q")
_VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, gguf.h
_MAX_DIMENSIONS = 4  # GGML_MAX_DIMS, ggml.h
_MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1, ggml.h
# Above these limits llama.cpp needs minutes, or m2m gigabytes. Real files stay far below. The
# format allows keys of 65,535 bytes; llama.cpp's time grows with the square of their length.
# One key of 65,535 bytes took it 67 seconds.
_MAX_KEY_BYTES = 8192  # about a second; the longest known key has 50
_MAX_KEY_SQUARES = 1 << 27  # of the bytes of all keys: two of the longest, or 4,096 of 180 bytes
_FORMAT_KEY_BYTES = (1 << 16) - 1  # ggml/docs/gguf.md
_MAX_PAIRS = 4096  # real files: 30 to 60; llama.cpp compares each key with all before it
_MAX_TENSORS = 16_384  # 512 layers (LLAMA_MAX_LAYERS) of 14 are 7,168; compared too
_MAX_ITEMS = 1 << 22  # in all lists together; Gemma 3 has 1.3 million
_MAX_ITEM_BYTES = 1 << 16  # for each text in a list
_MAX_NAME = 4096  # for the model's name: llama.cpp's time grows with its square too
_MAX_HEADER = 256 << 20  # Gemma 3's has 16 MB


class GGUFValueType(IntEnum):
    """`enum gguf_type` of gguf.h: the type of a key's value."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_SCALARS: dict[GGUFValueType, np.dtype[Any]] = {
    GGUFValueType.UINT8: np.dtype("<u1"),
    GGUFValueType.INT8: np.dtype("<i1"),
    GGUFValueType.UINT16: np.dtype("<u2"),
    GGUFValueType.INT16: np.dtype("<i2"),
    GGUFValueType.UINT32: np.dtype("<u4"),
    GGUFValueType.INT32: np.dtype("<i4"),
    GGUFValueType.FLOAT32: np.dtype("<f4"),
    GGUFValueType.BOOL: np.dtype("?"),
    GGUFValueType.UINT64: np.dtype("<u8"),
    GGUFValueType.INT64: np.dtype("<i8"),
    GGUFValueType.FLOAT64: np.dtype("<f8"),
}


@dataclass(frozen=True)
class GGUFValue:
    """One typed value of the key-value section.

    Attributes:
        type: the stored type; ARRAY for a list.
        value: str, bool, int, float, or a list of one of them.
        item_type: the type of a list's items; None if the value is not a list.
    """

    type: GGUFValueType
    value: Any
    item_type: GGUFValueType | None = None

    @classmethod
    def string(cls, text: str) -> GGUFValue:
        """Return a value of type STRING."""
        return cls(GGUFValueType.STRING, text)

    @classmethod
    def uint32(cls, number: int) -> GGUFValue:
        """Return a UINT32, the usual type of counts and ids."""
        return cls(GGUFValueType.UINT32, number)

    @classmethod
    def float32(cls, number: float) -> GGUFValue:
        """Return a value of type FLOAT32."""
        return cls(GGUFValueType.FLOAT32, number)

    @classmethod
    def boolean(cls, flag: bool) -> GGUFValue:
        """Return a value of type BOOL."""
        return cls(GGUFValueType.BOOL, flag)

    @classmethod
    def array(cls, item_type: GGUFValueType, items: Sequence[Any]) -> GGUFValue:
        """Return an ARRAY of `item_type`."""
        return cls(GGUFValueType.ARRAY, list(items), item_type)


@dataclass(frozen=True)
class GGUFTensorSpec:
    """A tensor to be written: `shape` in NumPy's order, (rows, columns)."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor of a file: `shape` as (rows, columns), `offset` in bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    nbytes: int


class HeaderReader:
    """Walks the header of one file and checks every read; `field` names a read in errors."""

    def __init__(self, path: Path, buffer: memoryview) -> None:
        self.path = path
        self.size = len(buffer)
        self._buffer = buffer
        self.position = 0
        self._items_left = _MAX_ITEMS

    def fail(self, message: str) -> InputError:
        """Return an error that names the file."""
        return InputError(f"{self.path}: {message}", "is the file a complete GGUF download?")

    def take(self, count: int, field: str) -> int:
        """Step over `count` bytes and return the first one's position."""
        start = self.position
        if count > self.size - start:
            raise self.fail(
                f"{field} at byte {start} needs {counted(count, 'byte')}, the file ends after "
                f"{self.size - start}"
            )
        self.position = start + count
        if self.position > _MAX_HEADER:
            raise self.fail(f"{field} is at byte {start:,}, m2m reads headers of {_MAX_HEADER:,}")
        return start

    def uint32(self, field: str) -> int:
        """Read four bytes as a number."""
        return int(struct.unpack_from("<I", self._buffer, self.take(4, field))[0])

    def uint64(self, field: str) -> int:
        """Read eight bytes as a number."""
        return int(struct.unpack_from("<Q", self._buffer, self.take(8, field))[0])

    def string(self, field: str, limit: int = _MAX_HEADER) -> str:
        """Read a length, at most `limit`, and that many bytes."""
        length = self.uint64(field)
        if length > limit:
            raise self.fail(f"{field} has {counted(length, 'byte')}, m2m reads at most {limit:,}")
        start = self.take(length, field)
        # Some vocabularies hold broken UTF-8; surrogates keep its bytes for the writer.
        return str(self._buffer[start : start + length], "utf-8", "surrogateescape")

    def _strings(self, field: str, limit: int, count: int) -> list[str]:
        """Read many strings: a vocabulary has a hundred thousand of them."""
        buffer, position, end = self._buffer, self.position, min(self.size, _MAX_HEADER)
        strings: list[str] = []
        for _ in range(count):
            start = position + 8
            length = _LENGTH.unpack_from(buffer, position)[0] if start <= end else end
            if length > min(limit, end - start):
                self.position = position
                self.string(field, limit)  # raises the error
            position = start + length
            strings.append(str(buffer[start:position], "utf-8", "surrogateescape"))
        self.position = position
        return strings

    def counts(self) -> tuple[int, int]:
        """Check magic and version; return the numbers of key-values and of tensors."""
        magic = bytes(self._buffer[:4])
        self.take(4, "magic")
        if magic != _MAGIC:
            raise self.fail(f"begins with {magic!r}, a GGUF file with {_MAGIC!r}")
        version = self.uint32("version")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            kind = f"{swapped}, big-endian" if swapped in _VERSIONS else f"{version}"
            raise self.fail(f"is GGUF version {kind}; m2m reads little-endian 2 and 3")
        tensors, pairs = self.uint64("tensor count"), self.uint64("key-value count")
        # Smallest entries: empty name, type and one byte (13); name, one dimension (32).
        if pairs * 13 + tensors * 32 > self.size - self.position:
            raise self.fail(
                f"claims {pairs} key-values and {tensors} tensors, too many for its {self.size} "
                "bytes"
            )
        if pairs > _MAX_PAIRS or tensors > _MAX_TENSORS:
            raise self.fail(
                f"has {pairs:,} key-values and {counted(tensors, 'tensor')}, m2m reads at most "
                f"{_MAX_PAIRS:,} and {_MAX_TENSORS:,}"
            )
        return pairs, tensors

    def metadata(self, count: int) -> dict[str, GGUFValue]:
        """Read `count` key-values."""
        values: dict[str, GGUFValue] = {}
        squares = 0
        for index in range(count):
            key = self.string(f"key {index}", _MAX_KEY_BYTES)
            squares += len(key.encode("utf-8", "surrogateescape")) ** 2
            if squares > _MAX_KEY_SQUARES:
                raise self.fail(f"has keys so long that llama.cpp needs minutes: {index + 1:,}")
            if key in values:
                raise self.fail(f"has the key {key!r} twice")
            values[key] = self._value(key)
        return values

    def _value(self, key: str) -> GGUFValue:
        type = self._value_type(key)
        if type != GGUFValueType.ARRAY:
            return GGUFValue(type, self._items(key, type, 1)[0])
        item_type = self._value_type(key)
        count = self.uint64(f"length of {key!r}")
        if item_type == GGUFValueType.ARRAY:
            raise self.fail(f"{key!r} is a list of lists, which llama.cpp does not read either")
        return GGUFValue(type, self._items(key, item_type, count), item_type)

    def _value_type(self, key: str) -> GGUFValueType:
        number = self.uint32(f"type of {key!r}")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self.fail(f"{key!r} has the unknown type {number}") from None

    def _items(self, key: str, type: GGUFValueType, count: int) -> list[Any]:
        field = f"value of {key!r}"
        if type == GGUFValueType.STRING:
            self._check_room(count, 8, field)
            self._count(count, field)
            limit = _MAX_HEADER if count == 1 else _MAX_ITEM_BYTES
            limit = _MAX_NAME if key == "general.name" else limit
            return self._strings(field, limit, count)
        dtype = _SCALARS[type]
        start = self.take(count * dtype.itemsize, field)
        self._count(count, field)
        items: list[Any] = np.frombuffer(self._buffer, dtype, count, start).tolist()
        return items

    def _count(self, count: int, field: str) -> None:
        self._items_left -= count
        if self._items_left < 0:
            raise self.fail(f"{field} has {count:,} items, m2m reads {_MAX_ITEMS:,} of all lists")

    def _check_room(self, count: int, least: int, field: str) -> None:
        if count * least > self.size - self.position:
            raise self.fail(f"{field} claims {count} strings, the file is too short for them")

    def table(self, count: int) -> list[GGUFTensor]:
        """Read the tensor table; offsets are still relative to the data section."""
        return [self._entry(index) for index in range(count)]

    def _entry(self, index: int) -> GGUFTensor:
        name = self.string(f"name of tensor {index}", _MAX_NAME_BYTES)
        dimensions = self.uint32(f"dimensions of {name}")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self.fail(f"tensor {name} has {dimensions} dimensions, expected 1 to 4")
        shape = tuple(self.uint64(f"shape of {name}") for _ in range(dimensions))[::-1]
        type, nbytes = self._sized(name, shape)
        return GGUFTensor(name, shape, type, self.uint64(f"offset of {name}"), nbytes)

    def _sized(self, name: str, shape: tuple[int, ...]) -> tuple[GGMLQuantizationType, int]:
        number = self.uint32(f"type of {name}")
        try:
            type = GGMLQuantizationType(number)
        except ValueError:
            raise self.fail(f"tensor {name} has the unknown type {number}") from None
        if min(shape) < 1:
            raise self.fail(f"tensor {name} has the empty shape {list(shape)}")
        try:
            return type, nbytes_of(shape, type)
        except ValueError as error:
            raise self.fail(f"tensor {name} has {error}") from None


def placed_tensors(
    reader: HeaderReader, table: list[GGUFTensor], alignment: int
) -> dict[str, GGUFTensor]:
    """Make the offsets absolute; raise if tensors overlap or end after the file."""
    base = _aligned(reader.position, alignment)
    placed: dict[str, GGUFTensor] = {}
    for tensor in table:
        if tensor.name in placed:
            raise reader.fail(f"has the tensor {tensor.name} twice")
        if tensor.offset % alignment:
            raise reader.fail(
                f"tensor {tensor.name} begins at {tensor.offset}, no multiple of {alignment}"
            )
        if base + tensor.offset + tensor.nbytes > reader.size:
            raise reader.fail(
                f"tensor {tensor.name} needs bytes up to {base + tensor.offset + tensor.nbytes}, "
                f"the file has {reader.size}"
            )
        placed[tensor.name] = replace(tensor, offset=base + tensor.offset)
    in_order = sorted(placed.values(), key=lambda tensor: tensor.offset)
    for first, second in pairwise(in_order):
        if first.offset + first.nbytes > second.offset:
            raise reader.fail(f"tensors {first.name} and {second.name} overlap")
    return placed


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def plan_gguf(
    metadata: Mapping[str, GGUFValue], specs: Sequence[GGUFTensorSpec]
) -> tuple[bytes, dict[str, int], int]:
    """Make the header of a file and the plan of its tensors.

    Returns:
        the bytes before the tensor data, each tensor's offset from the file's start, and the
        file's size. Tensors follow in order, each padded to the alignment, as gguf.cpp expects.
    """
    stored = metadata.get(ALIGNMENT_KEY)
    alignment = stored.value if stored else DEFAULT_ALIGNMENT
    parts = [_MAGIC, struct.pack("<IQQ", 3, len(specs), len(metadata))]
    for key, value in metadata.items():
        if len(key.encode("utf-8", "surrogateescape")) > _FORMAT_KEY_BYTES:
            raise ValueError(f"the key {key!r:.60} is longer than {_FORMAT_KEY_BYTES} bytes")
        parts += [_packed_string(key), struct.pack("<I", value.type), _packed(value)]
    relative: dict[str, int] = {}
    end = 0
    for spec in specs:
        if spec.name in relative or len(spec.name.encode()) > _MAX_NAME_BYTES:
            raise ValueError(f"tensor name {spec.name!r} is repeated or too long")
        relative[spec.name] = end
        parts.append(_packed_entry(spec, end))
        end += _aligned(nbytes_of(spec.shape, spec.type), alignment)
    header = b"".join(parts)
    header += bytes(_aligned(len(header), alignment) - len(header))
    offsets = {name: len(header) + offset for name, offset in relative.items()}
    return header, offsets, len(header) + end


def _packed_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _packed(value: GGUFValue) -> bytes:
    if value.item_type is None:
        return _packed_items(value.type, [value.value])
    head = struct.pack("<IQ", value.item_type, len(value.value))
    return head + _packed_items(value.item_type, value.value)


def _packed_items(type: GGUFValueType, items: Sequence[Any]) -> bytes:
    if type == GGUFValueType.STRING:
        return b"".join(_packed_string(item) for item in items)
    return np.array(items, _SCALARS[type]).tobytes()


def _packed_entry(spec: GGUFTensorSpec, offset: int) -> bytes:
    dimensions = spec.shape[::-1]
    return _packed_string(spec.name) + struct.pack(
        f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, spec.type, offset
    )
