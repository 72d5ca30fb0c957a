"""Quantise to Q8_0 in NumPy: the bytes of ggml's `quantize_row_q8_0_ref`, in half its time.

libggml-base is built for any processor of its family and calls roundf for every value. NumPy's
loops use the widest vectors of this processor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = np.dtype([("d", "<f2"), ("qs", "i1", (32,))])  # block_q8_0, ggml-common.h
TYPE = 8  # enum ggml_type, ggml.h
VALUES, BYTES = 32, _BLOCK.itemsize  # of a block
_SIGN = np.uint32(0x80000000)
# roundf(v) is trunc(v + copysign(h, v)) with h the largest number below one half. With exactly one
# half, 0.49999997 would become 1.
_HALF = np.nextafter(np.float32(0.5), np.float32(0)).view(np.uint32)


def quantize_q8_0(source: NDArray[np.float32], out: NDArray[np.uint8]) -> bool:
    """Quantise finite float32 rows of whole blocks of 32 into `out`, (rows, bytes per row).

    Returns:
        False, with undefined `out`, if values are so small that C leaves the result open.
    """
    size = np.abs(source).reshape(-1)
    while size.size > source.size // 32:
        size = np.maximum(size[0::2], size[1::2])
    scale = size / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scale > 0, np.float32(1) / scale, np.float32(0))
        if not np.isfinite(inverse).all():
            return False
        values = source.reshape(-1, 32) * inverse[:, None]
        half = values.view(np.uint32) & _SIGN
        half |= _HALF
        values += half.view(np.float32)
        blocks = out.reshape(-1).view(_BLOCK)
        blocks["d"] = scale
        blocks["qs"] = values
    return True
