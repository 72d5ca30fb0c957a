"""Quantise to the same bytes as llama-quantize, and measure how much of a merge's change survives.

The bytes come from ggml's own `ggml_quantize_chunk`, in threads over chunks of rows. Only Q8_0, the
type of most surrogates, has a faster way to the same bytes (`q8_0`).

The values of a base that came from a low-bit file are on that type's grid, so rounding can undo a
small change. Then a surrogate ranks rounding noise, and an export loses the training. `Survival`
measures this.
"""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from m2m.arrays import F32, Bytes
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile, GGUFTensorSpec
from m2m.kernels.q8_0 import quantize_q8_0
from m2m.llamacpp import bindings as c
from m2m.llamacpp.filetypes import Q8_0, row_bytes, type_name
from m2m.llamacpp.weight_rows import FloatRows, dequantize_rows

Result = TypeVar("Result")

# Values per step: 3 MB with the sum and the bytes. Fewer would fit a core's cache, but threads wait
# for each other at every call: with a quarter, a mixture takes 1.5 times as long on two cores.
_CHUNK = 1 << 19
_MEASURED_ONE_IN = 32  # survival is measured on one row in this many,
_AHEAD = 8  # runs of rows per thread that may wait: limits the memory of unfinished work
_ALL_MEASURED = 1 << 16  # but on all rows of a matrix of at most this many values


@dataclass(frozen=True)
class Survival:
    """Sums over all weights of the wanted change d and the change e that is in the file.

    d = (W + delta) - W, and e = the same difference after both were quantised and read back.

    Attributes:
        ed: sum of e * d.
        ee: sum of e * e.
        dd: sum of d * d.
    """

    ed: float = 0.0
    ee: float = 0.0
    dd: float = 0.0

    def __add__(self, other: Survival) -> Survival:
        return Survival(self.ed + other.ed, self.ee + other.ee, self.dd + other.dd)

    @property
    def gain(self) -> float:
        """Return the fraction of the change that survives (projection); nan without a change."""
        return self.ed / self.dd if self.dd else math.nan

    @property
    def cosine(self) -> float:
        """Return how pure the surviving change is: 1 without noise, 0 if nothing survived."""
        if not self.dd:
            return math.nan
        return self.ed / math.sqrt(self.ee * self.dd) if self.ee else 0.0

    def as_json(self) -> dict[str, float] | None:
        """Return `{"gain", "cosine"}`; None if there was no change that could survive."""
        return {"gain": self.gain, "cosine": self.cosine} if self.dd else None


def quantize(
    array: F32,
    type: int,
    *,
    out: Bytes | None = None,
    threads: int | None = None,
) -> Bytes:
    """Quantise a matrix to the bytes of llama_model_quantize.

    Args:
        array: (rows, columns) float32, C order.
        type: ggml type whose block size divides the columns.
        out: contiguous array for the bytes, (rows, bytes per row); None makes a new one.
        threads: None uses all cores.

    Returns:
        (rows, bytes per row) uint8.

    Raises:
        InputError: a value is not finite.
    """
    source = np.ascontiguousarray(array, np.float32)
    rows, columns = source.shape
    width = row_bytes(columns, type)
    if out is None:
        out = np.empty((rows, width), np.uint8)
    elif out.shape != (rows, width) or not out.flags.c_contiguous:
        raise ValueError(f"out has shape {out.shape}, expected ({rows}, {width}) contiguous")
    target = out

    def one(part: slice) -> None:
        quantize_rows(source[part], type, target[part])

    c.ggml_quantize_init(type)
    in_threads(one, row_chunks(rows, columns), threads)
    return target


class MergedQuantizer:
    """Make and quantise merged matrices in threads, a few rows at a time.

    Use it as a context manager: at its end all work is done, or cancelled after an error. Only the
    shape of a matrix decides how it is cut, so the bytes depend neither on threads nor on earlier
    work.

    Survival is measured on one row in 32 of a large matrix and on all rows of a small one. In both
    cases the sums cover millions of weights, and the base must be quantised again for them.

    Args:
        threads: None uses all cores.

    Raises:
        InputError: a value is not finite; the message names the matrix. From `add` or at the end.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._waiting: deque[Future[Survival]] = deque()
        self.survival = Survival()

    def add(self, name: str, base: FloatRows, delta: FloatRows, type: int, out: Bytes) -> None:
        """Quantise base + delta, both (rows, columns), into `out`, (rows, bytes per row).

        The arrays must not change until the end.
        """
        one_in = 1 if math.prod(base.shape) <= _ALL_MEASURED else _MEASURED_ONE_IN

        def one(part: slice) -> Survival:
            try:
                return _merge_rows(base[part], delta[part], type, out[part], one_in)
            except InputError as error:
                raise InputError(f"tensor {name}: {error.message}", error.hint) from error

        for part in row_chunks(*base.shape):
            if self._threads == 1:
                self.survival += one(part)
                continue
            self._waiting.append(_pool(self._threads).submit(one, part))
            while len(self._waiting) > _AHEAD * self._threads:
                self.survival += self._waiting.popleft().result()

    def __enter__(self) -> MergedQuantizer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            while self._waiting and error is None:
                self.survival += self._waiting.popleft().result()
        finally:
            for future in self._waiting:
                future.cancel()
            wait(self._waiting)  # no thread writes into `out` after this


def quantize_merged(
    base: FloatRows, delta: FloatRows, type: int, *, out: Bytes, threads: int | None = None
) -> Survival:
    """Quantise one matrix base + delta into `out`; see `MergedQuantizer`."""
    with MergedQuantizer(threads) as quantizer:
        quantizer.add("", base, delta, type, out)
    return quantizer.survival


def _merge_rows(base: F32, delta: F32, type: int, out: Bytes, one_in: int) -> Survival:
    count = -(-len(base) // one_in)
    quantize_rows(base + delta, type, out)
    return _survived(base[:count], delta[:count], type, out[:count])


def _survived(base: F32, delta: F32, type: int, packed: Bytes) -> Survival:
    """Return the sums over a few contiguous rows; `packed` is base + delta, quantised."""
    before = np.empty_like(packed)
    quantize_rows(np.ascontiguousarray(base), type, before)
    change = np.empty(base.shape, np.float32)
    old = np.empty(base.shape, np.float32)
    dequantize_rows(packed, type, change)
    dequantize_rows(before, type, old)
    change -= old
    return Survival(_dot(change, delta), _dot(change, change), _dot(delta, delta))


def tensor_bytes(base: GGUFFile, spec: GGUFTensorSpec, threads: int | None = None) -> Bytes:
    """Return the flat bytes of a base tensor, converted to the type in `spec`."""
    if base.tensors[spec.name].type == spec.type:
        return base.raw(spec.name)
    return quantize(base.array(spec.name), int(spec.type), threads=threads).reshape(-1)


def quantize_rows(source: F32, type: int, out: Bytes) -> None:
    """Quantise a few contiguous rows in the calling thread."""
    with np.errstate(all="ignore"):
        square = np.vdot(source, source)  # not finite if any value is nan or inf
    if not np.isfinite(square) and not np.isfinite(source).all():
        raise InputError("cannot quantise: the weights hold a value that is not a finite number")
    if type != Q8_0 or not quantize_q8_0(source, out):
        rows, columns = source.shape
        arguments = (source.ctypes.data, out.ctypes.data, 0, rows, columns, None)
        if c.ggml_quantize_chunk(type, *arguments) != out.nbytes:
            raise ValueError(f"out has {out.nbytes} bytes for {rows} x {columns} values")
    if not c.ggml_validate_row_data(type, out.ctypes.data, out.nbytes):
        raise InputError(f"cannot quantise to {type_name(type)}: a value is too large for the type")


def row_chunks(rows: int, columns: int) -> list[slice]:
    """Return runs of rows that fit a core's cache, all of about the same size."""
    step = -(-rows // max(1, -(-rows * columns // _CHUNK)))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def in_threads(
    work: Callable[[slice], Result], parts: Sequence[slice], threads: int | None
) -> list[Result]:
    """Run `work` on every part in threads; return results in order, raise the first error."""
    threads = threads or os.cpu_count() or 1
    if threads == 1 or len(parts) == 1:
        return [work(part) for part in parts]
    return list(_pool(threads).map(work, parts))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="m2m-quantize")


def _dot(a: F32, b: F32) -> float:
    return float(np.einsum("ij,ij->i", a, b).sum(dtype=np.float64))
