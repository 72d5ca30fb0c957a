"""The gated DeltaNet of Qwen3.5, in the place of attention (arXiv 2412.06464).

    q, k, v = silu(conv(in_proj_qkv(h)));    q, k = q / |q|, k / |k|
    log a = A softplus(in_proj_a(h) + dt),   b = sigmoid(in_proj_b(h))
    out = out_proj(norm(delta_rule(q, k, v, a, b)) silu(in_proj_z(h)))

The forward saves h, the results of the four maps of h, those of the delta rule and its states; the
backward computes the rest again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.blocks.norm import Norm
from m2m.nn.blocks.self_attention import LayerPass, input_gradient
from m2m.nn.config import DecoderConfig
from m2m.nn.convolution import Convolution
from m2m.nn.delta_rule import Inputs, delta_rule, delta_rule_backward
from m2m.nn.functional import rms_norm, rms_norm_backward
from m2m.nn.layout import PREFIX, Layout, Piece, RowGroup
from m2m.nn.linear import FusedLinear, FusedMap, Grads
from m2m.nn.matrix import Storage
from m2m.nn.thread_pool import Worker
from m2m.nn.workspace import Workspace

STATES = 1 << 21  # elements of the states of some rows that are computed together, 8 MiB


@dataclass
class DeltaState:
    """The arrays for the backward; inputs of maps end with R low-rank columns."""

    h: Array  # (T, C + R), normalised input
    raw: Array  # (T, E), results of in_proj_qkv, _z, _b and _a
    core: Array  # (T, H * D), results of the delta rule
    before: dict[int, list[list[Array]]]  # by group and rows: states before each piece
    mixed: Array  # (T, H * D + R), the input of out_proj
    convolution: Convolution


class _Values(NamedTuple):
    """What the delta rule reads, and what its backward needs to go on."""

    convolved: Array  # (T, 2 K D + H D)
    sigmoid: Array  # of it
    unit: Array  # q and k of length 1, (T, 2 K, D)
    inverse: Array  # their inverse lengths before, (T, 2 K, 1)
    v: Array  # (T, H, D)
    log_decay: Array  # (T, H)
    strength: Array  # (T, H)


class DeltaNet:
    """A gated DeltaNet with its weights; `norm` is the norm before it."""

    kind = None  # it has no positions

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        number: int,
        storage: Storage,
        norm: Norm,
    ) -> None:
        prefix = f"model.layers.{number}.linear_attn"
        parts = [FusedMap(f"{prefix}.in_proj_{name}") for name in ("qkv", "z", "b", "a")]
        self.first = FusedLinear(parts, weights, storage, norm.gain, norm.offset)
        output = FusedMap(f"{prefix}.out_proj", factor=config.residual_scale)
        self.o = FusedLinear([output], weights, storage)
        kernel, self._decay, self._bias, self._gain = (
            np.asarray(weights[f"{prefix}.{name}"]).astype(storage.dtype)
            for name in ("conv1d.weight", "decay.weight", "dt.bias", "norm.weight")
        )
        self._kernel = np.ascontiguousarray(kernel.T[::-1])
        self._number, self._eps = number, config.rms_norm_eps
        self._keys, self._heads, self._dim = config.delta_keys, config.delta_heads, config.delta_dim
        self._ends = np.cumsum(
            [len(kernel), self._heads * self._dim, self._heads, self._heads]
        ).tolist()

    def input(self, rows: int, space: Workspace, name: str) -> Array:
        """Return the buffer of the input h, (T, C + R), whose first C columns the norm writes."""
        return space.get(name + "h1", rows, self.first.columns + self.first.rank)

    def mix(self, step: LayerPass, h: Array, name: str) -> DeltaState:
        """Mix the tokens; `mixed` of the result, (T, H * D + R), is the input of the map `o`."""
        space, count = step.space, step.tokens
        raw = space.get(name + "raw", count, self.first.rows)
        self.first.forward(h, raw)
        core = space.get(name + "core", count, self.o.columns)
        mixed = space.get(name + "mixed", count, self.o.columns + self.o.rank)
        convolution = Convolution(step.layout, step.worker, self._number, self._kernel)
        state = DeltaState(h, raw, core, {}, mixed, convolution)
        values = self._values(raw, convolution)
        states = _States(step.layout, step.worker, self._number)
        for group in states.forwards():
            own = self._inputs(values, group)
            first = states.of(group, own.v)
            out = np.empty_like(own.v)
            saved = state.before[group.start] = []
            for rows in _some_rows(own.v):
                last, before = delta_rule(own.rows(rows), first[rows], out[rows])
                saved.append(before)
            core[group.tokens] = _packed(out, group)
            states.publish(group, last)
        normed, _ = self._normalised(core)
        z = raw[:, self._ends[0] : self._ends[1]]
        np.multiply(normed * self._gains(), z * _sigmoid(z), out=mixed[:, : self.o.columns])
        return state

    def backward(
        self, step: LayerPass, state: DeltaState, dmixed: Array, grads: Grads
    ) -> Array | None:
        """Return the gradient of the input, (T, C), from that of `mixed`, (T, H * D).

        None in the first layer: nothing before it is trainable.
        """
        draw = step.space.get("dqkv", step.tokens, self.first.rows + self.first.rank)
        dqkv, dz, db, da = np.split(draw[:, : self.first.rows], self._ends[:-1], axis=1)
        z = state.raw[:, self._ends[0] : self._ends[1]]
        sigmoid = _sigmoid(z)
        normed, inv = self._normalised(state.core)
        dnormed = dmixed * self._gains()
        np.multiply(dnormed * normed, sigmoid * (1.0 + z * (1.0 - sigmoid)), out=dz)
        dnormed *= z * sigmoid
        dcore = np.zeros_like(state.core)
        dheads, heads, dout = (each.reshape(-1, self._dim) for each in (dnormed, normed, dcore))
        rms_norm_backward(dheads, heads, inv, dout)
        values = self._values(state.raw, state.convolution)
        dq, dk, dv, dlog, dstrength = self._rule_backward(step, state, values, dcore)
        db[...] = dstrength * values.strength * (1.0 - values.strength)
        a = state.raw[:, self._ends[2] :] + self._bias
        da[...] = dlog * self._decay * _sigmoid(a)
        dunit = np.concatenate([dq * self._dim**-0.5, dk], axis=1)
        dunit -= values.unit * (dunit * values.unit).sum(axis=-1, keepdims=True)
        dunit *= values.inverse
        dact = np.concatenate([each.reshape(len(dv), -1) for each in (dunit, dv)], axis=1)
        dact *= values.sigmoid * (1.0 + values.convolved * (1.0 - values.sigmoid))
        dmoved = np.empty_like(dact)
        state.convolution.backward(dact, dmoved)
        dqkv[...] = dmoved
        return input_gradient(self.first, self._number, state.h, draw, grads, step.space)

    def _rule_backward(
        self, step: LayerPass, state: DeltaState, values: _Values, dcore: Array
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return the gradients of q, k (T, K, D), v (T, H, D), log_decay, strength (T, H)."""
        count, share = step.tokens, self._heads // self._keys
        states = _States(step.layout, step.worker, self._number)
        dq, dk, dv = np.empty((3, count, self._heads, self._dim), dcore.dtype)
        dlog, dstrength = np.empty((2, count, self._heads), dcore.dtype)
        for group in states.backwards():
            own = self._inputs(values, group)
            grads = Inputs(*(np.empty_like(each) for each in own))
            do = _by_head(_padded(dcore, group, clear=True), self._heads)
            dlast = states.gradient(group, own.v)
            dfirst = np.zeros(dlast.shape[1:], dlast.dtype)
            for rows, before in zip(_some_rows(own.v), state.before[group.start], strict=True):
                part = own.rows(rows), before, do[rows], dlast[rows], grads.rows(rows)
                dfirst += delta_rule_backward(*part).sum(axis=0)
            states.give_back(group, dfirst)
            for out, grad in zip((dq, dk, dv, dlog, dstrength), grads, strict=True):
                out[group.tokens] = _packed(grad, group).reshape(-1, *out.shape[1:])
        shape = (count, self._keys, share, self._dim)
        return dq.reshape(shape).sum(axis=2), dk.reshape(shape).sum(axis=2), dv, dlog, dstrength

    def _values(self, raw: Array, convolution: Convolution) -> _Values:
        mixed = np.ascontiguousarray(raw[:, : self._ends[0]])
        convolved = np.empty_like(mixed)
        convolution.forward(mixed, convolved)
        sigmoid = _sigmoid(convolved)
        act = convolved * sigmoid
        width = 2 * self._keys * self._dim
        unit = act[:, :width].reshape(len(raw), 2 * self._keys, self._dim)
        inverse = 1.0 / np.sqrt(np.square(unit).sum(axis=-1, keepdims=True) + self._eps)
        b, a = np.split(raw[:, self._ends[1] :], 2, axis=1)
        log_decay = self._decay * np.logaddexp(0.0, a + self._bias)
        v = act[:, width:].reshape(len(raw), self._heads, self._dim)
        return _Values(convolved, sigmoid, unit * inverse, inverse, v, log_decay, _sigmoid(b))

    def _inputs(self, values: _Values, group: RowGroup) -> Inputs:
        """Return what the delta rule reads of a group; K heads of q and k become H."""
        share = self._heads // self._keys
        q, k = values.unit[:, : self._keys] * self._dim**-0.5, values.unit[:, self._keys :]
        wide = (q.repeat(share, axis=1), k.repeat(share, axis=1), values.v)
        vectors = (_by_head(_padded(each, group), self._heads) for each in wide)
        gates = (values.log_decay, values.strength)
        return Inputs(
            *vectors,
            *(np.ascontiguousarray(_padded(each, group).swapaxes(1, 2)) for each in gates),
        )

    def _normalised(self, core: Array) -> tuple[Array, Array]:
        """Return the heads of `core` over their root mean square, (T, H * D), and its inverse."""
        normed = np.empty_like(core)
        inv = rms_norm(core.reshape(-1, self._dim), self._eps, normed.reshape(-1, self._dim))
        return normed, inv

    def _gains(self) -> Array:
        return np.tile(self._gain, self._heads)


class _States:
    """The states before the groups of one layer in one chunk, and their gradients."""

    def __init__(self, layout: Layout, worker: Worker, layer: int) -> None:
        self._layout, self._worker, self._layer = layout, worker, layer
        self._sums: dict[tuple[Piece, ...], Array] = {}
        self._open = [group.before for group in layout.groups]

    def forwards(self) -> Iterator[RowGroup]:
        """Yield the groups; those that others read come first, the prefix before them."""
        yield from sorted(self._layout.groups, key=lambda g: (g.piece != PREFIX, g.piece is None))

    def backwards(self) -> Iterator[RowGroup]:
        """Yield the groups in the other order."""
        yield from reversed(list(self.forwards()))

    def of(self, group: RowGroup, like: Array) -> Array:
        """Return the state before a group, (S, H, D, D); blocks until it is there."""
        shape = (group.rows, like.shape[1], like.shape[3], like.shape[3])
        if not group.before:
            return np.broadcast_to(np.zeros((), like.dtype), shape)
        state = self._worker.take((self._layer, "state", group.before[-1]))
        return np.broadcast_to(state, shape)

    def publish(self, group: RowGroup, state: Array) -> None:
        """Send the state after a group, (1, H, D, D), if others read it."""
        if group.piece is not None:
            self._worker.put((self._layer, "state", group.piece), state)

    def gradient(self, group: RowGroup, like: Array) -> Array:
        """Return the gradient of the state after a group, (S, H, D, D); blocks for its readers."""
        shape = (group.rows, like.shape[1], like.shape[3], like.shape[3])
        if group.piece is None:
            return np.broadcast_to(np.zeros((), like.dtype), shape)
        total = np.zeros(shape, like.dtype)
        for reader in self._layout.readers.get(group.piece, ()):
            if reader[1][-1] == group.piece:
                total += self._worker.take((self._layer, "dstate", *reader))
        return total

    def give_back(self, group: RowGroup, dstate: Array) -> None:
        """Add up gradients of states before groups, (H, D, D); send them after the last reader."""
        before = group.before
        self._open.remove(before)
        if before:
            self._sums[before] = self._sums.get(before, 0.0) + dstate
            if before not in self._open:
                self._worker.put(
                    (self._layer, "dstate", self._worker.number, before), self._sums[before]
                )


def _some_rows(values: Array) -> Iterator[slice]:
    """Cut the rows of (S, H, N, D) so that their states are no larger than STATES."""
    rows, heads, _, dim = values.shape
    step = max(1, STATES // (heads * dim * dim))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _padded(packed: Array, group: RowGroup, clear: bool = False) -> Array:
    """Return a group's tokens of (T, ...) as (S, N, W)."""
    flat = packed.reshape(len(packed), -1)
    return group.pad(flat, np.empty((group.rows * group.length, flat.shape[1]), flat.dtype), clear)


def _by_head(padded: Array, heads: int) -> Array:
    """Return (S, N, H * D) as (S, H, N, D)."""
    split = padded.reshape(*padded.shape[:2], heads, -1)
    return np.ascontiguousarray(split.swapaxes(1, 2))


def _packed(values: Array, group: RowGroup) -> Array:
    """Return (S, H, N, ...) as the group's tokens, (tokens, W)."""
    flat = values.swapaxes(1, 2).reshape(group.rows * group.length, -1)
    return flat if group.slots is None else flat[group.slots]
