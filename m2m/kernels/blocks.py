"""ggml's tensor types: their names and sizes, and a loop that converts their bytes to float32.

A quantised type packs a block of values into a few bytes; `to_float` of ggml's table of types reads
them. It gives the same bits on every processor, and the same bits as the `gguf` package.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import LlamaError
from m2m.kernels import library

_Q8_0 = (b"q8_0", 32, 34)  # type 8: name, values and bytes of a block


class _Traits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = [
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        # void (*)(const void * x, float * y, int64_t k)
        ("to_float", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int64)),
        ("from_float_ref", c_void_p),
    ]


def layout(type: int) -> tuple[str, int, int]:
    """Return a type's name as llama.cpp prints it, and the values and bytes of one block.

    Args:
        type: a number of `enum ggml_type`; ggml ends the process if it does not know it.
    """
    traits = _traits(type)
    return traits.type_name.decode(), traits.blck_size, traits.type_size


def widen(raw: NDArray[np.uint8], type: int, out: NDArray[np.float32]) -> None:
    """Write the values of whole blocks into `out`, in the calling thread, without Python's lock.

    Args:
        raw: the blocks' bytes, of any shape.
        type: a number of `enum ggml_type`.
        out: contiguous array with as many values as `raw` holds.

    Raises:
        NotImplementedError: ggml has no loop for the type.
        ValueError: the sizes do not fit.
    """
    traits = _traits(type)
    if not traits.to_float:
        raise NotImplementedError(f"ggml does not read {traits.type_name.decode()}")
    blocks, rest = divmod(raw.size, traits.type_size)
    if rest or out.size != blocks * traits.blck_size or not out.flags.c_contiguous:
        raise ValueError(f"cannot widen {raw.size} bytes of type {type} into {out.shape}")
    if not raw.flags.c_contiguous or raw.ctypes.data % 8:  # a file may align its tensors badly
        raw = raw.copy()
    traits.to_float(raw.ctypes.data, out.ctypes.data, out.size)


@functools.cache
def _traits(type: int) -> Any:
    return _table()(type).contents


@functools.cache
def _table() -> Any:
    """Return the C function that gives a type's traits.

    const struct ggml_type_traits * ggml_get_type_traits(enum ggml_type type);  -- ggml.h
    """
    function = getattr(library.load("ggml-base"), "ggml_get_type_traits", None)
    if function is None:
        raise LlamaError("llama-cpp-python's library ggml-base is missing", library.INSTALL_HINT)
    function.restype, function.argtypes = ctypes.POINTER(_Traits), [c_int]
    known = function(8).contents
    if (known.type_name, known.blck_size, known.type_size) != _Q8_0:
        raise LlamaError(
            "llama-cpp-python lays out its table of types in another way", library.INSTALL_HINT
        )
    return function
