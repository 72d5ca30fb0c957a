"""Order a batch in memory: chunks for the threads, groups of rows with similar length, blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import DTypeLike, NDArray

from m2m.arrays import Array
from m2m.nn.chunks import RowPart, divide
from m2m.nn.config import Batch

SCORES = 1 << 18  # elements in one block of scores: 1 MiB of float32, the size of an L2 cache
QUERIES = 64  # queries of a row in one block: keys after the block are skipped
NARROW = 512  # up to this many score columns before a block's own, masking whole rows is faster
PADS = (256, 8)  # a group has at most max(256, tokens / 8) pads: the price of bigger products

Index = NDArray[np.intp]
Piece = tuple[int, int]  # (row, its first token there): tokens that queries elsewhere see
Reader = tuple[int, tuple[Piece, ...]]  # (number of a chunk, the pieces that it joins)
PREFIX: Piece = (-1, 0)


@dataclass(frozen=True)
class RowGroup:
    """Rows that are processed together, padded to one length.

    Attributes:
        start: index of the group's first token in the layout's order.
        lengths: (S,) tokens of each row, longest first.
        prefix: number of tokens before every row (0 for the group that is the prefix itself).
        before: the pieces that contain these tokens, in order.
        piece: name of this group's tokens for groups that read them, or None.
    """

    start: int
    lengths: tuple[int, ...]
    prefix: int
    before: tuple[Piece, ...] = ()
    piece: Piece | None = None

    @property
    def rows(self) -> int:
        """Return S."""
        return len(self.lengths)

    @property
    def length(self) -> int:
        """Return N, the length of the longest row."""
        return self.lengths[0]

    @property
    def tokens(self) -> slice:
        """Return the group's slice of the layout's tokens."""
        return slice(self.start, self.start + sum(self.lengths))

    @cached_property
    def slots(self) -> Index | None:
        """Return each token's place among the S * N padded ones; None if nothing is padded."""
        if self.lengths[-1] == self.length:
            return None
        return np.flatnonzero(self._real)

    @cached_property
    def _real(self) -> NDArray[np.bool_]:
        return (np.arange(self.length) < np.array(self.lengths)[:, None]).reshape(-1)

    @cached_property
    def pads(self) -> Index:
        """Return the padded places without a token."""
        return np.flatnonzero(~self._real)

    @cached_property
    def sources(self) -> Index:
        """Return the token for each padded place, (S * N,); pads repeat the row's last token."""
        ends = np.cumsum(self.lengths)
        inside = np.minimum(np.arange(self.length), np.array(self.lengths)[:, None] - 1)
        tokens: Index = ((ends - self.lengths)[:, None] + inside).reshape(-1)
        return tokens

    def pad(self, packed: Array, buffer: Array, clear: bool = False) -> Array:
        """Return the group's tokens of `packed` (T, W) as (S, N, W): a view, or `buffer` filled.

        With `clear` the pads are zero; else they repeat their row's last token.
        """
        own = packed[self.tokens]
        if self.slots is not None:
            np.take(own, self.sources, axis=0, out=buffer, mode="clip")
            if clear:
                buffer[self.pads] = 0.0
            own = buffer
        return own.reshape(self.rows, self.length, -1)


@dataclass(frozen=True)
class Layout:
    """The order of one chunk's tokens, and the values that depend on it.

    Attributes:
        tokens: (T,) ids; the prefix first, then rows from the longest to the shortest.
        positions: (T,) position of each token in its own text.
        groups: groups of the rows, then the group of the prefix if there is one.
        loss_index, loss_target: (M,) as in Batch, but in this order.
        readers: the chunks that read each piece.
    """

    tokens: Index
    positions: Index
    groups: tuple[RowGroup, ...]
    loss_index: Index
    loss_target: Index
    readers: dict[Piece, list[Reader]]

    @property
    def prefix(self) -> RowGroup | None:
        """Return the group of the shared prefix, if this chunk has it."""
        last = self.groups[-1] if self.groups else None
        return last if last is not None and last.piece == PREFIX else None


def lay_out(batch: Batch, trim: bool = True) -> Layout:
    """Order and group a batch's rows in one chunk; leave out tokens that no loss depends on.

    With `trim`, it drops tokens after a row's last loss position, and rows without one: no
    position with a loss sees them.
    """
    return lay_out_chunks(batch, 1, 0.0, trim)[0]


def lay_out_chunks(batch: Batch, count: int, key: float, trim: bool = True) -> list[Layout]:
    """Divide a batch into at most `count` layouts of about the same work; the first has the prefix.

    Args:
        batch: rows.
        count: most chunks; empty ones are left out.
        key: the work of one key that a query sees, in units of a token's work.
        trim: as for `lay_out`.
    """
    prefix = batch.prefix_length
    lengths = np.asarray(batch.lengths, np.intp)
    starts = prefix + np.cumsum(lengths) - lengths
    kept = _needed(batch, starts, lengths) if trim else lengths
    order = np.argsort(-kept, kind="stable")
    order = order[kept[order] > 0]
    dealt = divide(kept[order].tolist(), prefix, key, count)
    chunks = [parts for number, parts in enumerate(dealt) if parts or not number]
    groups = [_groups(parts, 0 if n else prefix, prefix) for n, parts in enumerate(chunks)]
    readers: dict[Piece, list[Reader]] = {}
    for number, own in enumerate(groups):
        for before in dict.fromkeys(group.before for group in own):
            for piece in before:
                readers.setdefault(piece, []).append((number, before))
    return [
        _layout(batch, [(int(starts[order[p.row]]), p) for p in parts], own, readers)
        for parts, own in zip(chunks, groups, strict=True)
    ]


def _layout(
    batch: Batch,
    parts: Sequence[tuple[int, RowPart]],
    groups: tuple[RowGroup, ...],
    readers: dict[Piece, list[Reader]],
) -> Layout:
    """Return the layout of one chunk; each part has the index of its row in the batch."""
    prefix = batch.prefix_length
    own = prefix if groups and groups[-1].piece == PREFIX else 0
    source = [np.arange(own)] + [start + np.arange(p.first, p.last) for start, p in parts]
    positions = [np.arange(own)] + [prefix + np.arange(p.first, p.last) for _, p in parts]
    index = np.concatenate(source).astype(np.intp)
    place = np.full(len(batch.tokens), -1, np.intp)
    place[index] = np.arange(len(index))
    loss = place[np.asarray(batch.loss_index, np.intp)]
    return Layout(
        tokens=np.asarray(batch.tokens, np.intp)[index],
        positions=np.concatenate(positions).astype(np.intp),
        groups=groups,
        loss_index=loss[loss >= 0],
        loss_target=np.asarray(batch.loss_target, np.intp)[loss >= 0],
        readers=readers,
    )


def _needed(batch: Batch, starts: Index, lengths: Index) -> Index:
    """Return how many tokens of each row are at or before its last loss position."""
    needed = np.zeros(len(lengths), np.intp)
    index = np.asarray(batch.loss_index, np.intp)
    row = np.searchsorted(starts, index, side="right") - 1
    np.maximum.at(needed, row, index - starts[row] + 1)
    return needed


def _groups(parts: Sequence[RowPart], own: int, prefix: int) -> tuple[RowGroup, ...]:
    """Group a chunk's parts, longest first; each part of a cut row, and the prefix, is a group.

    `own` is the length of the prefix in the chunk that has it, else 0.
    """
    start = own
    groups: list[RowGroup] = []
    shared = (PREFIX,) if prefix else ()
    for whole, run in groupby(parts, lambda part: part.size == part.length):
        members = list(run)
        if whole:
            groups += _group([part.length for part in members], start, prefix, shared)
            start += sum(part.length for part in members)
            continue
        for part in members:
            earlier = shared + tuple((part.row, first) for first in part.cuts[:-1])
            piece = (part.row, part.first) if part.last < part.length else None
            groups.append(RowGroup(start, (part.size,), prefix + part.first, earlier, piece))
            start += part.size
    if own:
        groups.append(RowGroup(0, (own,), 0, (), PREFIX))
    return tuple(groups)


def _group(
    lengths: list[int], start: int, prefix: int, before: tuple[Piece, ...]
) -> Iterator[RowGroup]:
    """Cut whole rows, longest first, into groups."""
    while lengths:
        rows, pads, tokens = 0, 0, 0
        for length in lengths:
            pads += lengths[0] - length
            tokens += length
            if pads > max(PADS[0], tokens // PADS[1]):
                break
            rows += 1
        yield RowGroup(start, tuple(lengths[:rows]), prefix, before)
        start += sum(lengths[:rows])
        lengths = lengths[rows:]


@dataclass(frozen=True)
class Heads:
    """The division of a row of [q | k | v] into heads.

    Attributes:
        kv: K, key/value heads.
        group: G, query heads per key/value head.
        dim: D.
        window: positions that a query sees, itself included; 0 for all before it.
        cap: scores s become cap * tanh(s / cap); 0: they do not.
        alibi: if not 0, scores fall with the distance, for each head by another slope.
    """

    kv: int
    group: int
    dim: int
    window: int = 0
    cap: float = 0.0
    alibi: float = 0.0

    @property
    def query_size(self) -> int:
        """Return H * D."""
        return self.kv * self.group * self.dim

    @property
    def kv_size(self) -> int:
        """Return K * D."""
        return self.kv * self.dim

    @cached_property
    def slopes(self) -> NDArray[np.float64]:
        """Return ALiBi's slope for each query head, (H,), as ggml computes it (soft_max, ops.cpp).

        2^-(8/n), 2^-(16/n), ... for n, the largest power of two up to H; the others are between.
        8 is `alibi`.
        """
        count = self.kv * self.group
        power = 1 << (count.bit_length() - 1)
        head = np.arange(count)
        steps = np.where(head < power, head + 1.0, (2.0 * (head - power) + 1.0) / 2.0)
        slopes: NDArray[np.float64] = 2.0 ** (-self.alibi / power * steps)
        return slopes


@dataclass(frozen=True)
class Block:
    """A block of scores: some queries of some rows, with the prefix and own keys up to the last.

    Attributes:
        rows: range of the group's S.
        queries: range of the group's N * G.
        keys: number of own keys, from the first.
        mask: (queries, P + keys - mask_from), 0 or -inf, for the score columns from mask_from; with
            ALiBi (K, 1, queries, P + keys), its biases or -inf.
    """

    rows: slice
    queries: slice
    keys: int
    mask_from: int
    mask: Array


@dataclass(frozen=True)
class AttentionPlan:
    """A layout's blocks for one kind of head; made once a batch, for every layer of that kind."""

    heads: Heads
    layout: Layout
    blocks: tuple[tuple[Block, ...], ...]

    @classmethod
    def make(cls, heads: Heads, layout: Layout, dtype: DTypeLike) -> AttentionPlan:
        """Cut every group of `layout` into blocks whose masks have `dtype`."""
        blocks = tuple(tuple(_cut(group, heads, dtype)) for group in layout.groups)
        return cls(heads, layout, blocks)


def _cut(group: RowGroup, heads: Heads, dtype: DTypeLike) -> Iterator[Block]:
    """Cut a group into blocks of about SCORES elements: many short rows, or parts of long ones."""
    for first in range(0, group.length, QUERIES):
        last = min(first + QUERIES, group.length)
        mask = _mask(group.prefix, first, last, heads.window)
        begin = group.prefix + first
        if heads.alibi or begin <= NARROW or not mask[:, :begin].all():
            begin = 0
        added = np.where(mask[:, begin:], 0.0, -np.inf).astype(dtype).repeat(heads.group, axis=0)
        if heads.alibi:
            added = _alibi(heads, group.prefix + np.arange(first, last), added)
        queries = slice(first * heads.group, last * heads.group)
        size = heads.kv * (queries.stop - queries.start) * mask.shape[1]
        rows = max(1, SCORES // size) if group.length <= QUERIES else 1
        for start in range(0, group.rows, rows):
            part = slice(start, min(start + rows, group.rows))
            yield Block(part, queries, last, begin, added)


def _alibi(heads: Heads, positions: Index, mask: Array) -> Array:
    """Return a mask (queries * G, keys) with each head's biases, (K, 1, queries * G, keys)."""
    distance = positions[:, None] - np.arange(mask.shape[1])
    slopes = heads.slopes.reshape(heads.kv, 1, heads.group, 1)
    biases = -slopes * distance[:, None]  # (K, queries, G, keys)
    added: Array = (biases.reshape(heads.kv, 1, *mask.shape) + mask).astype(mask.dtype)
    return added


def _mask(prefix: int, first: int, last: int, window: int) -> NDArray[np.bool_]:
    """Return whether queries first..last see the keys up to the last, (queries, P + last)."""
    query = prefix + np.arange(first, last)[:, None]
    key = np.arange(prefix + last)[None]
    seen: NDArray[np.bool_] = key <= query
    return seen & (query - key < window) if window else seen
