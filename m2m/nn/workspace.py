"""Named buffers that live across steps: in its steady state a step allocates nothing big."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Workspace:
    """Buffers by name; each grows to the largest size asked of it and is then reused.

    Fresh memory costs a page fault for every 4 KiB, which is as much as an element-wise pass.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._flat: dict[str, NDArray[Any]] = {}

    def get(self, name: str, *shape: int) -> NDArray[Any]:
        """Return the buffer `name` with this shape, C-contiguous; what it holds is stale."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            self._flat.pop(name, None)
            flat = self._flat[name] = np.empty(size, self.dtype)
        return flat[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(flat.nbytes for flat in self._flat.values())
