"""The directional gradient check that every kernel pair and the whole model go through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[Any]  # float64, or the check is too loose to fail
TOLERANCE = 1e-7


def check_directions(
    loss: Callable[[Sequence[F64]], float],
    arrays: Sequence[F64],
    grads: Sequence[F64],
    step: float = 5e-4,
) -> None:
    """Compare `sum grads . d` with central differences of 4th order along random d, of unit length.

    All arrays move together, then each alone, so that a failure names its array.
    """
    rng = np.random.default_rng(7)
    drawn = [rng.standard_normal(a.shape) for a in arrays]
    directions = [d / np.linalg.norm(d) for d in drawn]
    for chosen in [range(len(arrays)), *([i] for i in range(len(arrays)))]:

        def at(t: float, chosen: Sequence[int] = chosen) -> float:
            shifts = [t * d if i in chosen else 0.0 for i, d in enumerate(directions)]
            return loss([a + shift for a, shift in zip(arrays, shifts, strict=True)])

        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
        numeric = (8.0 * near - far) / (12.0 * step)
        exact = sum(float(np.vdot(grads[i], directions[i])) for i in chosen)
        scale = max(abs(numeric), abs(exact), 1e-4)
        assert abs(numeric - exact) <= TOLERANCE * scale, (list(chosen), numeric, exact)
