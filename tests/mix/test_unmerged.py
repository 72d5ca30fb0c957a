from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m2m.mix.estimate import FirstOrder
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.ranking import Ranked, rank
from m2m.mix.scoreboard import scoreboard
from m2m.mix.trial import Trial
from m2m.mix.unmerged import unmerged
from tests.mix.test_rival_predictors import NAMES, known

GROWTH = 0.5


def merged() -> tuple[list[Trial], list[Ranked]]:
    """Merges that are exactly what first order says, and their ranking."""
    of = known(growth=GROWTH)
    trials = [of.base, *of.singles.values()]
    model = FirstOrder.of(trials, "task", GROWTH)
    assert model
    for mixture in subsets(NAMES):
        scores = model.predict(mixture)
        assert scores
        if len(mixture.datasets) > 1:
            trials.append(replace(of.base, mixture=mixture, scores={"task": scores}))
    board = scoreboard(trials[1:], of.objectives, 0)
    places = rank([*board.mixtures], board.points, board.replicates, True, [60] * len(trials[1:]))
    return trials, places


def test_first_order_agrees_with_merges_that_are_first_order() -> None:
    trials, places = merged()
    found = {row.name: row for row in unmerged(trials, known().objectives, GROWTH, 0, places)}
    assert {*found} == {"first_order", "probabilities", "probabilities_per_byte", "mean_of_singles"}
    first = found["first_order"]
    assert (first.mixture, first.rank, first.compared) == (places[0].mixture, 1, 4)
    assert first.spearman == pytest.approx(1.0)
    for row in found.values():
        assert [place.rank for place in places if place.mixture == row.mixture] == [row.rank]


def test_only_merges_that_were_scored_in_full_are_compared() -> None:
    """The scores of the others are estimated with first order, and would agree with it."""
    trials, places = merged()
    some = {"task": tuple(range(6))}
    partial = [
        trial.take(some) if trial.mixture == Mixture.uniform("ab") else trial for trial in trials
    ]
    found = unmerged(partial, known().objectives, GROWTH, 0, places)
    assert {row.compared for row in found} == {3}
    assert np.isnan([row.spearman for row in found]).all()


@pytest.mark.parametrize("missing", [BASE, Mixture.uniform("b")])
def test_without_the_base_or_an_expert_nothing_is_predicted(missing: Mixture) -> None:
    trials, places = merged()
    left = [trial for trial in trials if trial.mixture != missing]
    assert unmerged(left, known().objectives, GROWTH, 0, places) == []
