from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from m2m.nn.optim import SCHEDULES, AdamW, clip_factor, global_norm, learning_rate_factor


def test_adamw_is_the_published_algorithm() -> None:
    rng = np.random.default_rng(0)
    p = rng.standard_normal((4, 3))
    optimizer = AdamW([p], weight_decay=0.1)
    mine, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)
    for t in range(1, 6):
        g = rng.standard_normal(p.shape)
        optimizer.step([g], 0.01)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        mine -= 0.01 * 0.1 * mine
        mine -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(p, mine, rtol=1e-12)
    assert optimizer.steps == 5


def test_adamw_goes_on_bit_for_bit_from_its_state() -> None:
    rng = np.random.default_rng(0)
    start = rng.standard_normal((5, 2)).astype(np.float32)
    grads = [rng.standard_normal((5, 2)).astype(np.float32) for _ in range(4)]
    whole = start.copy()
    optimizer = AdamW([whole])
    for g in grads:
        optimizer.step([g], 0.01)
    half = start.copy()
    first = AdamW([half])
    for g in grads[:2]:
        first.step([g], 0.01)
    second = AdamW([half])
    for name, state in second.state_arrays().items():
        state[...] = first.state_arrays()[name]
    second.steps = first.steps
    for g in grads[2:]:
        second.step([g], 0.01)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(half, whole)


def test_a_scale_is_as_if_the_gradients_were_scaled() -> None:
    rng = np.random.default_rng(0)
    one, other = (np.ones((4, 3)) for _ in range(2))
    first, second = AdamW([one]), AdamW([other])
    for scale in (0.5, 1.0 / 300, 7.0):
        g = rng.standard_normal((4, 3))
        before = g.copy()
        first.step([g], 0.01, scale)
        second.step([g * scale], 0.01)
        np.testing.assert_array_equal(g, before)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_clipping_brings_the_common_norm_to_the_limit() -> None:
    norm = global_norm([np.array([3.0]), np.array([[4.0]])])
    assert norm == 5.0
    assert clip_factor(norm, 1.0) == pytest.approx(0.2)
    assert clip_factor(norm, 5.0) == clip_factor(norm, 9.0) == 1.0
    assert clip_factor(norm, 0.0) == clip_factor(norm, -1.0) == 1.0
    assert clip_factor(math.nan, 1.0) == 1.0


def test_the_norm_of_many_small_gradients() -> None:
    grads = [np.full(1 << 20, 1e-3, np.float32) for _ in range(4)]
    assert global_norm(grads) == pytest.approx(2.048, rel=1e-4)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_schedules_rise_linearly_and_start_their_fall_at_one(schedule: str) -> None:
    factors = [learning_rate_factor(schedule, step, 20, 4) for step in range(21)]
    np.testing.assert_allclose(factors[:5], [0.25, 0.5, 0.75, 1.0, 1.0])
    assert all(a >= b for a, b in pairwise(factors[4:]))
    half, end = {"linear": (0.5, 0.0), "cosine": (0.5, 0.0)}.get(schedule, (1.0, 1.0))
    assert [factors[12], factors[20]] == pytest.approx([half, end])


def test_no_warmup_begins_at_the_peak() -> None:
    assert learning_rate_factor("cosine", 0, 10, 0) == 1.0
