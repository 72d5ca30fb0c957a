from __future__ import annotations

import numpy as np
import pytest

from m2m.mix.gaussian import fit, kernel


def draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(5), count)


def truth(weights: np.ndarray) -> np.ndarray:
    """Main effects and one pair."""
    return weights @ [1.0, -0.5, 0.2, 0.0, 0.3] + 2.0 * weights[:, 0] * weights[:, 2]


def test_the_kernel_is_that_of_weights_and_their_products() -> None:
    one, other = draws(3, 0), draws(4, 1)
    features = [
        np.hstack([w, np.einsum("ni,nj->nij", w, w).reshape(len(w), -1)]) for w in (one, other)
    ]
    np.testing.assert_allclose(kernel(one, other), features[0] @ features[1].T)


def test_main_effects_and_pairs_are_learned() -> None:
    known, new = draws(80, 2), draws(50, 3)
    process = fit(known, truth(known), np.full(80, 1e-8))
    mean, spread = process.predict(new)
    np.testing.assert_allclose(mean, truth(new), atol=0.02)
    assert (spread < 0.1).all()


@pytest.mark.parametrize("error", [0.02, 0.1])
def test_the_spread_covers_the_truth_about_as_often_as_it_should(error: float) -> None:
    known, new = draws(60, 4), draws(400, 5)
    noise = np.random.default_rng(6).normal(0, error, 60)
    mean, spread = fit(known, truth(known) + noise, np.full(60, error**2)).predict(new)
    assert 0.85 < (np.abs(truth(new) - mean) < 2 * spread).mean() <= 1.0


def test_far_from_what_is_known_the_doubt_is_larger() -> None:
    known = np.hstack([draws(40, 7)[:, :2] / 2, np.zeros((40, 3))])
    process = fit(known, truth(known), np.full(40, 1e-4))
    _, near = process.predict(known)
    _, far = process.predict(np.eye(5)[3:])
    assert far.min() > near.max()
