"""Rankings with nothing merged: the rivals that cost nothing once experts are scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from m2m.formats.json_fields import Inline, JsonFields, OrUnknown
from m2m.mix.agreement import LEAST, ScoredPair, correlation, ranks
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Ranked
from m2m.mix.rival_predictors import RIVALS, KnownScores
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Trial

_DRAWS = 2  # resamples; only the points are used


@dataclass(frozen=True)
class Unmerged(JsonFields):
    """The pick of one rival, and how its ranking agrees with the merge's.

    Attributes:
        name: of the rival.
        mixture: its pick among the ranked mixtures.
        rank: of that pick in the merge's ranking.
        compared: number of mixtures of two datasets or more that were merged and scored in full.
        spearman: rank correlation of its predictions with these mixtures' scores; nan for under
            four.
    """

    name: str
    mixture: Inline[Mixture]
    rank: int
    compared: int
    spearman: OrUnknown

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `data` is not from `as_json`.
        """
        read = super().from_json(data)
        if read.name not in RIVALS:
            raise ValueError(f'no rival is called "{read.name:.80}"')
        return read


def unmerged(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    growth: float,
    seed: int,
    places: Sequence[Ranked],
) -> list[Unmerged]:
    """Return the predictions of rivals that cost nothing; empty if an expert is not scored in full.

    Args:
        trials: all scored mixtures, the base among them.
        objectives: targets with their metrics.
        growth: the recipe's exponent.
        seed: of the resamples.
        places: the merge's ranking.
    """
    complete = {trial.mixture: trial for trial in trials if trial.complete}
    names = {name: None for place in places for name in place.mixture.datasets}
    singles = {name: complete.get(Mixture.uniform([name])) for name in names}
    scored = {name: trial for name, trial in singles.items() if trial}
    if BASE not in complete or len(scored) < len(names):
        return []
    known = KnownScores(complete[BASE], scored, objectives, growth, seed)
    candidates = [place.mixture for place in places]
    full = [i for i, each in enumerate(candidates) if len(each.datasets) > 1 and each in complete]
    merged = known.scored([complete[candidates[i]] for i in full], _DRAWS) if full else None
    found = []
    for name, rival in RIVALS.items():
        predict = rival.predict if rival.free else None
        predicted = predict(known, candidates, _DRAWS) if predict else None
        if predicted:
            best = int(np.argmax(predicted.points))
            agreement = _agreement(predicted, merged, full)
            found.append(Unmerged(name, candidates[best], places[best].rank, len(full), agreement))
    return found


def _agreement(predicted: ScoredPair, merged: ScoredPair | None, places: Sequence[int]) -> float:
    """Return Spearman's correlation of predictions and merges, nan for few mixtures."""
    if merged is None or len(places) < LEAST:
        return math.nan
    guess = predicted.points[np.array(places)]
    return float(correlation(ranks(guess[None]), ranks(merged.points[None]))[0])
