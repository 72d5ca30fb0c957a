from __future__ import annotations

import numpy as np
import pytest

from m2m.formats.half import bf16_to_f32, f32_to_bf16
from m2m.nn import head
from m2m.nn.head import cross_entropy, numerators
from m2m.nn.workspace import Workspace
from tests.nn.gradients import F64, check_directions


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions and vocabulary are both cut, unevenly."""
    monkeypatch.setattr(head, "POSITIONS", 4)
    monkeypatch.setattr(head, "VOCABULARY", 10)
    monkeypatch.setattr(head, "LOGITS", 1)


def draw(scale: float) -> tuple[F64, F64, F64]:
    rng = np.random.default_rng(0)
    h, embedding = rng.standard_normal((9, 6)) * scale, rng.standard_normal((33, 6))
    return h, embedding, rng.integers(0, 33, 9)


@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["plain", "beyond exp's range"])
def test_the_loss_is_the_mean_log_probability_times_the_count(scale: float) -> None:
    h, embedding, target = draw(scale)
    logits = h @ embedding.T
    top = logits.max(axis=1)
    logs = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    loss = cross_entropy(h, embedding, target, None, Workspace(np.float64))
    assert loss == pytest.approx(float((logs - logits[np.arange(9), target]).sum()))


@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["plain", "beyond exp's range"])
def test_gradient(scale: float) -> None:
    h, embedding, target = draw(scale)
    space, dh = Workspace(np.float64), np.empty_like(h)
    cross_entropy(h, embedding, target, dh, space)
    check_directions(
        lambda arrays: cross_entropy(arrays[0], embedding, target, None, space), [h], [dh]
    )


def test_an_embedding_kept_as_float16_is_cast_block_by_block() -> None:
    h, embedding, target = draw(1.0)
    small, space = embedding.astype(np.float16), Workspace(np.float64)
    expected = cross_entropy(h, small.astype(np.float64), target, None, space)
    assert cross_entropy(h, small, target, None, space) == expected


@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["plain", "beyond exp's range"])
def test_rounded_products_are_those_of_rounded_numbers(scale: float) -> None:
    """Sums are of products of bfloat16 numbers, exact but for float32; the gradient's again."""
    h, embedding = (each.astype(np.float32) for each in draw(scale)[:2])
    bias = np.random.default_rng(1).standard_normal(len(embedding)).astype(np.float32)
    space = Workspace(np.float32)
    near = [bf16_to_f32(f32_to_bf16(each)).reshape(each.shape) for each in (h, embedding)]
    found = numerators(h, embedding, True, space, rounded=True, bias=bias)
    logits = near[0].astype(np.float64) @ near[1].T + bias
    weights = np.exp(logits - found.shift[:, None])
    np.testing.assert_allclose(found.sums, weights.sum(axis=1), rtol=5e-4)
    assert found.product is not None
    expected = weights @ near[1]
    assert np.linalg.norm(found.product - expected) < 0.005 * np.linalg.norm(expected)
    if scale == 1.0:
        exact = np.exp(h.astype(np.float64) @ embedding.T + bias).sum(axis=1)
        assert 1e-4 < np.abs(found.sums / exact - 1).max() < 0.05
