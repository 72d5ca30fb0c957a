"""Fit the temperature that makes a model's choices most informative, for many resamples.

With b = 1 / t, the mean cross-entropy of softmax(b * s) is convex in b, so a safeguarded Newton
iteration finds its minimum; b = 0 is guessing, so the fit is never worse than that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64

_STEPS = 60
_TOLERANCE = 1e-10
_ROUNDING = 1e-12  # of the scores' size: smaller differences between them count as 0
_SHARPEST = 1e6  # in units of 1 / spread of the scores: a perfect model's optimum is at infinity
_TINY = float(np.finfo(np.float64).tiny)
_FEW = 8  # resamples that are fitted one by one
_GRID, _REACH = 320, 64.0  # points of the table, and how far it goes below the common best
_AT_ONCE = 1 << 20  # values of one temporary array


def cross_entropy(scores: F64, gold: NDArray[np.int64], sharpness: F64) -> F64:
    """Return -log softmax(b * scores)[gold] in nats for each sharpness b.

    Args:
        scores: (n, k), -inf if an example does not have this choice.
        gold: (n,) place of the right choice.
        sharpness: (R,) values of b, 0 or more.

    Returns:
        (R, n).
    """
    gaps = _gaps(scores, gold)
    present = np.isfinite(gaps)
    result = np.empty((len(sharpness), len(gold)))
    for part in _parts(len(sharpness), gaps.size):
        logits = np.where(present, gaps, 0.0) * sharpness[part, None, None]
        logits = np.where(present, logits, -np.inf)
        top = logits.max(axis=2)
        total = np.exp(logits - top[..., None]).sum(axis=2)
        result[part] = top + np.log(total)
    return result


def least_cross_entropy(scores: F64, gold: NDArray[np.int64], weights: F64) -> F64:
    """Return the weighted mean cross-entropy at the best temperature, for each row of weights.

    A bootstrap needs a thousand rows at once. They share one table of every example's
    cross-entropy over a fine grid of sharpnesses, so that a resample costs a row of a matrix
    product. A Newton step from its best grid point leaves an error far below the bootstrap's own
    (a test limits it to 1e-5).

    Args:
        scores: (n, k), -inf if an example does not have this choice.
        gold: (n,) place of the right choice.
        weights: (R, n), how often each example counts.

    Returns:
        (R,) nats; never more than guessing.
    """
    total = weights.sum(axis=1)
    if len(weights) <= _FEW:
        sharpness = best_sharpness(scores, gold, weights)
        entropy = cross_entropy(scores, gold, sharpness)
        few: F64 = (weights * entropy).sum(axis=1) / total
        return few
    if not _differ(scores, gold):
        guessing: F64 = (weights @ cross_entropy(scores, gold, np.zeros(1))[0]) / total
        return guessing
    natural = 1.0 / _spread(scores, gold)
    common = best_sharpness(scores, gold, np.ones((1, len(gold))))[0] or natural
    # The grid goes far up, because a resample without a mistake has its best at infinity.
    span = np.geomspace(min(natural, common) / _REACH, natural * _SHARPEST, _GRID)
    grid = np.concatenate([[0.0], span])
    value = weights @ cross_entropy(scores, gold, grid).T
    best = value.argmin(axis=1)
    # Resamples agree on a few points of the grid: only these need derivatives.
    points, place = np.unique(best, return_inverse=True)
    slope, curve = (weights @ x.T for x in _derivatives(_gaps(scores, gold), grid[points]))
    rows = np.arange(len(weights))
    value, slope, curve = value[rows, best], slope[rows, place], curve[rows, place]
    # From b = 0, move only up: a negative b would prefer wrong choices.
    moves = (curve > 0) & ((best > 0) | (slope < 0))
    gain = np.where(moves, slope**2 / (2 * np.maximum(curve, _TINY)), 0.0)
    least: F64 = (value - gain).clip(0.0) / total
    return least


def best_sharpness(scores: F64, gold: NDArray[np.int64], weights: F64) -> F64:
    """Return the b = 1 / t >= 0 that minimises the weighted mean cross-entropy, per row of weights.

    Args:
        scores: (n, k), -inf if an example does not have this choice.
        gold: (n,) place of the right choice.
        weights: (R, n), how often each example counts.

    Returns:
        (R,); scaling the scores by c > 0 scales it by 1 / c.
    """
    gaps, spread = _gaps(scores, gold), _spread(scores, gold)
    if not _differ(scores, gold):
        return np.zeros(len(weights))
    gaps = gaps / spread
    start = np.ones(1)
    result = whole = _minimise(gaps, weights.sum(axis=0, keepdims=True), start)
    if len(weights) > 1:
        result = np.empty(len(weights))
        for part in _parts(len(weights), gaps.size):
            result[part] = _minimise(gaps, weights[part], np.full(len(weights[part]), whole[0]))
    sharpness: F64 = result / spread
    return sharpness


def _parts(rows: int, size: int) -> list[slice]:
    step = max(1, _AT_ONCE // max(size, 1))
    return [slice(i, i + step) for i in range(0, rows, step)]


def _minimise(gaps: F64, weights: F64, start: F64) -> F64:
    """Run Newton on the derivative, in a bracket [low, high] that every step shrinks."""
    total = weights.sum(axis=1)
    low, high = np.zeros(len(weights)), np.full(len(weights), _SHARPEST)
    slope, _ = _slope(gaps, weights, np.zeros(len(weights)))
    done = slope >= 0  # guessing is best: the right choice is not ahead on average
    at = np.where(done, 0.0, start.clip(_TOLERANCE, _SHARPEST))
    for _ in range(_STEPS):
        active = np.flatnonzero(~done)
        if not active.size:
            break
        here = at[active]
        slope, curve = _slope(gaps, weights[active], here)
        low[active] = np.where(slope < 0, here, low[active])
        high[active] = np.where(slope >= 0, here, high[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = here - slope / curve
        # If Newton leaves the bracket, continue by a factor: the scale of b is not known.
        wide = np.where(
            high[active] < _SHARPEST, (low[active] + high[active]) / 2, (here * 8).clip(1.0)
        )
        inside = (step > low[active]) & (step < high[active])
        step = np.where(inside, step, wide.clip(max=_SHARPEST))
        small = np.abs(slope) <= _TOLERANCE * total[active]
        at[active] = np.where(small, here, step)
        stuck = np.abs(step - here) <= _TOLERANCE * np.maximum(here, 1.0)
        done[active] = small | stuck | (here >= _SHARPEST)
    return at


def _slope(gaps: F64, weights: F64, sharpness: F64) -> tuple[F64, F64]:
    """Return the two derivatives in b of the weighted sum of cross-entropies: (R,), (R,)."""
    first, second = _derivatives(gaps, sharpness)
    slope: F64 = (weights * first).sum(axis=1)
    curve: F64 = (weights * second).sum(axis=1)
    return slope, curve


def _derivatives(gaps: F64, sharpness: F64) -> tuple[F64, F64]:
    """Return first and second derivative in b of each example's cross-entropy: (R, n), (R, n)."""
    present = np.isfinite(gaps)
    finite = np.where(present, gaps, 0.0)
    logits = np.where(present, finite * sharpness[:, None, None], -np.inf)
    probability = np.exp(logits - logits.max(axis=2, keepdims=True))
    probability /= probability.sum(axis=2, keepdims=True)
    mean = (probability * finite).sum(axis=2)
    square = (probability * finite * finite).sum(axis=2)
    return mean, square - mean * mean


def _gaps(scores: F64, gold: NDArray[np.int64]) -> F64:
    """Return (n, k) how far each choice is ahead of the right one."""
    gaps: F64 = scores - scores[np.arange(len(gold)), gold][:, None]
    return gaps


def _spread(scores: F64, gold: NDArray[np.int64]) -> float:
    """Return the size of the gaps; the smallest positive number if there are none."""
    gaps = _gaps(scores, gold)
    gaps = gaps[np.isfinite(gaps)]
    largest = float(np.abs(gaps).max(initial=0.0)) or _TINY  # its square may be too large
    return max(float(np.sqrt(np.square(gaps / largest).mean())) * largest, _TINY)


def _differ(scores: F64, gold: NDArray[np.int64]) -> bool:
    """Return whether the choices of some example have different scores, apart from rounding."""
    largest = float(np.abs(scores[np.isfinite(scores)]).max(initial=0.0))
    return _spread(scores, gold) > max(_ROUNDING * largest, _TINY)
