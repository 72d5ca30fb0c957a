"""The directional gradient check that every kernel pair and the whole model go through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[Any]  # float64, or the check is too loose to fail
TOLERANCE = 1e-7
TINY = float(np.finfo(np.float64).tiny)
DIRECTIONS = 2


def check_directions(
    loss: Callable[[Sequence[F64]], float],
    arrays: Sequence[F64],
    grads: Sequence[F64],
    step: float = 5e-4,
) -> None:
    """Compare `sum grads . d` with central differences of 4th order along random d.

    All arrays move together, each by unit length: a gradient that is wrong in one array shows. Only
    then each array moves alone, so that the failure names it.
    """
    rng = np.random.default_rng(7)

    def wrong(chosen: Sequence[int]) -> tuple[float, float] | None:
        drawn = [rng.standard_normal(a.shape) * (i in chosen) for i, a in enumerate(arrays)]
        directions = [d / max(float(np.linalg.norm(d)), TINY) for d in drawn]

        def at(t: float) -> float:
            return loss([a + t * d for a, d in zip(arrays, directions, strict=True)])

        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
        numeric = (8.0 * near - far) / (12.0 * step)
        exact = sum(float(np.vdot(grads[i], directions[i])) for i in chosen)
        scale = max(abs(numeric), abs(exact), 1e-4)
        return None if abs(numeric - exact) <= TOLERANCE * scale else (numeric, exact)

    every = range(len(arrays))
    if found := [pair for _ in range(DIRECTIONS) if (pair := wrong(every))]:
        alone = {i: pair for i in every if (pair := wrong([i]))}
        raise AssertionError(f"together {found}, alone {alone} (finite difference, gradient)")
