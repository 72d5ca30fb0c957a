"""Named buffers that stay from step to step: after the first steps, no step allocates much."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Workspace:
    """Buffers by name; each grows to the largest size that is asked for, and is reused.

    New memory costs a page fault for every 4 KiB, which takes as long as an element-wise pass.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._flat: dict[str, NDArray[Any]] = {}

    def get(self, name: str, *shape: int) -> NDArray[Any]:
        """Return the buffer `name` with this shape, C-contiguous; its content is stale."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            self._flat.pop(name, None)
            flat = self._flat[name] = np.empty(size, self.dtype)
        return flat[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all buffers."""
        return sum(flat.nbytes for flat in self._flat.values())
