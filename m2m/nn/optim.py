"""AdamW in place on a flat list of arrays, clipping by the common norm, learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from m2m.arrays import Array
from m2m.nn.thread_pool import ThreadPool, Worker


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2).

        m = b1 m + (1 - b1) g;     v = b2 v + (1 - b2) g^2
        p = p (1 - lr * decay) - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    as in torch.optim.AdamW. Parameters are changed in place.

    Args:
        parameters: arrays; the order names their state.
        weight_decay: one value for all parameters.
        pool: threads that share the work; any number gives the same bytes.
    """

    def __init__(
        self,
        parameters: Sequence[Array],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        pool: ThreadPool | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self.steps = 0
        self._betas, self._eps, self._decay = betas, eps, weight_decay
        self._crew = pool if pool is not None else ThreadPool(1)
        self._first = [np.zeros_like(p) for p in self.parameters]
        self._second = [np.zeros_like(p) for p in self.parameters]

    def step(self, grads: Sequence[Array], learning_rate: float, scale: float = 1.0) -> None:
        """Move every parameter once by `scale` times its gradient.

        grads: as many as parameters, of the same shapes; they are not changed. `scale` is part of
        factors that exist anyway, so a mean and a clip need no pass over the gradients.
        """
        self.steps += 1
        every = list(zip(self.parameters, grads, self._first, self._second, strict=True))
        self._crew.run(lambda worker: self._move(every, learning_rate, scale, worker))

    def _move(
        self, every: Sequence[Sequence[Array]], learning_rate: float, scale: float, worker: Worker
    ) -> None:
        """Move one worker's chunk of the parameters."""
        first, second = self._betas
        root = math.sqrt(1.0 - second**self.steps)
        size = learning_rate * root / (1.0 - first**self.steps)
        for p, g, m, v in every[worker.number :: worker.count]:
            m *= first
            work = g * ((1.0 - first) * scale)
            m += work
            v *= second
            np.multiply(g, g, out=work)
            work *= (1.0 - second) * scale**2
            v += work
            np.sqrt(v, out=work)
            work += self._eps * root
            np.divide(m, work, out=work)
            work *= size
            if self._decay:
                p *= 1.0 - learning_rate * self._decay
            p -= work

    def state_arrays(self) -> dict[str, Array]:
        """Return the state by name, as the live arrays (`first.0`, `second.0`, ...), to save.

        `steps` is the rest of the state.
        """
        named = {f"first.{i}": m for i, m in enumerate(self._first)}
        return named | {f"second.{i}": v for i, v in enumerate(self._second)}


def global_norm(grads: Sequence[Array]) -> float:
    """Return the common norm of all gradients.

    Squares are added in the arrays' dtype over 64k values at a time, then in float64. With SSE,
    OpenBLAS adds a whole array in four lanes, with an error of 4e-4 for a million equal values.
    """
    runs = (g.reshape(-1)[i : i + (1 << 16)] for g in grads for i in range(0, g.size, 1 << 16))
    return math.sqrt(sum(float(np.vdot(run, run)) for run in runs))


def clip_factor(norm: float, limit: float) -> float:
    """Return the factor that reduces a norm to `limit`, at most 1. A limit <= 0 clips nothing."""
    return limit / norm if 0.0 < limit < norm else 1.0


def learning_rate_factor(schedule: str, step: int, total: int, warmup: int) -> float:
    """Return the factor on the peak learning rate at `step` (the first is 0) of `total`.

    It rises linearly over the first `warmup` steps. Then it stays 1 (`constant`, `anytime`), or
    falls linearly (`linear`) or as half a cosine (`cosine`), to 0 at step `total`.
    """
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[schedule](min(1.0, (step - warmup) / max(1, total - warmup)))


# The factor as a function of the fraction of the steps after the warm-up that are done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "anytime": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
