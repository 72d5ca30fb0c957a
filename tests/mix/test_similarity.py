from __future__ import annotations

import numpy as np
import pytest

from m2m.mix.mixture import Mixture, weight_matrix
from m2m.mix.similarity import likeness, token_frequencies


def test_frequencies_count_tokens() -> None:
    frequencies = token_frequencies([np.array([0, 1, 1]), [3]], 5)
    assert frequencies.tolist() == [0.25, 0.5, 0.0, 0.25, 0.0]


def test_the_likest_mixture_may_be_one_of_several_datasets() -> None:
    mixtures = [Mixture.uniform("a"), Mixture.uniform("b"), Mixture(("a", "b"), (0.75, 0.25))]
    weights = weight_matrix(mixtures, ("a", "b"))
    assert weights.tolist() == [[1, 0], [0, 1], [0.75, 0.25]]
    assert weights @ [1.0, 3.0] == pytest.approx([1.0, 3.0, 1.5])
    frequencies = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    found = likeness(mixtures, frequencies, np.array([0.7, 0.3]))
    assert int(np.argmax(found)) == 2
    assert (found <= 0).all()
