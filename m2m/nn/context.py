"""Keys and values of the tokens before a group's own, even if another thread computes them.

A row's queries see the prefix that all rows share. If a row is cut between two chunks, they also
see its earlier parts. Each such piece is computed once. The chunk that has it sends its keys and
values to all groups that need them. In the backward it adds up the gradients that they send back,
in the order of the chunks. Later chunks wait for earlier ones in the forward, and earlier chunks
for later ones in the backward, so they never wait for each other in a circle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from m2m.arrays import Array
from m2m.nn.layout import PREFIX, Layout, Piece, RowGroup
from m2m.nn.thread_pool import Worker
from m2m.nn.workspace import Workspace


class Context(NamedTuple):
    """k and v: (K, 1, P, D + 1), whose last channel is 1; as gradients (K, 1, P, D)."""

    k: Array
    v: Array


class Contexts:
    """The keys and values before one layer's groups, in one chunk.

    Args:
        layout: layout of the chunk.
        worker: sends pieces to other chunks and receives theirs.
        space: buffers of the chunk.
        layer: number of the layer. It is in the names of buffers that other chunks read, since a
            chunk can be some layers ahead of another. Another forward writes the same bytes there.
    """

    def __init__(self, layout: Layout, worker: Worker, space: Workspace, layer: int) -> None:
        self._layout, self._member, self._space, self._layer = layout, worker, space, layer
        self._contexts: dict[tuple[Piece, ...], Context] = {}
        self._grads: dict[tuple[Piece, ...], Context] = {}

    def name(self, group: RowGroup, otherwise: str) -> str:
        """Return the prefix of a group's buffer names; `otherwise` if no other group reads it."""
        if group.piece is None:
            return otherwise
        return f"{self._layer}.{'prefix' if group.piece == PREFIX else 'cut'}."

    def publish(self, group: RowGroup, k: Array, v: Array) -> None:
        """Send `group` to the chunks that need it, if any; k and v are (K, 1, N, D + 1)."""
        if group.piece is not None:
            self._member.put((self._layer, group.piece), Context(k, v))

    def of(self, group: RowGroup) -> Context | None:
        """Return the keys and values before every row of `group`; blocks until they are ready."""
        before = group.before
        if before and before not in self._contexts:
            pieces = [self._piece(piece) for piece in before]
            self._contexts[before] = pieces[0] if len(pieces) == 1 else self._join(pieces)
        return self._contexts.get(before)

    def gradient(self, group: RowGroup) -> Context | None:
        """Return the buffer that sums the gradient of `of(group)`; zero at first."""
        context = self.of(group)
        if context is not None and group.before not in self._grads:
            name = f"{self._layer}.{'prefix' if group.before == (PREFIX,) else 'joined'}"
            heads, _, tokens, width = context.k.shape
            shape = (heads, 1, tokens, width - 1)
            grads = Context(*(self._space.get(f"{name}.{x}", *shape) for x in ("dk", "dv")))
            grads.k[...] = 0.0
            grads.v[...] = 0.0
            self._grads[group.before] = grads
        return self._grads.get(group.before)

    def give_back(self) -> None:
        """Send the summed gradients to the chunks that have the pieces."""
        for before, grads in self._grads.items():
            first = 0
            for piece in before:
                last = first + self._piece(piece).k.shape[2]
                part = Context(grads.k[:, :, first:last], grads.v[:, :, first:last])
                self._member.put((self._layer, piece, self._member.number, before), part)
                first = last
        self._grads.clear()

    def collect(self, group: RowGroup, dk: Array, dv: Array) -> None:
        """Add the gradients from readers of `group` to dk and dv, (K, 1, N, D); blocks for them."""
        if group.piece is None:
            return
        for reader in self._layout.readers.get(group.piece, ()):
            part: Context = self._member.take((self._layer, group.piece, *reader))
            dk += part.k
            dv += part.v

    def _piece(self, piece: Piece) -> Context:
        context: Context = self._member.take((self._layer, piece))
        return context

    def _join(self, pieces: list[Context]) -> Context:
        """Copy pieces into one context."""
        tokens = sum(piece.k.shape[2] for piece in pieces)
        heads, _, _, width = pieces[0].k.shape
        whole = Context(
            self._space.get(f"{self._layer}.joined.k", heads, 1, tokens, width),
            self._space.get(f"{self._layer}.joined.v", heads, 1, tokens, width),
        )
        for parts, out in zip(zip(*pieces, strict=True), whole, strict=True):
            np.concatenate(parts, axis=2, out=out)
        return whole
