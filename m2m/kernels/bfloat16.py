"""Multiply by bfloat16 weights with ggml: up to twice as fast if the processor has such products.

AVX512-BF16 multiplies pairs of bfloat16 numbers (8 bits of mantissa) and adds them up in float32.
NumPy has no such product. ggml has one, because llama.cpp computes models with it; this module
calls it for one pair of matrices, in the calling thread. It is slow on other processors.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from ctypes import POINTER, c_bool, c_char, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F32
from m2m.kernels import library

ALIGNED = 32  # columns of a product come in multiples of this, or ggml takes a slower way
_F32, _BF16 = 0, 30  # enum ggml_type, ggml.h
_ROOM = 1 << 16  # bytes of an arena besides the copy of x in bfloat16

BF16 = NDArray[np.uint16]


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h."""

    _fields_ = [
        ("type", c_int),
        ("buffer", c_void_p),
        ("ne", c_int64 * 4),
        ("nb", c_size_t * 4),
        ("op", c_int),
        ("op_params", c_int32 * 16),
        ("flags", c_int32),
        ("src", c_void_p * 10),
        ("view_src", c_void_p),
        ("view_offs", c_size_t),
        ("data", c_void_p),
        ("name", c_char * 64),
    ]

    def place(self, array: NDArray[Any]) -> None:
        """Use the rows of an array as this tensor's data; gaps between rows are allowed."""
        self.data = array.ctypes.data
        self.nb[1] = array.strides[0]
        self.nb[2] = self.nb[3] = array.strides[0] * array.shape[0]


class _InitParams(ctypes.Structure):
    """`struct ggml_init_params` of ggml.h."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class _Functions:
    """The functions of ggml.h and ggml-cpu.h for one product; AttributeError if one is missing."""

    def __init__(self) -> None:
        # Quick calls keep Python's lock (PyDLL): to release it takes longer than the call.
        quick, slow = library.load("ggml-base", ctypes.PyDLL), library.load("ggml-cpu")
        tensor = POINTER(_Tensor)
        self.init = self._declare(quick, "ggml_init", c_void_p, _InitParams)
        self.free = self._declare(quick, "ggml_free", None, c_void_p)
        self.reset = self._declare(quick, "ggml_reset", None, c_void_p)
        self.set_no_alloc = self._declare(quick, "ggml_set_no_alloc", None, c_void_p, c_bool)
        self.new_tensor = self._declare(
            quick, "ggml_new_tensor_2d", tensor, c_void_p, c_int, c_int64, c_int64
        )
        self.mul_mat = self._declare(quick, "ggml_mul_mat", tensor, c_void_p, tensor, tensor)
        self.new_graph = self._declare(
            quick, "ggml_new_graph_custom", c_void_p, c_void_p, c_size_t, c_bool
        )
        self.expand = self._declare(quick, "ggml_build_forward_expand", None, c_void_p, tensor)
        self.get_data = self._declare(quick, "ggml_get_data", c_void_p, tensor)
        self.compute = self._declare(
            slow, "ggml_graph_compute_with_ctx", c_int, c_void_p, c_void_p, c_int
        )
        self.narrow = self._declare(
            slow, "ggml_cpu_fp32_to_bf16", None, c_void_p, c_void_p, c_int64
        )

    @staticmethod
    def _declare(loaded: Any, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, list(arguments)
        return function


class _Arena:
    """A ggml context: memory for one product at a time, in one thread."""

    def __init__(self, functions: _Functions) -> None:
        self._f = functions
        self._context: int | None = None
        self._size = 0

    def __del__(self) -> None:
        if self._context is not None:
            self._f.free(self._context)

    def multiply(self, x: F32, weights: BF16, out: F32) -> None:
        """Write x @ weights.T into out."""
        f, context = self._f, self._cleared(2 * x.size + _ROOM)
        f.set_no_alloc(context, True)
        (rows, inner), columns = x.shape, len(weights)
        a = f.new_tensor(context, _BF16, inner, columns)
        b = f.new_tensor(context, _F32, inner, rows)
        product = f.mul_mat(context, a, b)
        for tensor, array in ((a, weights), (b, x), (product, out)):
            tensor.contents.place(array)
        graph = f.new_graph(context, 4, False)
        f.expand(graph, product)
        f.set_no_alloc(context, False)  # for the copy of x
        if status := f.compute(context, graph, 1):
            raise RuntimeError(f"ggml could not multiply {x.shape} by {weights.shape}: {status}")

    def understood(self) -> bool:
        """Return whether `_Tensor` matches the memory layout of this library's tensors."""
        context = self._cleared(_ROOM)
        self._f.set_no_alloc(context, False)
        tensor = self._f.new_tensor(context, _F32, 3, 5)
        contents = tensor.contents
        sizes = (list(contents.ne), list(contents.nb)) == ([3, 5, 1, 1], [4, 12, 60, 60])
        return sizes and contents.data == self._f.get_data(tensor)

    def _cleared(self, size: int) -> int:
        if self._context is None or size > self._size:
            if self._context is not None:
                self._f.free(self._context)
            self._context, self._size = self._f.init(_InitParams(size, None, False)), size
        self._f.reset(self._context)
        return self._context


class _Local(threading.local):
    """Every thread's own arena."""

    def __init__(self, functions: _Functions) -> None:
        self.arena = _Arena(functions)


@functools.cache
def _opened() -> tuple[_Functions, _Local] | None:
    try:
        functions = _Functions()
    except AttributeError:
        return None
    local = _Local(functions)
    return (functions, local) if local.arena.understood() else None


def available() -> bool:
    """Return whether llama-cpp-python's libraries exist and have the expected tensor layout."""
    return _opened() is not None


def narrow(values: F32, out: BF16) -> None:
    """Round float32 to the nearest bfloat16, ties to even; both arrays are contiguous."""
    if (opened := _opened()) is None:
        raise RuntimeError("no bfloat16 here: ask available() first")
    if values.shape != out.shape or not (values.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError(f"cannot narrow {values.shape} into {out.shape}")
    opened[0].narrow(values.ctypes.data, out.ctypes.data, values.size)


def multiply(x: F32, weights: BF16, out: F32) -> None:
    """Write `x @ weights.T` into out; x is rounded to bfloat16, sums are float32.

    Args:
        x: (M, K); gaps between rows are allowed, in `out` too.
        weights: (N, K); gaps between rows are allowed.
        out: (M, N).

    Raises:
        ValueError: shapes that do not fit, or gaps between the values of a row.
    """
    if (opened := _opened()) is None:
        raise RuntimeError("no bfloat16 here: ask available() first")
    (rows, inner), (columns, width) = x.shape, weights.shape
    fit = inner == width and out.shape == (rows, columns)
    if fit and not out.size:
        return
    if not fit or not (_in_rows(x) and _in_rows(weights) and _in_rows(out)):
        raise ValueError(f"cannot multiply {x.shape} by {weights.shape} into {out.shape}")
    opened[1].arena.multiply(x, weights, out)


def _in_rows(array: NDArray[Any]) -> bool:
    """Return whether each row has its values without gaps, and the rows do not overlap."""
    apart, size = array.strides
    return bool(size == array.itemsize and apart >= size * array.shape[1])
