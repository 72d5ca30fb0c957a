"""Mixtures whose true scores are known: a small world that strategies are let loose on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded
from m2m.mix.mixture import Mixture
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Places, Trial

BITS = Objective("t", METRICS["choice_bits"])


class World:
    """Four choices an example; each dataset moves the right one by its effect, near-linearly.

    Args:
        effects: nats that a dataset at weight 1 adds to the right choice on average.
        pairs: nats that two datasets together add, times both weights.
        examples: of each target.
        targets: names, each with examples of its own.
        growth: of the merged deltas with the number of datasets.
    """

    def __init__(
        self,
        effects: Mapping[str, float],
        pairs: Mapping[tuple[str, str], float] | None = None,
        examples: int = 48,
        targets: Sequence[str] = ("t",),
        seed: int = 0,
        growth: float = 0.0,
    ) -> None:
        self.growth = growth
        rng = np.random.default_rng(seed)
        self.effects, self.pairs = dict(effects), dict(pairs or {})
        self.examples = dict.fromkeys(targets, examples)
        self.calls: list[tuple[str, Places]] = []
        self._base = {name: rng.normal(-20, 1.0, (examples, 4)) for name in targets}
        self._gold = {name: rng.integers(4, size=examples) for name in targets}
        self._lean = {
            (name, each): rng.normal(0, 0.7, (examples, 4)) for name in targets for each in effects
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.effects)

    def lift(self, mixture: Mixture) -> float:
        """Nats by which the right choice is ahead on average: the true score in other words."""
        weight = self._coefficients(mixture)
        alone = sum(w * self.effects[name] for name, w in weight.items())
        both = sum(
            effect * weight.get(a, 0.0) * weight.get(b, 0.0)
            for (a, b), effect in self.pairs.items()
        )
        return alone + both

    def _coefficients(self, mixture: Mixture) -> dict[str, float]:
        return dict(zip(mixture.datasets, mixture.coefficients(self.growth), strict=True))

    def key(self, mixture: Mixture) -> str:
        return f"{mixture.label} {mixture.weights}"

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        every = {name: tuple(range(count)) for name, count in self.examples.items()}
        wanted = {name: some for name, some in (places or every).items() if some}
        count = sum(map(len, wanted.values()))
        self.calls.append((mixture.label, wanted))
        scores = {name: self._scores(name, mixture).take(some) for name, some in wanted.items()}
        kept = {} if wanted == every else wanted
        return Trial(mixture, scores, {}, 30 + 25 * count, 0.0, kept)

    def _scores(self, target: str, mixture: Mixture) -> Scores:
        loglik, gold = self._base[target].copy(), self._gold[target]
        for name, weight in self._coefficients(mixture).items():
            loglik += weight * self._lean[target, name]
        own = np.random.default_rng(zlib.crc32(self.key(mixture).encode()))
        loglik += own.normal(0, 0.2, loglik.shape) * bool(mixture.datasets)
        loglik[np.arange(len(gold)), gold] += self.lift(mixture)
        size = [[10.0] * 4] * len(gold)
        return Scores("choices", loglik, padded(size), padded(size), gold)
