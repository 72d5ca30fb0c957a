"""Compute each dataset's effect and which pairs help each other, from all mixtures or from a few.

If every mixture was scored, the worth of a dataset is the mean difference that it makes, its
Banzhaf value; if the mixtures have a largest size, it is the mean over those that the dataset can
still be added to. If only some were scored, a second-order model of the scores is fitted by ridge
regression (main effects and pairs over which datasets are in); its Banzhaf values are the best
guess at the true ones (Hammer and Holzman 1992). Intervals come from the resamples of the examples,
and in the second case also from the variance that the model leaves unexplained.

A result only counts as an effect if its interval excludes zero, and if it is at least `SMALLEST` of
the largest change that any mixture made to the base's score: less does not matter for the choice.
If guessing has a score on a target, nothing is claimed if no mixture is better than guessing. Pairs
at an end of the metric's scale are left out. If one dataset alone does not beat guessing, the pair
would look better than expected, because scores cannot fall below that floor. If a pair's expected
score is beyond the best possible one, the pair would look worse.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from m2m.arrays import F64
from m2m.formats.json_fields import Inline, JsonFields
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import CONFIDENCE, Interval, dataset_worth, percentiles

VERDICTS = {1: "helpful", -1: "harmful", 0: "neutral"}
UNKNOWN = "unknown"  # no mixture is better than guessing
SMALLEST = 0.05  # of the largest change
STRONGEST = 3
RIDGE = 1e-2  # prior precision of an effect, in units of the residual's


@dataclass(frozen=True)
class Interaction(JsonFields):
    """The effect of two datasets together beyond that of each; it counts from `smallest` on."""

    datasets: tuple[str, str]
    effect: Inline[Interval]
    smallest: float = 0.0

    @property
    def verdict(self) -> str:
        """Return the verdict for people, to follow the names of the two."""
        sign = self.effect.sign if abs(self.effect.estimate) >= self.smallest else 0
        return {
            1: "do better than expected",
            -1: "do worse than expected",
            0: "show no clear effect on each other",
        }[sign]

    @property
    def words(self) -> str:
        """Return names and verdict for people."""
        one, other = self.datasets
        return f"{one} and {other} together {self.verdict}: {self.effect.signed}"

    def as_json(self) -> dict[str, Any]:
        """Return `{"datasets", "estimate", "ci95", "words"}`."""
        return {"datasets": list(self.datasets), **self.effect.as_json(), "words": self.words}


@dataclass(frozen=True)
class Worth:
    """The worth of all datasets, with the strongest interactions first.

    Attributes:
        verdicts: "helpful", "harmful", "neutral" or "unknown", by dataset.
        smallest: the smallest effect that counts.
        left_out: how many pairs are at an end of the metric's scale.
    """

    datasets: Mapping[str, Interval]
    interactions: Sequence[Interaction]
    verdicts: Mapping[str, str]
    smallest: float
    left_out: int


def worth(
    mixtures: Sequence[Mixture],
    points: F64,
    replicates: F64,
    higher_is_better: bool = True,
    *,
    above: Collection[Mixture] | None = None,
    best: float | None = None,
    seed: int = 0,
) -> Worth:
    """Return the datasets' worth and interactions, positive if they help.

    Args:
        mixtures: n of them, the base among them.
        points: (n,) scores.
        replicates: (n, R) on the same resamples.
        higher_is_better: the direction of the metric.
        above: the mixtures that are better than guessing; None if guessing has no score.
        best: the best possible score; None if there is none.
        seed: of the draws that stand for the unexplained variance of a model.
    """
    sign = 1.0 if higher_is_better else -1.0
    names = list(dict.fromkeys(name for mixture in mixtures for name in mixture.datasets))
    values = sign * np.column_stack([points, replicates])
    known = {frozenset(mixture.datasets): i for i, mixture in enumerate(mixtures)}
    limit = math.inf if best is None else sign * best
    every = list(combinations(names, 2))
    pairs = [p for p in every if _inside(p, known, values[:, 0], above, limit)]
    left_out = len(every) - len(pairs)
    largest = max(map(len, known))
    if len(known) == sum(comb(len(names), size) for size in range(largest + 1)):
        alone = dataset_worth(mixtures, points, replicates, higher_is_better)
        interactions = {pair: _together(known, pair, values) for pair in pairs}
        both = {pair: effect for pair, effect in interactions.items() if effect is not None}
        strongest = _strongest([*both], [*both.values()])
        return _claims(Worth(alone, strongest, {}, 0.0, left_out), known, values[:, 0], above)
    effects, together = _fitted(mixtures, names, pairs, values, np.random.default_rng(seed))
    low, high = percentiles(effects[:, 1:])
    alone = {
        name: Interval(float(row[0]), float(below), float(above))
        for name, row, below, above in zip(names, effects, low, high, strict=True)
    }
    strongest = _strongest(pairs, list(together))
    return _claims(Worth(alone, strongest, {}, 0.0, left_out), known, values[:, 0], above)


def _inside(
    pair: tuple[str, str],
    known: Mapping[frozenset[str], int],
    points: F64,
    above: Collection[Mixture] | None,
    best: float,
) -> bool:
    """Return whether a pair is away from both ends of the scale; higher points are better."""
    if above is not None and not all(Mixture.uniform([name]) in above for name in pair):
        return False
    one, other, base = (known.get(frozenset(names)) for names in ([pair[0]], [pair[1]], []))
    if one is None or other is None or base is None:
        return True
    return bool(points[one] + points[other] - points[base] <= best)


def _claims(
    effects: Worth,
    known: Mapping[frozenset[str], int],
    points: F64,
    above: Collection[Mixture] | None,
) -> Worth:
    """Return the effects, each with its verdict; see the module."""
    base = points[known[frozenset()]] if frozenset() in known else points.mean()
    smallest = SMALLEST * float(np.abs(points - base).max())
    unknown = above is not None and not above
    verdicts = {
        name: UNKNOWN if unknown else VERDICTS[span.sign * (abs(span.estimate) >= smallest)]
        for name, span in effects.datasets.items()
    }
    marked = [replace(pair, smallest=smallest) for pair in effects.interactions]
    return replace(effects, interactions=marked, verdicts=verdicts, smallest=smallest)


def _together(
    known: Mapping[frozenset[str], int], pair: tuple[str, str], values: F64
) -> F64 | None:
    """Return (1 + R,): the mean of f(ij) - f(i) - f(j) + f() over all that both can extend."""
    one, other = pair
    without = [chosen for chosen in known if chosen.isdisjoint(pair) and chosen | {*pair} in known]
    if not without:
        return None
    contrast = np.zeros(len(values))
    for chosen in without:
        for more, sign in (((), 1.0), ((one,), -1.0), ((other,), -1.0), (pair, 1.0)):
            contrast[known[chosen.union(more)]] += sign
    effect: F64 = contrast @ values / len(without)
    return effect


def _fitted(
    mixtures: Sequence[Mixture],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    values: F64,
    rng: np.random.Generator,
) -> tuple[F64, F64]:
    """Return (N, 1 + R) worth and (P, 1 + R) interactions of the second-order model.

    Membership is coded -1 or 1: a coefficient is half a Banzhaf value, or a quarter interaction.
    """
    coded = np.array(
        [[1.0 if n in mixture.datasets else -1.0 for n in names] for mixture in mixtures]
    )
    place = {name: i for i, name in enumerate(names)}
    crossed = [coded[:, place[one]] * coded[:, place[other]] for one, other in pairs]
    design = np.column_stack([np.ones(len(mixtures)), coded, *crossed])
    penalty = RIDGE * len(mixtures) * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    inverse = np.linalg.inv(design.T @ design + penalty)
    solve = inverse @ design.T
    coefficients = solve @ values
    freedom = max(len(mixtures) - float(np.trace(design @ solve)), 1.0)
    left = values[:, 0] - design @ coefficients[:, 0]
    spread = np.sqrt(float(left @ left) / freedom)
    root = np.linalg.cholesky(inverse)
    coefficients[:, 1:] += spread * root @ rng.normal(size=(len(root), values.shape[1] - 1))
    return 2 * coefficients[1 : 1 + len(names)], 4 * coefficients[1 + len(names) :]


def _strongest(pairs: Sequence[tuple[str, str]], values: Sequence[F64]) -> list[Interaction]:
    """Return the clearest interactions first; all intervals hold at once, as they are selected."""
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
