from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from m2m.nn import layout
from m2m.nn.attention import attention, attention_backward
from m2m.nn.context import Contexts
from m2m.nn.layout import AttentionPlan, Heads, lay_out
from m2m.nn.thread_pool import Worker
from m2m.nn.workspace import Workspace
from tests.nn.gradients import F64, check_directions
from tests.nn.reference import make_batch, make_config

CASES = [(0, (6, 4), 0), (5, (6, 4, 1), 0), (3, (11, 11), 4)]


def make_plan(prefix: int, lengths: Sequence[int], window: int) -> AttentionPlan:
    batch = make_batch(make_config(), lengths, prefix)
    return AttentionPlan.make(Heads(2, 3, 4, window), lay_out(batch, trim=False), np.float64)


def run(qkv: F64, plan: AttentionPlan) -> F64:
    out, space = np.empty((len(qkv), plan.heads.query_size)), Workspace(np.float64)
    attention(qkv, plan, out, Contexts(plan.layout, Worker(), space, 0), space, "")
    return out


def plain(qkv: F64, heads: Heads) -> F64:
    """Attention of one whole text, head by head."""
    count, out = len(qkv), []
    q, k, v = np.split(qkv, [heads.query_size, heads.query_size + heads.kv_size], axis=1)
    distance = np.arange(count)[:, None] - np.arange(count)
    hidden = (distance < 0) | ((distance >= heads.window) & (heads.window > 0))
    for head in range(heads.kv * heads.group):
        at, own = slice(head * heads.dim, (head + 1) * heads.dim), head // heads.group
        shared = slice(own * heads.dim, (own + 1) * heads.dim)
        scores = np.where(hidden, -np.inf, q[:, at] @ k[:, shared].T)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, shared])
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize(("prefix", "lengths", "window"), CASES)
@pytest.mark.parametrize("queries", [3, 64])
def test_each_row_attends_to_the_prefix_and_to_itself(
    prefix: int,
    lengths: tuple[int, ...],
    window: int,
    queries: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "QUERIES", queries)
    plan = make_plan(prefix, lengths, window)
    qkv = np.random.default_rng(0).standard_normal((prefix + sum(lengths), 40))
    out = run(qkv, plan)
    start = prefix
    for length in lengths:
        text = np.concatenate([qkv[:prefix], qkv[start : start + length]])
        expected = plain(text, plan.heads)
        np.testing.assert_allclose(out[start : start + length], expected[prefix:])
        np.testing.assert_allclose(out[:prefix], expected[:prefix])
        start += length


@pytest.mark.parametrize(("prefix", "lengths", "window"), CASES)
def test_gradients(prefix: int, lengths: tuple[int, ...], window: int) -> None:
    plan, rng = make_plan(prefix, lengths, window), np.random.default_rng(0)
    qkv = rng.standard_normal((prefix + sum(lengths), 40))
    weight = rng.standard_normal((len(qkv), plan.heads.query_size))
    space, out, dqkv = Workspace(np.float64), np.empty_like(weight), np.empty_like(qkv)
    contexts = Contexts(plan.layout, Worker(), space, 0)
    states = attention(qkv, plan, out, contexts, space, "")
    attention_backward(weight, out, states, plan, contexts, dqkv, space)
    check_directions(lambda arrays: float((run(arrays[0], plan) * weight).sum()), [qkv], [dqkv])


def test_scores_that_overflow_are_shifted_and_stay_exact() -> None:
    plan = make_plan(2, (6, 4), 0)
    qkv = np.random.default_rng(0).standard_normal((12, 40))
    qkv[:, :24] *= 500.0
    out = run(qkv, plan)
    text = np.concatenate([qkv[:2], qkv[2:8]])
    np.testing.assert_allclose(out[2:8], plain(text, plan.heads)[2:])
