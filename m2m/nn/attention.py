"""Causal attention of packed rows and the tokens that they share, in cache-sized blocks.

Scores are never kept: the forward saves `lse = log sum exp(scores)` and the backward computes the
probabilities again (Dao et al. 2022, arXiv 2205.14135). The products also carry constants of a row,
in one more channel after the D of each head:

    forward     O    = exp(S) [V | 1]          the last column is the sum
    backward    P    = exp([Q | -lse] [K | 1]')
                dS   = P * ([dO | -delta] [V | 1]'),    delta = sum_d dO * O

Row groups are (K, S, N, ...): the G heads that read one K/V head are rows of one matrix, N * G.
If several rows see the same keys and values, their gradients add up over all of these rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from m2m.arrays import Array
from m2m.nn.context import Context, Contexts
from m2m.nn.layout import PREFIX, AttentionPlan, Block, Heads, RowGroup
from m2m.nn.workspace import Workspace

# exp needs no shift while its sum stays far from both ends of float32's range, as it does in real
# models. A block outside this range is computed again, with each row's maximum subtracted.
SUM_RANGE = (1e-25, 1e30)

ALL = slice(None)


class GroupState(NamedTuple):
    """A group's arrays that attention's backward needs.

    q (K, S, N * G, D + 1), k and v (K, S, N, D + 1) are head-major copies. The last channel of k
    and v is 1; that of q is -lse after the forward.
    """

    q: Array
    k: Array
    v: Array


class _Gradients(NamedTuple):
    """Gradients: dq (K, S, N * G, D), dk and dv (K, S, N, D); dk and dv add up over blocks."""

    dq: Array
    dk: Array
    dv: Array


def attention(
    qkv: Array, plan: AttentionPlan, out: Array, contexts: Contexts, space: Workspace, name: str
) -> list[GroupState]:
    """Write `out = softmax(q k' + mask) v`, (T, H * D); return each group's state.

    qkv: (T, (H + 2 K) * D), rotated, with the softmax scale in q; contexts: keys and values before
    each group; name: prefix of the buffers that hold the state.
    """
    heads, groups = plan.heads, plan.layout.groups
    states = []
    for number, group in enumerate(groups):
        own = _split(qkv, group, heads, space, contexts.name(group, f"{name}{number}."))
        contexts.publish(group, own.k, own.v)
        states.append(own)
    for group, blocks, own in zip(groups, plan.blocks, states, strict=True):
        result = space.get("attention.result", *own.q.shape)
        for block in blocks:
            _attend(own, contexts.of(group), block, result, space, heads.cap)
        values = result[..., :-1]
        values /= result[..., -1:]
        padded = _open(group, out, space)
        _by_head(padded, heads)[...] = _by_token(values, group)
        _close(group, padded, out)
    return states


def attention_backward(
    dout: Array,
    out: Array,
    states: Sequence[GroupState],
    plan: AttentionPlan,
    contexts: Contexts,
    dqkv: Array,
    space: Workspace,
) -> None:
    """Write dqkv, (T, (H + 2 K) * D), from dout and `attention`'s out, (T, H * D), and states.

    `dV = P' dO`, `dS = P * (dO V' - delta)`, `dQ = dS K`, `dK = dS' Q`.
    """
    heads = plan.heads
    split = (len(out), heads.kv * heads.group, heads.dim)
    delta = np.einsum("thd,thd->th", dout.reshape(split), out.reshape(split))
    for group, blocks, own in zip(plan.layout.groups, plan.blocks, states, strict=True):
        if group.piece == PREFIX:  # the last group: all others of this chunk have read it
            contexts.give_back()
        do = _split_gradient(dout, delta, group, heads, space)
        grads, far = _zeros(own, space), (contexts.of(group), contexts.gradient(group))
        for block in blocks:
            _attend_backward(own, do, block, grads, far, space, heads.cap)
        contexts.collect(group, grads.dk, grads.dv)
        padded = _open(group, dqkv, space)
        for columns, grad in zip(_columns(padded, heads), grads, strict=True):
            _by_head(columns, heads)[...] = _by_token(grad, group)
        _close(group, padded, dqkv)
    contexts.give_back()


def _attend(
    own: GroupState,
    prefix: Context | None,
    block: Block,
    result: Array,
    space: Workspace,
    cap: float,
) -> None:
    """Write one block of the unnormalised `exp(S) [V | 1]`, and -lse next to its queries."""
    part = (ALL, block.rows, block.queries)
    into = result[part]
    with np.errstate(over="ignore", invalid="ignore"):
        weights = _scores(own, prefix, block, space, cap)
        _weigh(np.exp(weights, out=weights), own, prefix, block, into)
    sums = into[..., -1]
    negative = own.q[part][..., -1]
    if sums.min() > SUM_RANGE[0] and sums.max() < SUM_RANGE[1]:
        np.negative(np.log(sums), out=negative)
        return
    weights = _scores(own, prefix, block, space, cap)
    top = weights.max(axis=-1, keepdims=True)
    weights -= top
    _weigh(np.exp(weights, out=weights), own, prefix, block, into)
    np.negative(np.log(sums) + top[..., 0], out=negative)


def _scores(
    own: GroupState,
    prefix: Context | None,
    block: Block,
    space: Workspace,
    cap: float,
    augmented: bool = False,
) -> Array:
    """Return `q k'` with cap and mask, (K, rows, queries, P + keys).

    With `augmented`, -lse is added to each row: without a cap as [q | -lse] [k | 1]'.
    """
    used = ALL if augmented and not cap else slice(-1)
    q = own.q[:, block.rows, block.queries, used]
    keys = own.k[:, block.rows, : block.keys, used]
    width = 0 if prefix is None else prefix.k.shape[2]
    scores = space.get("attention.scores", *q.shape[:3], width + block.keys)
    np.matmul(q, keys.swapaxes(-1, -2), out=scores[..., width:])
    if prefix is not None:
        shared = prefix.k[:, 0, :, used].swapaxes(-1, -2)
        np.matmul(_rows(q), shared, out=_rows(scores)[..., :width])
    if cap:
        scores *= 1.0 / cap
        np.tanh(scores, out=scores)
        if augmented:
            _keep_slope(scores, space)
        scores *= cap
        if augmented:
            scores += own.q[:, block.rows, block.queries, -1:]
    masked = scores[..., block.mask_from :]
    masked += block.mask
    return scores


def _keep_slope(ratios: Array, space: Workspace) -> None:
    """Write `1 - ratios^2`, the slope of the cap, into the buffer that the backward reads."""
    slope = space.get("attention.slope", *ratios.shape)
    np.multiply(ratios, ratios, out=slope)
    np.subtract(1.0, slope, out=slope)


def _weigh(
    weights: Array, own: GroupState, prefix: Context | None, block: Block, into: Array
) -> None:
    """Write `weights [V | 1]`, (K, rows, queries, D + 1)."""
    width = weights.shape[-1] - block.keys
    np.matmul(weights[..., width:], own.v[:, block.rows, : block.keys], out=into)
    if prefix is not None:
        rows = _rows(into)
        rows += np.matmul(_rows(weights)[..., :width], prefix.v[:, 0])


def _attend_backward(
    own: GroupState,
    do: Array,
    block: Block,
    grads: _Gradients,
    far: tuple[Context | None, Context | None],
    space: Workspace,
    cap: float,
) -> None:
    """Write one block of dq; add its part of dk and dv, and of the context's gradient.

    far: the context before the rows, and the sum of its gradient.
    """
    prefix, dprefix = far
    part = (ALL, block.rows, block.queries)
    keys = (ALL, block.rows, slice(block.keys))
    weights = _scores(own, prefix, block, space, cap, augmented=True)
    np.exp(weights, out=weights)
    width = weights.shape[-1] - block.keys
    grad, q = do[part], own.q[part][..., :-1]
    dscores = space.get("attention.dscores", *weights.shape)
    np.matmul(grad, own.v[keys].swapaxes(-1, -2), out=dscores[..., width:])
    if prefix is not None:
        shared_v = prefix.v[:, 0].swapaxes(-1, -2)
        np.matmul(_rows(grad), shared_v, out=_rows(dscores)[..., :width])
    dscores *= weights
    if cap:
        dscores *= space.get("attention.slope", *weights.shape)
    grads.dv[keys] += np.matmul(weights[..., width:].swapaxes(-1, -2), grad[..., :-1])
    grads.dk[keys] += np.matmul(dscores[..., width:].swapaxes(-1, -2), q)
    np.matmul(dscores[..., width:], own.k[keys][..., :-1], out=grads.dq[part])
    if prefix is None or dprefix is None:
        return
    shared, dshared = _rows(weights)[..., :width], _rows(dscores)[..., :width]
    dprefix.v[:, 0] += np.matmul(shared.swapaxes(-1, -2), _rows(grad)[..., :-1])
    dprefix.k[:, 0] += np.matmul(dshared.swapaxes(-1, -2), _rows(q))
    dq = _rows(grads.dq[part])
    dq += np.matmul(dshared, prefix.k[:, 0, :, :-1])


def _split(qkv: Array, group: RowGroup, heads: Heads, space: Workspace, name: str) -> GroupState:
    """Copy a group's part of qkv to head-major order."""
    buffer = space.get("attention.padded", group.rows * group.length, qkv.shape[1])
    padded = group.pad(qkv, buffer)
    shape = (heads.kv, group.rows, group.length, heads.dim + 1)
    q = space.get(name + "q", *shape[:2], group.length * heads.group, heads.dim + 1)
    k = space.get(name + "k", *shape)
    v = space.get(name + "v", *shape)
    for columns, part in zip(_columns(padded, heads), (q, k, v), strict=True):
        _by_token(part[..., :-1], group)[...] = _by_head(columns, heads)
    k[..., -1] = 1.0
    v[..., -1] = 1.0
    return GroupState(q, k, v)


def _split_gradient(
    dout: Array, delta: Array, group: RowGroup, heads: Heads, space: Workspace
) -> Array:
    """Return `[dO | -delta]`, (K, S, N * G, D + 1); pads are zero."""
    tokens = group.rows * group.length
    shape = (heads.kv, group.rows, group.length * heads.group, heads.dim + 1)
    do = space.get("attention.do", *shape)
    padded = group.pad(dout, space.get("attention.padded", tokens, dout.shape[1]), clear=True)
    _by_token(do[..., :-1], group)[...] = _by_head(padded, heads)
    padded = group.pad(delta, space.get("attention.padded", tokens, delta.shape[1]), clear=True)
    np.negative(_by_head(padded, heads), out=_by_token(do[..., -1:], group))
    return do


def _zeros(group: GroupState, space: Workspace) -> _Gradients:
    """Return gradients for the arrays of `group`; dk and dv start at zero."""
    q, k, v = (
        space.get(f"attention.own.{i}", *x.shape[:-1], x.shape[-1] - 1) for i, x in enumerate(group)
    )
    k[...] = 0.0
    v[...] = 0.0
    return _Gradients(q, k, v)


def _columns(padded: Array, heads: Heads) -> tuple[Array, Array, Array]:
    """Cut [q | k | v], (S, N, (H + 2 K) * D), into its three parts."""
    first, second = heads.query_size, heads.query_size + heads.kv_size
    return padded[..., :first], padded[..., first:second], padded[..., second:]


def _by_head(columns: Array, heads: Heads) -> Array:
    """View (S, N, K * X) as (S, N, K, G or 1, D or 1)."""
    width = columns.shape[-1] // heads.kv
    group = heads.group if width not in (heads.dim,) else 1
    return columns.reshape(*columns.shape[:2], heads.kv, group, width // group)


def _by_token(x: Array, group: RowGroup) -> Array:
    """View (K, S, N * G, D) as (S, N, K, G, D)."""
    return x.reshape(*x.shape[:2], group.length, -1, x.shape[-1]).transpose(1, 2, 0, 3, 4)


def _rows(x: Array) -> Array:
    """View (K, rows, queries, X) as (K, rows * queries, X)."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _open(group: RowGroup, packed: Array, space: Workspace) -> Array:
    """Return the array for a group's results, (S, N, W): part of `packed` if nothing is padded."""
    if group.slots is None:
        return packed[group.tokens].reshape(group.rows, group.length, -1)
    size = group.rows * group.length
    return space.get("attention.padded", size, packed.shape[1]).reshape(
        group.rows, group.length, -1
    )


def _close(group: RowGroup, padded: Array, packed: Array) -> None:
    """Copy the results in `_open`'s array to `packed` if they are not there yet."""
    if group.slots is not None:
        packed[group.tokens] = padded.reshape(-1, padded.shape[-1])[group.slots]
