from __future__ import annotations

import numpy as np
import pytest

from m2m.mix.mixture import Mixture
from m2m.mix.similarity import divergence, likeness, token_shares, weight_matrix


def test_shares_count_tokens() -> None:
    shares = token_shares([np.array([0, 1, 1]), [3]], 5)
    assert shares.tolist() == [0.25, 0.5, 0.0, 0.25, 0.0]


def test_divergence_is_zero_for_the_same_and_one_bit_for_nothing_in_common() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert divergence(p, p) == pytest.approx(0.0, abs=1e-12)
    assert divergence(p, q) == divergence(q, p) == pytest.approx(1.0)
    half = np.array([0.25, 0.25, 0.5])  # by hand: H((p + h)/2) - (1 + 1.5)/2
    assert divergence(p, half) == pytest.approx(1.561278 - 1.25, abs=1e-6)


def test_the_likest_mixture_may_be_one_of_several_datasets() -> None:
    mixtures = [Mixture.uniform("a"), Mixture.uniform("b"), Mixture(("a", "b"), (0.75, 0.25))]
    weights = weight_matrix(mixtures, ("a", "b"))
    assert weights.tolist() == [[1, 0], [0, 1], [0.75, 0.25]]
    assert weights @ [1.0, 3.0] == pytest.approx([1.0, 3.0, 1.5])
    found = likeness(weights, np.eye(2), np.array([0.7, 0.3]))
    assert int(np.argmax(found)) == 2
    assert (found <= 0).all()
