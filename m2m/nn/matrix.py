"""The matrix [[W, B], [s A, 0]] of a frozen map and its adapters, stored in one of five ways.

W (out, in) is frozen and large; B (out, R) and s A (R, in) are written again at every step. The map
and its gradient are one product each,

    forward     y  = [x | ha] @ [W, B]'
    backward    dx = [dy | hb] @ [W; s A]
"""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import local
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from m2m.arrays import Array
from m2m.blas import one_blas_thread
from m2m.kernels import bfloat16, q8_0
from m2m.kernels import blocks as ggml
from m2m.nn.functional import BITS, blocks, widen
from m2m.nn.workspace import Workspace

_TINY = 1e-36  # a block of smaller weights has no scale in Q8_0
WORTH_BF16 = 1.2  # a step is faster only if products are this many times as fast as in float32


class Storage:
    """The storage of a decoder's frozen maps.

    Args:
        dtype: type of the computation.
        maps: "whole", "half", "held", "bf16" or "q8_0", one of the classes below.
        rank: rank of every part's later adapter; matrices have space for it from the start.
        half: type of maps that are stored as "half", float16 or uint16 for bfloat16.
    """

    def __init__(
        self,
        dtype: DTypeLike,
        maps: str = "whole",
        rank: int = 0,
        half: DTypeLike = np.float16,
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.rank = rank
        self.half: np.dtype[Any] = np.dtype(half)
        self._kind = KINDS[maps]
        self._own = local()

    def matrix(self, rows: int, columns: int, rank: int) -> Matrix:
        """Return a matrix with zeros for the adapters; the weights are not set yet."""
        return self._kind(self, rows, columns, rank)

    def scratch(self, name: str, *shape: int) -> Array:
        """Return a buffer of the calling thread; all maps use the same one in turn."""
        if not hasattr(self._own, "space"):
            self._own.space = Workspace(self.dtype)
        buffer: Array = self._own.space.get(name, *shape)
        return buffer


class Matrix(ABC):
    """The matrix of the module's docstring: out = `rows`, in = `columns`, R = `rank` or more.

    Attributes:
        rank: R.
        low: (R, in), s A.
        high: (out, R), B.
    """

    low: Array
    high: Array

    def __init__(self, storage: Storage, rows: int, columns: int, rank: int) -> None:
        self.storage, self.rows, self.columns, self.rank = storage, rows, columns, rank

    @staticmethod
    def room(rank: int) -> int:
        """Return the R that adapters with this total rank get."""
        return rank

    @staticmethod
    def wide(columns: int, rank: int) -> int:
        """Return the columns that are stored: as many as the matrix has, so that one call casts."""
        return columns + rank

    @abstractmethod
    def load(self, span: slice, weights: NDArray[Any], factor: float) -> None:
        """Write rows of `factor` W, (n, in)."""

    @abstractmethod
    def resized(self, rank: int) -> Matrix:
        """Return a matrix with the same W and space for adapters of another rank, first zero."""

    @abstractmethod
    def settle(self) -> None:
        """Apply the values that were written into `low` and `high`."""

    @abstractmethod
    def forward(self, x: Array, out: Array) -> None:
        """Write `out = x @ [W, B]'`, (T, out), from x (T, in + R)."""

    @abstractmethod
    def backward(self, dout: Array, dx: Array) -> None:
        """Write `dx = dout @ [W; s A]`, (T, in), from dout (T, out + R)."""


class _Whole(Matrix):
    """The matrix in the computation's own dtype, in one piece."""

    def __init__(self, storage: Storage, rows: int, columns: int, rank: int) -> None:
        super().__init__(storage, rows, columns, rank)
        self._full = np.empty((rows + rank, columns + rank), storage.dtype)
        self._base = self._full[:rows, :columns]
        self._full[rows:] = 0.0
        self._full[:rows, columns:] = 0.0
        self.low, self.high = self._full[rows:, :columns], self._full[:rows, columns:]

    def load(self, span: slice, weights: NDArray[Any], factor: float) -> None:
        widen(weights, self._base[span], factor)

    def resized(self, rank: int) -> Matrix:
        made = _Whole(self.storage, self.rows, self.columns, rank)
        made._base[...] = self._base
        return made

    def settle(self) -> None:
        pass

    def forward(self, x: Array, out: Array) -> None:
        np.matmul(x, self._full[: self.rows].T, out=out)

    def backward(self, dout: Array, dx: Array) -> None:
        np.matmul(dout, self._full[:, : self.columns], out=dx)


class _Cast(Matrix):
    """W in fewer bits; every thread that uses it widens it first."""

    def __init__(self, storage: Storage, rows: int, columns: int, rank: int) -> None:
        super().__init__(storage, rows, columns, rank)
        self._stored = self._zeros(self.wide(columns, rank))
        # Applied after the cast, because fewer bits would round the products.
        self._factors: list[tuple[slice, float]] = []
        self.low = np.zeros((rank, columns), storage.dtype)
        self.high = np.zeros((rows, rank), storage.dtype)

    def load(self, span: slice, weights: NDArray[Any], factor: float) -> None:
        self._store(span, weights)
        if factor != 1.0:
            self._factors.append((span, factor))

    def resized(self, rank: int) -> Matrix:
        made = type(self)(self.storage, self.rows, self.columns, rank)
        least = min(made._stored.shape[1], self._stored.shape[1])  # all columns of W are in both
        made._stored[:, :least] = self._stored[:, :least]
        made._factors = self._factors
        return made

    def settle(self) -> None:
        pass

    def forward(self, x: Array, out: Array) -> None:
        np.matmul(x, self._cast()[: self.rows].T, out=out)

    def backward(self, dout: Array, dx: Array) -> None:
        np.matmul(dout, self._cast()[:, : self.columns], out=dx)

    def _cast(self) -> Array:
        """Return the matrix, valid until this thread casts the next one."""
        wide = self.wide(self.columns, self.rank)
        full = self.storage.scratch("map", self.rows + self.rank, wide)
        # In one call: threads wait for each other at every call, longer than the caches would save.
        self._widen(full[: self.rows])
        for span, factor in self._factors:
            full[span, : self.columns] *= full.dtype.type(factor)
        full = full[:, : self.columns + self.rank]
        full[: self.rows, self.columns :] = self.high
        full[self.rows :, : self.columns] = self.low
        return full

    @abstractmethod
    def _zeros(self, wide: int) -> NDArray[Any]:
        """Return zeros for rows of this many values."""

    @abstractmethod
    def _store(self, span: slice, weights: NDArray[Any]) -> None:
        """Write rows of W, (n, in)."""

    @abstractmethod
    def _widen(self, out: Array) -> None:
        """Write W into the first columns of `out`, (out, `wide`)."""


class _Half(_Cast):
    """W in 16 bits: half the memory, a few percent more time."""

    def _zeros(self, wide: int) -> NDArray[Any]:
        return np.zeros((self.rows, wide), self.storage.half)

    def _store(self, span: slice, weights: NDArray[Any]) -> None:
        if self._stored.dtype == BITS != weights.dtype:
            weights = _upper_halves(weights)
        widen(weights, self._stored[span, : self.columns])

    def _widen(self, out: Array) -> None:
        widen(self._stored, out)


class _Held(_Cast):
    """W in the arrays that hold it, without a copy: for one pass over weights in a mapped file."""

    def __init__(self, storage: Storage, rows: int, columns: int, rank: int) -> None:
        super().__init__(storage, rows, columns, rank)
        self._held: list[tuple[slice, NDArray[Any]]] = []

    def resized(self, rank: int) -> Matrix:
        raise NotImplementedError("weights that are held take no adapter")

    def _zeros(self, wide: int) -> NDArray[Any]:
        return np.zeros((0, wide), self.storage.half)

    def _store(self, span: slice, weights: NDArray[Any]) -> None:
        self._held.append((span, weights))

    def _widen(self, out: Array) -> None:
        for span, weights in self._held:
            widen(weights, out[span])


class _Quantised(_Cast):
    """W rounded to ggml's Q8_0, 8.5 bits a weight: QLoRA's way (arXiv 2305.14314)."""

    @staticmethod
    def wide(columns: int, rank: int) -> int:
        return -(-(columns + rank) // q8_0.VALUES) * q8_0.VALUES

    def _zeros(self, wide: int) -> NDArray[Any]:
        return np.zeros((self.rows, wide // q8_0.VALUES * q8_0.BYTES), np.uint8)

    def _store(self, span: slice, weights: NDArray[Any]) -> None:
        own = self.wide(self.columns, 0)  # the last block of a row may have zeros after W
        stored = self._stored[span, : own // q8_0.VALUES * q8_0.BYTES]
        for part in blocks(len(weights), own):
            rows = np.zeros((len(weights[part]), own), np.float32)
            widen(weights[part], rows[:, : self.columns])
            packed = np.empty(stored[part].shape, np.uint8)
            if not q8_0.quantize_q8_0(rows, packed):
                rows[np.abs(rows) < _TINY] = 0.0
                q8_0.quantize_q8_0(rows, packed)
            stored[part] = packed

    def _widen(self, out: Array) -> None:
        single = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
        ggml.widen(self._stored, q8_0.TYPE, single)
        if single is not out:
            out[...] = single


class _Bfloat16(Matrix):
    """The matrix in bfloat16, once per direction: a product needs its inner values contiguous.

    R is rounded up to a multiple of `bfloat16.ALIGNED`; the extra columns stay zero.
    """

    def __init__(self, storage: Storage, rows: int, columns: int, rank: int) -> None:
        rank = self.room(rank)
        super().__init__(storage, rows, columns, rank)
        self._across = np.zeros((rows, columns + rank), np.uint16)  # [W, B]
        self._along = np.zeros((columns, rows + rank), np.uint16)  # [W; s A]'
        self.low = np.zeros((rank, columns), np.float32)
        self.high = np.zeros((rows, rank), np.float32)

    @staticmethod
    def room(rank: int) -> int:
        return -(-rank // bfloat16.ALIGNED) * bfloat16.ALIGNED

    def load(self, span: slice, weights: NDArray[Any], factor: float) -> None:
        wide = np.empty(weights.shape, np.float32)
        widen(weights, wide, factor)
        values = _narrowed(wide)
        self._across[span, : self.columns] = values
        self._along[:, span] = values.T

    def resized(self, rank: int) -> Matrix:
        made = _Bfloat16(self.storage, self.rows, self.columns, rank)
        made._across[:, : self.columns] = self._across[:, : self.columns]
        made._along[:, : self.rows] = self._along[:, : self.rows]
        return made

    def settle(self) -> None:
        self._across[:, self.columns :] = _narrowed(self.high)
        self._along[:, self.rows :] = _narrowed(self.low).T

    def forward(self, x: Array, out: Array) -> None:
        bfloat16.multiply(x, self._across, out)

    def backward(self, dout: Array, dx: Array) -> None:
        bfloat16.multiply(dout, self._along, dx)


KINDS: dict[str, type[Matrix]] = {
    "whole": _Whole,
    "half": _Half,
    "held": _Held,
    "bf16": _Bfloat16,
    "q8_0": _Quantised,
}


def _upper_halves(weights: NDArray[Any]) -> NDArray[np.uint16]:
    """Return bfloat16 that a base's weights hold exactly, though they came as float32."""
    bits = np.ascontiguousarray(weights, np.float32).view(np.uint32)
    if (bits & 0xFFFF).any():
        raise ValueError("these weights are not those of a base in bfloat16")
    return (bits >> 16).astype(np.uint16)


def _narrowed(values: Array) -> bfloat16.BF16:
    narrowed = np.empty(values.shape, np.uint16)
    bfloat16.narrow(values, narrowed)
    return narrowed


@functools.cache
def bf16_gain() -> float:
    """Return the speed of a typical bfloat16 product relative to float32, in one thread.

    Measured once, in some hundredths of a second; 0 if there is no bfloat16 product.
    """
    if not bfloat16.available():
        return 0.0
    x, full = np.ones((128, 1024), np.float32), np.ones((1024, 1024), np.float32)
    out, weights = np.empty((128, 1024), np.float32), _narrowed(full)
    ways: tuple[Callable[[], object], ...] = (
        lambda: np.matmul(x, full.T, out=out),
        lambda: bfloat16.multiply(x, weights, out),
    )
    times: tuple[list[float], list[float]] = ([], [])
    with one_blas_thread():
        for _ in range(8):
            for way, known in zip(ways, times, strict=True):
                started = time.perf_counter()
                way()
                known.append(time.perf_counter() - started)
            if min(times[1]) > 4 * min(times[0]):  # without AVX a product takes 30 times as long
                break
    return min(times[0]) / min(times[1])
