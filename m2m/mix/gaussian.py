"""Fit a Gaussian process over mixtures: main effects, pairs, and its own uncertainty.

With the kernel s (w.w') + s (w.w')^2 over the weights it is Bayesian linear regression on every
weight and every product of two weights (Rasmussen and Williams 2006, chapter 2); a nugget is the
variance that these do not explain. Signal and nugget have the greatest marginal likelihood on a
grid. m2m has its own code: scikit-learn and SciPy are large for a few lines of linear algebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2m.arrays import F64

SIGNALS = (0.1, 1.0, 10.0, 100.0)  # in units of the variance of the fitted values
NUGGETS = (0.001, 0.03, 0.3, 1.0)
_JITTER = 1e-9


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    Attributes:
        weights: (n, N) of the mixtures that it was fitted to.
        factor: (n, n) lower Cholesky factor of their covariance, noise included.
        solved: (n,) covariance^-1 (y - mean).
        mean: of all values.
        signal: factor of the kernel.
        nugget: variance that no effect explains.
    """

    weights: F64
    factor: F64
    solved: F64
    mean: float
    signal: float
    nugget: float

    def predict(self, weights: F64) -> tuple[F64, F64]:
        """Return mean and standard deviation of m mixtures (m, N): (m,), (m,)."""
        across = self.signal * kernel(weights, self.weights)
        mean = self.mean + across @ self.solved
        half = np.linalg.solve(self.factor, across.T)
        size = (weights * weights).sum(axis=1)
        own = self.signal * (size + size**2) + self.nugget
        return mean, np.sqrt((own - (half * half).sum(axis=0)).clip(_JITTER))


def kernel(one: F64, other: F64) -> F64:
    """Return (m, n) covariances of main effects and pairs, for weights (m, N) and (n, N)."""
    product = one @ other.T
    covariance: F64 = product + product**2
    return covariance


def fit(weights: F64, values: F64, noise: F64) -> GaussianProcess:
    """Return the process with the greatest marginal likelihood.

    Args:
        weights: (n, N) of n mixtures.
        values: (n,).
        noise: (n,) variance of each value's own error.
    """
    mean, unit = float(values.mean()), float(values.var()) or 1.0
    gram = kernel(weights, weights)
    best: tuple[float, GaussianProcess] | None = None
    for signal in SIGNALS:
        for nugget in NUGGETS:
            covariance = unit * signal * gram + np.diag(noise + unit * (nugget + _JITTER))
            factor = np.asarray(np.linalg.cholesky(covariance), np.float64)
            half = np.linalg.solve(factor, values - mean)
            likelihood = -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum())
            if best is None or likelihood > best[0]:
                solved = np.linalg.solve(factor.T, half)
                process = GaussianProcess(
                    weights, factor, solved, mean, unit * signal, unit * nugget
                )
                best = likelihood, process
    if best is None:
        raise AssertionError("the grid is not empty")
    return best[1]
