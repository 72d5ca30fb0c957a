"""The gated delta rule (arXiv 2412.06464): a state of each head that reads, corrects and forgets.

    S_t = a_t S_(t-1) + k_t u_t',    u_t = b_t (v_t - a_t S_(t-1)' k_t),    o_t = S_t' q_t

Tokens are computed in pieces of n, with matrix products. Let S be the state before the piece, G the
running sum of log a in it, D_ij = exp(G_i - G_j) for j <= i, g = exp(G), e = exp(G_n - G):

    (I + L) U = b (V - g K S),      L = b D (K K') below the diagonal
    O = g Q S + M U,                M = D (Q K') on and below the diagonal
    S_n = g_n S + (e K)' U

Shapes: X texts, H heads, n tokens, D channels of a key and of a value. Only the states before the
pieces are kept; the backward computes the rest again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from m2m.arrays import Array

PIECE = 64  # tokens; larger pieces cost more in their products, smaller ones more calls


class Inputs(NamedTuple):
    """q, k, v (X, H, N, D), log_decay (the log of a) and strength (b), (X, H, N)."""

    q: Array
    k: Array
    v: Array
    log_decay: Array
    strength: Array

    def rows(self, rows: slice) -> Inputs:
        """Return some texts."""
        return Inputs(*(each[rows] for each in self))

    def piece(self, start: int) -> Inputs:
        """Return some tokens."""
        return Inputs(*(each[:, :, start : start + PIECE] for each in self))


class _Piece(NamedTuple):
    """The values of one piece that its forward and backward use; names as in the module."""

    b: Array  # (X, H, n, 1)
    g: Array  # (X, H, n, 1)
    e: Array  # (X, H, n, 1)
    decay: Array  # D, (X, H, n, n)
    gram: Array  # D (K K') below the diagonal
    inverse: Array  # (I + L) ** -1
    m: Array
    error: Array  # V - g K S
    u: Array


def _solve(own: Inputs, state: Array) -> _Piece:
    total = np.cumsum(own.log_decay, axis=-1)
    n = total.shape[-1]
    below = np.tril(np.ones((n, n), bool))
    apart = np.where(below, total[..., :, None] - total[..., None, :], -np.inf)
    decay = np.exp(apart)
    b, g = own.strength[..., None], np.exp(total)[..., None]
    keys = own.k.swapaxes(-1, -2)
    gram = np.tril(own.k @ keys, -1) * decay
    inverse = np.linalg.inv(np.eye(n, dtype=gram.dtype) + b * gram)
    error = own.v - g * (own.k @ state)
    return _Piece(
        b,
        g,
        np.exp(total[..., -1:] - total)[..., None],
        decay,
        gram,
        inverse,
        (own.q @ keys) * decay,
        error,
        inverse @ (b * error),
    )


def delta_rule(own: Inputs, state: Array, out: Array) -> tuple[Array, list[Array]]:
    """Write o, (X, H, N, D); return the last state and the states before each piece.

    state: (X, H, D, D), before the first token.
    """
    before = []
    for start in range(0, own.q.shape[2], PIECE):
        before.append(state)
        part = own.piece(start)
        piece = _solve(part, state)
        out[:, :, start : start + PIECE] = piece.g * (part.q @ state) + piece.m @ piece.u
        state = piece.g[..., -1:, :] * state + (piece.e * part.k).swapaxes(-1, -2) @ piece.u
    return state, before


def delta_rule_backward(
    own: Inputs, before: list[Array], dout: Array, dstate: Array, grads: Inputs
) -> Array:
    """Write the gradients of the inputs from dout, (X, H, N, D), and that of the last state.

    Returns:
        the gradient of the state before the first token, (X, H, D, D).
    """
    for number in reversed(range(len(before))):
        start = number * PIECE
        part, into = own.piece(start), grads.piece(start)
        do = dout[:, :, start : start + PIECE]
        dstate = _piece_backward(part, before[number], do, dstate, into)
    return dstate


def _piece_backward(own: Inputs, state: Array, do: Array, dstate: Array, into: Inputs) -> Array:
    """Write the gradients of one piece's inputs; return that of the state before it."""
    p = _solve(own, state)
    turned = state.swapaxes(-1, -2)
    dk_last = p.e * (p.u @ dstate.swapaxes(-1, -2))  # through S_n
    du = p.m.swapaxes(-1, -2) @ do + (p.e * own.k) @ dstate
    dr = p.inverse.swapaxes(-1, -2) @ du
    dl = np.tril(-(dr @ p.u.swapaxes(-1, -2)), -1)
    dm = np.tril(do @ p.u.swapaxes(-1, -2))
    from_l, from_m = dl * p.b * p.decay, dm * p.decay
    from_state = p.b * p.g * dr  # minus the gradient of K S
    into.q[...] = p.g * (do @ turned) + from_m @ own.k
    into.k[...] = dk_last - from_state @ turned + from_m.swapaxes(-1, -2) @ own.q
    into.k[...] += from_l @ own.k + from_l.swapaxes(-1, -2) @ own.k
    into.v[...] = p.b * dr
    into.strength[...] = (dr * p.error).sum(axis=-1) + (dl * p.gram).sum(axis=-1)
    # G: once through each of g, e, L and M.
    moved = (do * (own.q @ state)).sum(axis=-1) * p.g[..., 0]
    moved -= (from_state * (own.k @ state)).sum(axis=-1)
    later = (dk_last * own.k).sum(axis=-1)
    moved -= later
    moved[..., -1] += later.sum(axis=-1)
    moved[..., -1] += p.g[..., -1, 0] * (state * dstate).sum(axis=(-1, -2))
    for each in (dl * p.b * p.gram, dm * p.m):
        moved += each.sum(axis=-1) - each.sum(axis=-2)
    into.log_decay[...] = np.cumsum(moved[..., ::-1], axis=-1)[..., ::-1]
    earlier = (p.g * own.q).swapaxes(-1, -2) @ do - own.k.swapaxes(-1, -2) @ from_state
    return np.asarray(p.g[..., -1:, :] * dstate + earlier)
