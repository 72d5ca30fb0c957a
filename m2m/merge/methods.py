"""Merge methods: pure functions from one projection's experts to one delta, each under its name.

A method gets the experts' LoRA pairs of one weight, their mixture weights, the recipe's `[merge]`
and a random generator for this weight. It returns the merged delta (out, in) in the experts' dtype,
or two factors of that product, from which a few rows can be made at a time. `merger` does the
reading and streaming and limits memory. It also applies `[merge] scale`: in every method a factor
on the weights is a factor on the delta.

An expert alone at weight 1 stays as it is in `linear` and `slerp`, and in the other methods at
density 1; at a lower density they drop a part of it, which is their purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.nn.lora import LoraPair, concat_pairs, lora_delta
from m2m.recipe import MERGE_METHODS, Merge

Delta = NDArray[np.floating]
Pairs = Sequence[LoraPair]
Weights = Sequence[float]
Random = np.random.Generator
Method = Callable[[Pairs, Weights, Merge, Random], Delta | LoraPair]

_PARALLEL = 1e-3  # sine of the angle below which the chord replaces the arc


def find_method(name: str) -> Method:
    """Return the function of this module with the name of a merge method.

    Raises:
        InputError: no method has that name.
    """
    if name not in MERGE_METHODS:
        raise InputError(f"unknown merge method {name!r}", f"known are {', '.join(MERGE_METHODS)}")
    method: Method = globals()[name]
    return method


def linear(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> LoraPair:
    """Return the weighted sum of the deltas, sum_i w_i * scale_i * B_i @ A_i.

    With weights that sum to 1 it is the mean of Merge to Mix (arXiv 2505.16066). Task arithmetic
    (arXiv 2212.04089) is the same sum; its lambda is `[merge] scale`.

    The products are summed, never A and B separately: one product of the concatenated factors,
    [w_1 scale_1 B_1, w_2 scale_2 B_2, ...] @ [A_1; A_2; ...], is that sum exactly.
    """
    return concat_pairs(pairs, weights)


task_arithmetic = linear


def ties(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Trim to the largest values, elect signs, and return the mean of the values that agree.

    TIES-Merging, arXiv 2306.01708, algorithm 1; `density` is its k.
    """
    return _agreed([_band(lora_delta(pair), options.density) for pair in pairs], weights)


def dare_linear(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Drop values at random, divide the rest by `density`, sum (DARE, arXiv 2311.03099)."""
    return _total((_thinned(lora_delta(pair), options.density, rng) for pair in pairs), weights)


def dare_ties(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Drop values at random as DARE does (arXiv 2311.03099), then elect signs as TIES does."""
    return _agreed([_thinned(lora_delta(pair), options.density, rng) for pair in pairs], weights)


def della(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Drop values at random but keep large ones more often, elect signs (DELLA, arXiv 2406.11617).

    The value of rank r among the n of its row, smallest first, is kept with probability
    density + epsilon * ((r + 1/2) / n - 1/2) and divided by it.
    """
    thinned = []
    for pair in pairs:
        delta = lora_delta(pair)
        chances = _ranked_chances(delta, options.density, options.epsilon)
        thinned.append(_thinned(delta, chances, rng))
    return _agreed(thinned, weights)


def breadcrumbs(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Drop the smallest values and the largest, sum the rest (Model Breadcrumbs, arXiv 2312.06795).

    A fraction `gamma` is dropped from the top, if `density` leaves room, and the rest from below.
    """
    parts = (_band(lora_delta(pair), options.density, options.gamma) for pair in pairs)
    return _total(parts, weights)


def slerp(pairs: Pairs, weights: Weights, options: Merge, rng: Random) -> Delta:
    """Return a point on the arc between two deltas (Shoemake 1985, doi 10.1145/325165.325242).

    With the angle W between them and t = w_2 / (w_1 + w_2) it is
    (w_1 + w_2) * (sin((1 - t) W) d_1 + sin(t W) d_2) / sin W; parallel deltas are summed.

    Raises:
        InputError: there are more than two deltas.
    """
    if len(pairs) > 2:
        raise InputError(
            f"slerp merges two adapters, found {len(pairs)}",
            "set [search] max_datasets = 2, or choose another merge method",
        )
    deltas, whole = [lora_delta(pair) for pair in pairs], math.fsum(weights)
    lengths = math.prod(float(np.linalg.norm(delta)) for delta in deltas)
    cosine = float(np.vdot(deltas[0], deltas[-1])) / lengths if lengths else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine))) if len(pairs) == 2 else 0.0
    if math.sin(angle) < _PARALLEL or not whole:
        return _total(deltas, weights)
    factors = [math.sin(weight / whole * angle) / math.sin(angle) for weight in weights]
    return _total(deltas, [whole * factor for factor in factors])


def _total(parts: Iterable[Delta], weights: Sequence[float]) -> Delta:
    """Return the weighted sum, adding one part at a time."""
    total: Delta | None = None
    for part, weight in zip(parts, weights, strict=True):
        scaled = part * part.dtype.type(weight)
        total = scaled if total is None else np.add(total, scaled, out=total)
    if total is None:
        raise ValueError("nothing to merge")
    return total


def _agreed(parts: Sequence[Delta], weights: Sequence[float]) -> Delta:
    """Return the weighted mean, per value, of the parts that have the sign of the weighted sum.

    It is multiplied by the sum of the weights: mixtures that sum to 1 get TIES' disjoint mean,
    and parts that agree everywhere are merged as in `linear`.
    """
    elected = np.sign(_total(parts, weights))
    merged, fraction = np.zeros_like(elected), np.zeros_like(elected)
    whole = math.fsum(map(abs, weights)) or 1.0
    for part, weight in zip(parts, weights, strict=True):
        scaled = part * part.dtype.type(weight)
        agrees = np.sign(scaled) * elected > 0
        np.add(merged, scaled, out=merged, where=agrees)
        fraction[agrees] += abs(weight) / whole
    return np.divide(merged, fraction, out=merged, where=fraction > 0)


def _band(delta: Delta, density: float, outliers: float = 0.0) -> Delta:
    """Set all values to zero except a fraction `density` with the largest magnitudes.

    First, a fraction `outliers` is dropped from the top, as far as `density` leaves room for it.
    """
    kept = int(density * delta.size)
    top = delta.size - min(int(outliers * delta.size), delta.size - kept)
    if kept == delta.size:
        return delta
    if not kept:
        return np.zeros_like(delta)
    sizes = np.abs(delta)
    ordered = np.partition(sizes, (top - kept, top - 1), axis=None)
    low, high = ordered[top - kept], ordered[top - 1]
    return np.where((sizes >= low) & (sizes <= high), delta, delta.dtype.type(0))


def _thinned(delta: Delta, chance: float | Delta, rng: np.random.Generator) -> Delta:
    """Keep each value with its chance, divided by that chance, so that its expectation stays."""
    kept = rng.random(delta.shape, np.float32) < chance
    return np.divide(delta, chance, out=np.zeros_like(delta), where=kept)


def _ranked_chances(delta: Delta, density: float, epsilon: float) -> Delta:
    """Return chances of about density - epsilon / 2 to density + epsilon / 2, by rank in a row."""
    columns = delta.shape[1]
    width = min(epsilon, 2 * density, 2 * (1 - density))  # keeps all chances between 0 and 1
    rising = density + width * ((np.arange(columns) + 0.5) / columns - 0.5)
    chances = np.empty_like(delta)
    order = np.argsort(np.abs(delta), axis=1)
    np.put_along_axis(chances, order, rising[None].astype(delta.dtype), axis=1)
    return chances
