from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.evaluate.temperature import best_sharpness, cross_entropy, least_cross_entropy

seeds = st.integers(0, 10_000)


def drawn(seed: int, n: int = 12, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, k, n)
    scores = rng.standard_normal((n, k))
    scores[np.arange(n), gold] += rng.uniform(-1, 3)
    return scores, gold


def loss(scores: np.ndarray, gold: np.ndarray, weights: np.ndarray, b: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (cross_entropy(scores, gold, b) * weights).sum(axis=1) / weights.sum(axis=1)
    return mean


def test_cross_entropy_is_the_definition() -> None:
    scores, gold = drawn(0)
    share = np.exp(scores * 1.7) / np.exp(scores * 1.7).sum(axis=1, keepdims=True)
    expected = -np.log(share[np.arange(12), gold])
    np.testing.assert_allclose(cross_entropy(scores, gold, np.array([1.7]))[0], expected)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_no_other_sharpness_is_better(seed: int) -> None:
    scores, gold = drawn(seed)
    weights = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), size=5).astype(float)
    best = loss(scores, gold, weights, best_sharpness(scores, gold, weights))
    for b in [0.0, *np.geomspace(1e-3, 1e3, 61)]:
        assert (best <= loss(scores, gold, weights, np.full(5, b)) + 1e-8).all()


@settings(deadline=None)
@given(seeds, st.floats(1e-6, 1e6))
def test_scaling_the_scores_scales_it_back(seed: int, factor: float) -> None:
    scores, gold = drawn(seed)
    ones = np.ones((1, 12))
    plain, scaled = best_sharpness(scores, gold, ones), best_sharpness(scores * factor, gold, ones)
    np.testing.assert_allclose(
        loss(scores, gold, ones, plain), loss(scores * factor, gold, ones, scaled), atol=1e-9
    )


def test_guessing_is_the_worst_case_and_perfection_the_best() -> None:
    _, gold = drawn(3)
    ones = np.ones((1, 12))
    assert best_sharpness(np.zeros((12, 4)), gold, ones) == 0
    wrong = -np.eye(4)[gold]
    assert best_sharpness(wrong, gold, ones) == 0
    b = best_sharpness(np.eye(4)[gold] * 1e-3 + 5, gold, ones)
    assert loss(np.eye(4)[gold] * 1e-3 + 5, gold, ones, b) == pytest.approx(0, abs=1e-6)


def test_absent_choices_have_no_share() -> None:
    scores, gold = drawn(4, n=6, k=3)
    padded = np.concatenate([scores, np.full((6, 2), -np.inf)], axis=1)
    ones = np.ones((1, 6))
    np.testing.assert_allclose(
        best_sharpness(padded, gold, ones), best_sharpness(scores, gold, ones), rtol=1e-6
    )
    b = np.array([0.0, 2.0])
    np.testing.assert_allclose(cross_entropy(padded, gold, b), cross_entropy(scores, gold, b))
    np.testing.assert_allclose(cross_entropy(padded, gold, b)[0], np.log(3))


def test_many_resamples_are_fitted_as_each_alone() -> None:
    scores, gold = drawn(5, n=300)
    weights = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=1100)
    together = best_sharpness(scores, gold, weights.astype(float))
    alone = [best_sharpness(scores, gold, w[None].astype(float))[0] for w in weights[::100]]
    np.testing.assert_allclose(together[::100], alone, rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(-1.0, 4.0), st.floats(1e-4, 1e4))
def test_the_table_of_a_bootstrap_gives_what_fitting_each_resample_gives(
    seed: int, skill: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, 60)
    scores = rng.standard_normal((60, 4))
    scores[np.arange(60), gold] += skill
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=50).astype(float)
    exact = [least_cross_entropy(scores * scale, gold, w[None])[0] for w in weights]
    np.testing.assert_allclose(
        least_cross_entropy(scores * scale, gold, weights), exact, rtol=0, atol=1e-5
    )


ODD = {
    "equal": np.zeros((4, 3)),
    "one choice": np.full((4, 1), -2.0),
    "equal but for rounding": np.array([[-1.0, -1.0 - 1e-16], [-2.0, -2.0]] * 2),
    "as small as can be": np.array([[-5e-324, 0.0], [0.0, -5e-324]] * 2),
    "as large as F32": np.array([[-3e38, 0.0], [0.0, -3e38]] * 2),
    "missing choices": np.array([[-1.0, -np.inf, -np.inf], [-1.0, -1.0, -np.inf]] * 2),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_scores_are_fitted_without_a_warning(odd: str) -> None:
    """Warnings are errors here; guessing is the best fit to scores that say nothing."""
    scores, gold = ODD[odd], np.array([0, 0, 0, 0])
    drawn = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), size=20).astype(float)
    alone = np.array([least_cross_entropy(scores, gold, row[None])[0] for row in drawn])
    together = least_cross_entropy(scores, gold, drawn)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    guessing = (drawn @ np.log(np.isfinite(scores).sum(axis=1))) / 4
    assert (together <= guessing + 1e-12).all()
    if odd != "as large as F32":
        np.testing.assert_allclose(together, guessing)
