from __future__ import annotations

import numpy as np
import pytest

from m2m.merge.merger import truncate
from m2m.nn.lora import lora_delta

SHAPES = [(64, 96), (96, 64), (40, 40)]


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rank_that_suffices_gives_the_delta_back(shape: tuple[int, int]) -> None:
    left, right = chance(1).random((shape[0], 6)), chance(2).random((6, shape[1]))
    delta = (left @ right).astype(np.float32)
    for rank in (6, 9, 500):
        pair, values = truncate(delta, rank, chance())
        np.testing.assert_allclose(lora_delta(pair), delta, atol=1e-5 * np.abs(delta).max())
        assert pair.rank == len(values) == min(rank, *shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_smaller_rank_is_as_near_as_the_svd(shape: tuple[int, int], rank: int) -> None:
    """Also on noise, whose singular values hardly fall."""
    delta = chance(3).standard_normal(shape, np.float32)
    exact = np.linalg.svd(delta, compute_uv=False)
    pair, values = truncate(delta, rank, chance())
    error = np.linalg.norm(lora_delta(pair) - delta)
    assert error <= 1.003 * np.linalg.norm(exact[rank:])
    np.testing.assert_allclose(values, exact[:rank], rtol=0.03)
    # The two factors share the singular values.
    np.testing.assert_allclose(np.linalg.norm(pair.a), np.linalg.norm(pair.b), rtol=1e-4)


def test_the_same_generator_gives_the_same_bytes() -> None:
    delta = chance(4).standard_normal((64, 96), np.float32)
    one, other = (truncate(delta, 8, chance())[0] for _ in range(2))
    assert one.a.tobytes() == other.a.tobytes()
    assert one.b.tobytes() == other.b.tobytes()
    assert one.a.dtype == one.b.dtype == np.float32
