from __future__ import annotations

import numpy as np
import pytest

from m2m.mix.rungs import Checks, going_on, next_check, outlook


def scores(points: list[float], noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    exact = np.array(points)
    return exact, exact[:, None] + noise * rng.standard_normal((len(points), 400))


def test_the_better_half_goes_on_best_first() -> None:
    assert going_on(*scores([0.1, 0.5, 0.3, 0.2], 1.0)) == [1, 2]
    assert going_on(*scores([0.1, 0.5, 0.3], 1.0)) == [1, 2]
    assert going_on(*scores([0.1, 0.5], 1.0)) == [1]


def test_a_contender_that_is_clearly_worse_than_the_best_stops_even_if_there_is_room() -> None:
    assert going_on(*scores([0.1, 0.9, 0.2, 0.89, 0.1, 0.1], 0.01)) == [1, 3]


def test_equal_contenders_fill_the_room_in_their_order() -> None:
    assert going_on(*scores([0.5, 0.5, 0.5, 0.5], 0.0)) == [0, 1]


def test_paired_resamples_decide_not_the_width_of_each() -> None:
    """Both move together by 1, and one is always 0.1 behind."""
    common = np.random.default_rng(0).standard_normal(400)
    points = np.array([0.5, 0.4, 0.1, 0.0])
    assert going_on(points, points[:, None] + common) == [0]


@pytest.mark.parametrize(
    ("first", "every", "start", "expected"),
    [(300, 25, 600, 750), (300, 25, 610, 750), (12, 3, 24, 30), (10, 25, 40, 50), (1, 1, 4, 5)],
)
def test_checks_are_half_an_experts_steps_apart_and_at_checkpoints(
    first: int, every: int, start: int, expected: int
) -> None:
    step = next_check(first, every, start)
    assert (step, step % every) == (expected, 0)


def test_a_training_waits_while_neither_dev_score_nor_held_out_loss_improves() -> None:
    dev = np.array([0.1, 0.3, 0.2, 0.3])
    assert Checks(dev, [None] * 4).best == 1, "of equals the first"
    assert Checks(dev, [None] * 4).waited == 2
    assert Checks(dev, [2.0, 1.0, 0.9, 1.1]).waited == 1, "the loss still fell"
    assert Checks(dev[:1], [2.0]).waited == 0
    assert Checks(dev, [None] * 4, rungs=3).waited == 1, "the last training has its own checks"


STEPS = [100, 300, 450, 600, 750, 900, 1200]


def gains_of(points: np.ndarray, replicates: np.ndarray, best: int) -> np.ndarray:
    """Of a straight line in another's fit, whose slope is as uncertain as it is large."""
    line = np.polynomial.Polynomial.fit(np.log2(STEPS[1:]), points[1:], 1).convert()
    errors = abs(line.coef[1]) * np.random.default_rng(0).standard_normal(replicates.shape[1])
    found = []
    for each, error in zip(replicates.T, errors, strict=True):
        own = np.polynomial.Polynomial.fit(np.log2(STEPS[1:]), each[1:], 1)
        found.append(max(0.0, own(np.log2(2400)) + error - each[best]))
    return np.array(found)


def test_the_outlook_continues_a_line_over_the_logarithm_of_the_steps() -> None:
    """Against NumPy's polynomial fit, for the points and for each resample."""
    rng = np.random.default_rng(1)
    points = 0.2 * np.log2(STEPS) + 0.01 * rng.standard_normal(len(STEPS))
    replicates = points[:, None] + 0.05 * rng.standard_normal((len(STEPS), 500))
    best = int(np.argmax(points))
    found = outlook(STEPS, points, replicates, best)
    assert found is not None
    line = np.polynomial.Polynomial.fit(np.log2(STEPS[1:]), points[1:], 1)
    assert found.estimate == pytest.approx(line(np.log2(2400)) - points[best])
    expected = np.quantile(gains_of(points, replicates, best), (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_between_guessing_and_perfect_the_line_is_one_of_log_odds() -> None:
    """An S-shaped curve of 0.25 to 1 goes on as it is, and never beyond perfect."""
    curve = 0.25 + 0.75 / (1.0 + np.exp(-(1.5 * np.log2(STEPS) - 15.0)))
    found = outlook(STEPS, curve, np.tile(curve[:, None], (1, 400)), 6, (0.25, 1.0))
    assert found is not None
    later = 0.25 + 0.75 / (1.0 + np.exp(-(1.5 * np.log2(2400) - 15.0)))
    assert found.estimate == pytest.approx(later - curve[-1])
    assert 0.0 <= found.low < found.estimate < found.high < 1.0 - curve[-1]
    flat = np.full(len(STEPS), 0.6)
    found = outlook(STEPS, flat, np.tile(flat[:, None], (1, 400)), 0, (0.25, 1.0))
    assert found is not None
    assert found.estimate == pytest.approx(0.0)
    assert 0.25 < found.high < 0.35, "nobody knows that it stays flat"


def test_the_outlook_is_never_a_loss_and_needs_three_checks() -> None:
    falling = np.array([0.9, 0.8, 0.7, 0.6])
    found = outlook([300, 450, 600, 750], falling, np.tile(falling[:, None], (1, 50)), 0)
    assert found is not None
    assert (found.estimate, found.low) == (0.0, 0.0)
    rising = np.array([0.1, 0.5, 0.9, 1.3])
    replicates = np.tile(rising[:, None], (1, 50))
    found = outlook([300, 450, 600, 750], rising, replicates, 3, (-np.inf, 2.0))
    assert found is not None
    assert found.estimate == found.high == pytest.approx(0.7), "no better than perfect"
    assert outlook([100, 900, 1200], falling[:3], falling[:3, None], 0) is None
