from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from m2m.evaluate.metrics import METRICS
from m2m.mix.mixture import subsets
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.trial import Trial
from m2m.mix.warnings import (
    Deltas,
    control_warnings,
    delta_warnings,
    mixture_warnings,
    reliability,
)
from tests.mix.test_study import scores, trial

NAMES = ("a", "b", "c")
ACCURACY = Objective("t", METRICS["accuracy"])


def deltas(vectors: Sequence[Sequence[float]], base: float = 100.0) -> Deltas:
    rows = np.array(vectors)
    return Deltas(NAMES[: len(rows)], rows @ rows.T, base)


FINE = [[1.0, 0.3, 0.3], [0.3, 1.0, 0.3], [0.3, 0.3, 1.0]]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (FINE, None),
        ([[20.0, 6.0, 6.0], [6.0, 20.0, 6.0]], r"Training on a changed the model too much \(22%\)"),
        (
            [[1.0, 0.5, 0.0], [0.2, 0.1, 0.1], [0.3, 0.5, 1.0]],
            r"Training on c changed the model 4\.7 times .* on b",
        ),
        ([[1.0, 0.1, 0.0], [1.0, 0.2, 0.0], [0.3, 0.1, 1.0]], "a and b taught the model the same"),
        (
            [[1.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.1, 1.0]],
            r"unrelated things \(mean cosine 0\.0",
        ),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "the expert on b changes nothing"),
    ],
)
def test_experts_too_far_too_uneven_too_alike_and_too_different(
    vectors: Sequence[Sequence[float]], words: str | None
) -> None:
    found = delta_warnings(deltas(vectors))
    if words is None:
        assert found == []
    else:
        assert any(re.search(words, each) for each in found)


def test_many_that_are_alike_are_one_warning() -> None:
    same = [[1.0, 0.1, 0.0], [1.0, 0.1, 0.1], [1.0, 0.2, 0.0]]
    found = [each for each in delta_warnings(deltas(same)) if "the same" in each]
    assert len(found) == 1
    assert found[0].startswith("a, b and c taught the model the same (cosine at least 1.00)")


def test_a_control_among_the_best_is_a_reason() -> None:
    mixtures = list(subsets(("a", "b", "wrong")))

    def found(points: dict[str, float], noise: float) -> list[str]:
        scores = np.array([points.get(each.label, 0.0) for each in mixtures])
        drawn = np.random.default_rng(0).normal(0, noise, (len(scores), 200))
        return control_warnings(rank(mixtures, scores, scores[:, None] + drawn), {"wrong"})

    assert found({"a": 1.0, "b": 0.5}, 0.01) == []
    assert found({"a": 1.0, "a + wrong": 0.99}, 0.1) == [], "a mixture may be good in spite of it"
    (alone,) = found({"a": 1.0, "wrong": 0.95}, 0.1)
    assert alone.startswith("wrong has answers that are wrong on purpose")
    (best,) = found({"a + wrong": 1.0}, 0.01)
    assert best.startswith("a + wrong has answers")


def test_orthogonal_experts_are_no_reason_where_their_merge_is_as_long_as_they() -> None:
    apart = deltas([[1.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.1, 1.0]])
    assert delta_warnings(apart, growth=0.0) != []
    assert delta_warnings(apart, growth=0.5) == []


def noisy(spread: float, examples: int, seed: int = 0) -> list[Trial]:
    """31 mixtures whose skills lie `spread` apart, each with its own luck."""
    return [
        trial(mixture, scores(2.0 + spread * place, 100 * seed + place, examples))
        for place, mixture in enumerate(subsets("abcde"))
    ]


def test_too_few_examples_are_told_with_the_number_that_would_do() -> None:
    few = noisy(0.02, 60)
    (warning,) = (each for each in mixture_warnings(few, [ACCURACY]) if "dev questions" in each)
    wanted = int(re.findall(r"about (\d+) would", warning)[0])
    assert wanted > 60
    enough = [noisy(0.02, wanted, seed) for seed in range(1, 4)]
    shares = [reliability(scoreboard(trials, [ACCURACY], 0)) for trials in enough]
    assert np.mean(shares) == pytest.approx(0.8, abs=0.12)
    assert not any(
        "dev questions are few" in each for each in mixture_warnings(noisy(0.1, 400), [ACCURACY])
    )


def test_mixtures_without_any_difference_get_no_number() -> None:
    same = [trial(mixture, scores(2.0, place, 50)) for place, mixture in enumerate(subsets("abcd"))]
    found = [each for each in mixture_warnings(same, [ACCURACY]) if "luck" in each]
    assert len(found) == 1
    shares = re.findall(r"(\d+)% of the differences", found[0])
    assert int(shares[0]) > 60 if shares else "are only luck" in found[0]
