from __future__ import annotations

import numpy as np
import pytest

from m2m.mix.preference import krippendorff_alpha, win_rate

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve
# units, missing values.
OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_alpha_is_the_published_one() -> None:
    units = [[v for v in unit if v != "."] for unit in zip(*OBSERVERS, strict=True)]
    found = krippendorff_alpha(units, rng())
    assert found is not None
    assert found.estimate == pytest.approx(0.743, abs=0.0005)
    assert found.low < found.estimate < found.high <= 1


def test_alpha_of_random_answers_is_that_of_the_package_krippendorff() -> None:
    drawn = np.random.default_rng(5).integers(0, 4, (3, 30))
    drawn[:, :10] = drawn[0, :10]
    found = krippendorff_alpha([[*map(str, unit)] for unit in drawn.T], rng())
    assert found is not None
    assert found.estimate == pytest.approx(0.3505804311774462, abs=1e-12)


@pytest.mark.parametrize("units", [[], [["a"], ["b"]], [["a", "a"], ["a", "a", "a"]]])
def test_without_different_answers_there_is_no_alpha(units: list[list[str]]) -> None:
    assert krippendorff_alpha(units, rng()) is None


def test_the_interval_of_a_win_rate_is_that_of_a_proportion() -> None:
    outcomes = np.array([1.0] * 60 + [0.0] * 40)
    found = win_rate(outcomes, range(100), rng())
    assert found.estimate == 0.6
    error = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.6 - error, 0.6 + error), abs=0.02)


def test_pairs_of_one_question_count_as_one_draw() -> None:
    outcomes = np.array([1.0, 1.0, 0.0, 0.0] * 10)
    alone = win_rate(outcomes, range(40), rng())
    together = win_rate(outcomes, [i // 2 for i in range(40)], rng())
    assert together.high - together.low == pytest.approx(
        2**0.5 * (alone.high - alone.low), rel=0.15
    )
