"""The gated delta rule in pieces against the recurrence, token by token, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.nn import delta_rule as rule
from m2m.nn.delta_rule import Inputs, delta_rule, delta_rule_backward
from tests.nn.gradients import F64, check_directions

TEXTS, HEADS, CHANNELS = 2, 3, 4


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "PIECE", 5)


def draw(tokens: int) -> tuple[Inputs, F64]:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, TEXTS, HEADS, tokens, CHANNELS))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    decay, strength = rng.random((2, TEXTS, HEADS, tokens))
    state = rng.standard_normal((TEXTS, HEADS, CHANNELS, CHANNELS))
    return Inputs(q, k, v, -decay, strength), state


def plain(own: Inputs, state: F64) -> tuple[F64, F64]:
    """The recurrence as torch_recurrent_gated_delta_rule in transformers has it."""
    out = np.empty_like(own.q)
    for t in range(own.q.shape[2]):
        q, k, v = (each[:, :, t] for each in own[:3])
        state = state * np.exp(own.log_decay[:, :, t])[..., None, None]
        memory = np.einsum("xhij,xhi->xhj", state, k)
        change = (v - memory) * own.strength[:, :, t, None]
        state = state + k[..., :, None] * change[..., None, :]
        out[:, :, t] = np.einsum("xhij,xhi->xhj", state, q)
    return out, state


@pytest.mark.parametrize("tokens", [1, 5, 12])
def test_pieces_are_the_recurrence(tokens: int) -> None:
    own, state = draw(tokens)
    out = np.empty_like(own.q)
    last, before = delta_rule(own, state, out)
    expected, expected_last = plain(own, state)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    np.testing.assert_allclose(last, expected_last, atol=1e-12)
    assert len(before) == -(-tokens // 5)


@pytest.mark.parametrize("tokens", [1, 5, 12])
def test_gradient(tokens: int) -> None:
    own, state = draw(tokens)
    rng = np.random.default_rng(1)
    out, dout = np.empty_like(own.q), rng.standard_normal(own.q.shape)
    last, before = delta_rule(own, state, out)
    dlast = rng.standard_normal(last.shape)
    grads = Inputs(*(np.empty_like(each) for each in own))
    dstate = delta_rule_backward(own, before, dout, dlast, grads)

    def loss(arrays: list[F64]) -> float:
        into = np.empty_like(out)
        end, _ = delta_rule(Inputs(*arrays[:5]), arrays[5], into)
        return float((into * dout).sum() + (end * dlast).sum())

    check_directions(loss, [*own, state], [*grads, dstate])  # type: ignore[arg-type]


def test_values_that_are_not_finite_stay_in_their_text() -> None:
    own, state = draw(12)
    dout, dlast = np.ones_like(own.q), np.ones_like(state)

    def run() -> tuple[F64, ...]:
        out, grads = np.empty_like(own.q), Inputs(*(np.empty_like(each) for each in own))
        last, before = delta_rule(own, state, out)
        dfirst = delta_rule_backward(own, before, dout, dlast, grads)
        return (out, last, dfirst, *grads)

    clean = run()
    for array in (*own, dout):
        array[1, :, 7:] = np.nan
    for found, expected in zip(run(), clean, strict=True):
        assert np.isnan(found[1]).any()
        np.testing.assert_array_equal(found[0], expected[0])
