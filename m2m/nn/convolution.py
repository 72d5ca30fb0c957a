"""Causal convolution of each channel along packed rows, forward and backward.

    y[t, c] = sum_j w[j, c] x[t - j, c]

Rows are packed end to end, but a row sees only itself and the tokens before it: the prefix that all
rows share, or its earlier part in another chunk. The last L - 1 inputs of such tokens, their tail,
are sent to all readers; in the backward the readers send the tail's gradient back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from m2m.arrays import Array
from m2m.nn.chunks import LEAST
from m2m.nn.layout import PREFIX, Index, Layout, Piece, RowGroup
from m2m.nn.thread_pool import Worker


class Edges(NamedTuple):
    """The tokens of a layout whose convolution reaches over the start of their row.

    Attributes:
        before: the different contexts of the layout's groups, in the order of their tails.
        tokens: for each shift from 1 the tokens that have fewer tokens before them in their group.
        sources: for each of them the row of the table of tails; row 0 is zero.
    """

    before: tuple[tuple[Piece, ...], ...]
    tokens: tuple[Index, ...]
    sources: tuple[Index, ...]


@lru_cache(maxsize=8)
def _edges(groups: tuple[RowGroup, ...], taps: int) -> Edges:
    before = tuple(dict.fromkeys(group.before for group in groups if group.before))
    tokens: list[list[int]] = [[] for _ in range(1, taps)]
    sources: list[list[int]] = [[] for _ in range(1, taps)]
    for group in groups:
        tail = 1 + before.index(group.before) * (taps - 1) if group.before else -1
        start = group.start
        for length in group.lengths:
            for shift in range(1, taps):
                for place in range(min(shift, length)):
                    tokens[shift - 1].append(start + place)
                    far = taps - 1 - (shift - place)  # in the tail, whose last row is the newest
                    sources[shift - 1].append(tail + far if tail > 0 else 0)
            start += length
    return Edges(
        before,
        tuple(np.array(each, np.intp) for each in tokens),
        tuple(np.array(each, np.intp) for each in sources),
    )


class Convolution:
    """The convolution of one layer in one chunk.

    Args:
        layout: layout of the chunk.
        worker: sends tails to other chunks and receives theirs.
        layer: number of the layer.
        weight: (L, C), the factor of the token itself first.
    """

    def __init__(self, layout: Layout, worker: Worker, layer: int, weight: Array) -> None:
        if len(weight) > LEAST:
            raise ValueError(f"a convolution over {len(weight)} tokens, at most {LEAST}")
        self._layout, self._worker, self._layer, self._weight = layout, worker, layer, weight
        self._edges = _edges(layout.groups, len(weight))
        self._table: Array = np.zeros((0, 0))

    def forward(self, x: Array, out: Array) -> None:
        """Write y, (T, C), from x, (T, C); blocks for the tails of other chunks."""
        weight, size = self._weight, len(self._weight) - 1
        for group in self._layout.groups:
            if group.piece is not None:
                self._worker.put((self._layer, "tail", group.piece), self._tail(x, group))
        self._table = np.zeros((1 + size * len(self._edges.before), x.shape[1]), x.dtype)
        for number, before in enumerate(self._edges.before):
            tail = self._worker.take((self._layer, "tail", before[-1]))
            self._table[1 + number * size : 1 + (number + 1) * size] = tail
        np.multiply(x, weight[0], out=out)
        moved = np.empty_like(x)
        for shift, (tokens, sources) in enumerate(zip(*self._edges[1:], strict=True), 1):
            moved[shift:] = x[:-shift]
            moved[tokens] = self._table[sources]
            moved *= weight[shift]
            out += moved

    def backward(self, dout: Array, dx: Array) -> None:
        """Write dx, (T, C), from dout, (T, C); blocks for the gradients of sent tails."""
        weight, size = self._weight, len(self._weight) - 1
        dtable = np.zeros_like(self._table)
        np.multiply(dout, weight[0], out=dx)
        moved = np.empty_like(dx)
        for shift, (tokens, sources) in enumerate(zip(*self._edges[1:], strict=True), 1):
            np.multiply(dout, weight[shift], out=moved)
            np.add.at(dtable, sources, moved[tokens])
            moved[tokens] = 0.0
            dx[:-shift] += moved[shift:]
        for number, before in enumerate(self._edges.before):
            part = dtable[1 + number * size : 1 + (number + 1) * size]
            self._worker.put((self._layer, "dtail", self._worker.number, before), part)
        for group in self._layout.groups:
            for reader in self._layout.readers.get(group.piece, ()) if group.piece else ():
                if reader[1][-1] == group.piece:
                    end, count = group.tokens.stop, min(size, group.length)
                    dtail = self._worker.take((self._layer, "dtail", *reader))
                    dx[end - count : end] += dtail[size - count :]

    def _tail(self, x: Array, group: RowGroup) -> Array:
        """Return the last inputs of a group that others read, (L - 1, C), zeros before them."""
        size = len(self._weight) - 1
        if group.piece != PREFIX and group.length < size:
            raise ValueError(f"a part of a cut row has length {group.length}, not {size} or more")
        tail = np.zeros((size, x.shape[1]), x.dtype)
        count = min(size, group.length)
        end = group.tokens.stop
        tail[size - count :] = x[end - count : end]
        return tail
