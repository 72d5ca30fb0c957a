"""What each dataset adds, and which two help each other: from a few mixtures as from all.

Where every mixture was scored, the worth of a dataset is the mean difference that it makes, its
Banzhaf value; where they are of so many datasets at most, the mean over those that it can still be
added to. Where only some were scored, a second-order model of the scores is fitted by ridge
regression (main effects and pairs over which datasets are in); its Banzhaf values are the best
guess at the true ones (Hammer and Holzman 1992). Intervals come from the resamples of the examples,
and in the second case also from what the model leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.mix.mixture import Mixture
from m2m.mix.ranking import CONFIDENCE, Interval, dataset_worth, percentiles

Floats = NDArray[np.float64]
VERDICTS = {1: "helpful", -1: "harmful", 0: "neutral"}
STRONGEST = 3
RIDGE = 1e-2  # prior precision of an effect, in units of the residual's


@dataclass(frozen=True)
class Interaction:
    """What two datasets add together beyond what each adds by itself."""

    datasets: tuple[str, str]
    effect: Interval

    @property
    def words(self) -> str:
        """For people."""
        one, other = self.datasets
        what = {
            1: "are worth more together than apart",
            -1: "get in each other's way",
            0: "show no clear interaction",
        }[self.effect.sign]
        return f"{one} and {other} {what}: {self.effect.signed}"

    def as_json(self) -> dict[str, Any]:
        """`{"datasets", "estimate", "ci95", "words"}`."""
        return {"datasets": list(self.datasets), **self.effect.as_json(), "words": self.words}


@dataclass(frozen=True)
class Worth:
    """Of all datasets, with the strongest interactions first."""

    datasets: Mapping[str, Interval]
    interactions: Sequence[Interaction]


def worth(
    mixtures: Sequence[Mixture],
    points: Floats,
    replicates: Floats,
    higher_is_better: bool = True,
    *,
    seed: int = 0,
) -> Worth:
    """The datasets' worth and interactions, positive where they help.

    Args:
        mixtures: n of them, the base among them.
        points: (n,) scores.
        replicates: (n, R) on the same resamples.
        higher_is_better: the direction of the metric.
        seed: of the draws that stand for what a model does not explain.
    """
    sign = 1.0 if higher_is_better else -1.0
    names = list(dict.fromkeys(name for mixture in mixtures for name in mixture.datasets))
    values = sign * np.column_stack([points, replicates])
    known = {frozenset(mixture.datasets): i for i, mixture in enumerate(mixtures)}
    pairs = list(combinations(names, 2))
    if len(known) == _subsets(len(names), max(map(len, known))):
        alone = dataset_worth(mixtures, points, replicates, higher_is_better)
        found = {pair: _together(known, pair, values) for pair in pairs}
        both = {pair: effect for pair, effect in found.items() if effect is not None}
        return Worth(alone, _strongest([*both], [*both.values()]))
    effects, together = _fitted(mixtures, names, pairs, values, np.random.default_rng(seed))
    low, high = percentiles(effects[:, 1:])
    alone = {
        name: Interval(float(row[0]), float(below), float(above))
        for name, row, below, above in zip(names, effects, low, high, strict=True)
    }
    return Worth(alone, _strongest(pairs, list(together)))


def _subsets(names: int, largest: int) -> int:
    """How many there are of so many names, of `largest` at most."""
    return sum(comb(names, size) for size in range(largest + 1))


def _together(
    known: Mapping[frozenset[str], int], pair: tuple[str, str], values: Floats
) -> Floats | None:
    """(1 + R,): the mean of f(ij) - f(i) - f(j) + f() over all that both can be added to."""
    one, other = pair
    without = [chosen for chosen in known if chosen.isdisjoint(pair) and chosen | {*pair} in known]
    if not without:
        return None
    contrast = np.zeros(len(values))
    for chosen in without:
        for more, sign in (((), 1.0), ((one,), -1.0), ((other,), -1.0), (pair, 1.0)):
            contrast[known[chosen.union(more)]] += sign
    effect: Floats = contrast @ values / len(without)
    return effect


def _fitted(
    mixtures: Sequence[Mixture],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    values: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """(N, 1 + R) worth and (P, 1 + R) interactions of the second-order model.

    Coded -1 and 1, so that a coefficient is half a Banzhaf value, or a quarter of an interaction.
    """
    coded = np.array([[1.0 if n in each.datasets else -1.0 for n in names] for each in mixtures])
    place = {name: i for i, name in enumerate(names)}
    crossed = [coded[:, place[one]] * coded[:, place[other]] for one, other in pairs]
    design = np.column_stack([np.ones(len(mixtures)), coded, *crossed])
    penalty = RIDGE * len(mixtures) * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    inverse = np.linalg.inv(design.T @ design + penalty)
    solve = inverse @ design.T
    found = solve @ values
    freedom = max(len(mixtures) - float(np.trace(design @ solve)), 1.0)
    left = values[:, 0] - design @ found[:, 0]
    spread = np.sqrt(float(left @ left) / freedom)
    root = np.linalg.cholesky(inverse)
    found[:, 1:] += spread * root @ rng.normal(size=(len(root), values.shape[1] - 1))
    return 2 * found[1 : 1 + len(names)], 4 * found[1 + len(names) :]


def _strongest(pairs: Sequence[tuple[str, str]], values: Sequence[Floats]) -> list[Interaction]:
    """The clearest interactions first; all intervals hold at once, for the clearest are chosen."""
    if not pairs:
        return []
    drawn = np.stack(values)
    points, noise = drawn[:, 0], drawn[:, 1:] - drawn[:, 1:].mean(axis=1, keepdims=True)
    spread = noise.std(axis=1)
    scale = np.where(spread > 0, spread, 1.0)
    reach = spread * np.quantile(np.abs(noise / scale[:, None]).max(axis=0), CONFIDENCE)
    order = np.argsort(-np.abs(points) / scale)[:STRONGEST]
    return [
        Interaction(
            pairs[i],
            Interval(float(points[i]), float(points[i] - reach[i]), float(points[i] + reach[i])),
        )
        for i in order
    ]
