from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from m2m.nn.optim import SCHEDULES, AdamW, clip_by_global_norm, learning_rate_factor


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


def test_clipping_scales_all_gradients_to_the_common_norm() -> None:
    grads = [np.array([3.0]), np.array([[4.0]])]
    assert clip_by_global_norm(grads, 1.0) == 5.0
    np.testing.assert_allclose([grads[0][0], grads[1][0, 0]], [0.6, 0.8])
    assert clip_by_global_norm(grads, 2.0) == pytest.approx(1.0)
    np.testing.assert_allclose(grads[0], [0.6])


def test_the_norm_of_many_small_gradients() -> None:
    grads = [np.full(1 << 20, 1e-3, np.float32) for _ in range(4)]
    assert clip_by_global_norm(grads, math.inf) == pytest.approx(2.048, rel=1e-4)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_schedules_rise_linearly_and_start_their_fall_at_one(schedule: str) -> None:
    factors = [learning_rate_factor(schedule, step, 20, 4) for step in range(21)]
    np.testing.assert_allclose(factors[:5], [0.25, 0.5, 0.75, 1.0, 1.0])
    assert all(a >= b for a, b in pairwise(factors[4:]))
    assert factors[20] == pytest.approx(1.0 if schedule == "constant" else 0.0)
    half = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}
    assert factors[12] == pytest.approx(half[schedule])


def test_no_warmup_begins_at_the_peak() -> None:
    assert learning_rate_factor("cosine", 0, 10, 0) == 1.0
