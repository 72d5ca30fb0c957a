"""Read matrices a few rows at a time as float32: stored ones, and products of low rank.

A merge reads its weights in runs of rows that fit a core's cache. So it never needs a whole float32
base or a whole delta in memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from m2m.arrays import F32, Bytes
from m2m.kernels import blocks, float16
from m2m.llamacpp import bindings as c
from m2m.nn.lora import LoraPair, lora_delta


class FloatRows(Protocol):
    """A source of float32 rows, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, columns)."""

    def __getitem__(self, part: slice, /) -> F32:
        """Return the rows of `part`, (its length, columns)."""


class StoredRows:
    """A matrix in the format of its file.

    Args:
        data: its bytes, flat.
        type: ggml type.
        shape: (rows, columns).
    """

    def __init__(self, data: Bytes, type: int, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._data, self._type = data.reshape(shape[0], -1), type

    def __getitem__(self, part: slice, /) -> F32:
        """Return the rows of `part` as a new array."""
        data = self._data[part]
        out = np.empty((len(data), *self.shape[1:]), np.float32)
        dequantize_rows(data, self._type, out)
        return out


class LowRankRows:
    """An adapter's delta; computes the product only for the rows that are asked for.

    At rank 48 this costs no more than reading a stored product from memory (docs/scoring.md).
    """

    def __init__(self, pair: LoraPair) -> None:
        self.shape = pair.shape
        self._pair = pair

    def __getitem__(self, part: slice, /) -> F32:
        """Return the rows of `part` as a new array."""
        pair = self._pair
        return np.asarray(lora_delta(LoraPair(pair.a, pair.b[part], pair.scale)), np.float32)


def dequantize_rows(data: Bytes, type: int, out: F32) -> None:
    """Write a few contiguous rows as float32 into `out` with ggml's own code, in this thread."""
    if type == c.TYPE_F32:
        out[...] = data.view(np.float32).reshape(out.shape)
    elif type == c.TYPE_F16:
        float16.widen(data.view(np.float16).reshape(out.shape), out)
    else:
        blocks.widen(data, type, out)
