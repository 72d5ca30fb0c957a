from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded
from m2m.mix.mixture import Mixture
from m2m.mix.scoreboard import Objective, pareto, scoreboard
from m2m.mix.trial import Trial

AIMS = (Objective("up", METRICS["accuracy"]), Objective("down", METRICS["bits_per_byte"]))


def trial(name: str, right: int, bits: float) -> Trial:
    """Of ten questions so many are right; the text takes so many bits a byte."""
    loglik = np.array([[0.0, -1.0] if i < right else [-1.0, 0.0] for i in range(10)])
    sizes, gold = padded([[4.0, 4.0]] * 10), np.zeros(10, dtype=int)
    choices = Scores("choices", loglik, sizes, sizes, gold)
    nats = np.array([[-8.0 * bits * np.log(2)]] * 3)
    eight = padded([[8.0]] * 3)
    text = Scores("text", nats, eight, eight, np.zeros(3, dtype=int))
    return Trial(Mixture((name,), (1.0,)), {"up": choices, "down": text}, {}, 1, 0.0)


TRIALS = [trial("a", 9, 2.0), trial("b", 5, 1.0), trial("c", 5, 1.5), trial("d", 9, 2.5)]


def names(trials: list[Trial], objectives: tuple[Objective, ...] = AIMS) -> list[str]:
    return [each.mixture.label for each, _ in pareto(trials, objectives)]


def test_the_front_is_what_nothing_beats_without_losing_elsewhere() -> None:
    front = pareto(TRIALS, AIMS)
    assert [each.mixture.label for each, _ in front] == ["a", "b"]
    assert front[0][1] == pytest.approx({"up": 0.9, "down": 2.0})
    assert front[1][1] == pytest.approx({"up": 0.5, "down": 1.0})


def test_on_one_target_the_front_is_the_best_with_its_equals() -> None:
    assert names(TRIALS, AIMS[:1]) == ["a", "d"]
    assert names(TRIALS, AIMS[1:]) == ["b"]


def test_equals_stand_on_the_front_together() -> None:
    assert names([*TRIALS, trial("e", 9, 2.0)]) == ["a", "b", "e"]


def test_what_was_scored_in_part_cannot_stand_on_the_front() -> None:
    part = replace(trial("f", 10, 0.5), places={"up": (0, 1)})
    assert names([*TRIALS, part]) == ["a", "b"]
    assert pareto([part], AIMS) == []


def test_the_weighted_mean_is_of_standardised_scores() -> None:
    """Doubling the unit of a target changes nothing; its weight does."""
    wide = [replace(each, scores=each.scores | {"down": _twice(each)}) for each in TRIALS]
    plain = scoreboard(TRIALS, AIMS, seed=0)
    assert scoreboard(wide, AIMS, seed=0).points == pytest.approx(plain.points)
    assert plain.higher_is_better
    heavy = scoreboard(TRIALS, (replace(AIMS[0], weight=9.0), AIMS[1]), seed=0)
    light = scoreboard(TRIALS, (replace(AIMS[0], weight=0.1), AIMS[1]), seed=0)
    assert (heavy.best, light.best) == (0, 1)


def _twice(each: Trial) -> Scores:
    return replace(each.scores["down"], loglik=each.scores["down"].loglik * 2)
