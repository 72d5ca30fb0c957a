"""The rows of a file that is too large for memory: packed in a temporary file, and read as needed.

A row in memory takes two to six times the bytes that it has in its file. Up to `_HELD` bytes rows
stay in memory; the rest of this module then does nothing.
"""

from __future__ import annotations

import json
import tempfile
import weakref
import zlib
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from m2m.formats.rowfile import Record

_HELD = 64 << 20  # bytes of rows, as JSON, that stay in memory
_BLOCK = 1024  # rows that are packed together
_LEVEL = 1  # zlib's fastest
Given = TypeVar("Given")
Made = TypeVar("Made")


def _fields(record: Record) -> tuple[Any, int]:
    return record.fields, record.line


class Spooled(Sequence[Made]):
    """Rows in a temporary file, which nobody else sees and which ends with this object.

    Args:
        blocks: the rows, some at a time.
        parts: makes a pair of a row: values of JSON (texts, numbers, true, false, null, lists and
            objects) and its line.
        join: makes the row of such a pair.
    """

    def __init__(
        self,
        blocks: Iterable[list[Made]],
        parts: Callable[[Made], tuple[Any, int]],
        join: Callable[[tuple[Any, int]], Made],
    ) -> None:
        self._join = join
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        weakref.finalize(self, self._file.close)
        self._ends, self._sizes = [0], list[int]()
        for block in blocks:
            rows = json.dumps([*map(parts, block)])
            self._file.write(zlib.compress(rows.encode("utf-8"), _LEVEL))
            self._ends.append(self._file.tell())
            self._sizes.append(len(block))
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        self._last: tuple[int, list[Made]] = (-1, [])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Made]:
        for place in range(len(self._sizes)):
            yield from self._block(place)

    @overload
    def __getitem__(self, place: int) -> Made: ...
    @overload
    def __getitem__(self, place: slice) -> list[Made]: ...
    def __getitem__(self, place: int | slice) -> Made | list[Made]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(place)
        block = int(np.searchsorted(self._starts, place, "right")) - 1
        if self._last[0] != block:
            self._last = (block, self._block(block))
        return self._last[1][place - int(self._starts[block])]

    def _block(self, place: int) -> list[Made]:
        self._file.seek(self._ends[place])
        packed = self._file.read(self._ends[place + 1] - self._ends[place])
        return [self._join((value, line)) for value, line in json.loads(zlib.decompress(packed))]


class Lazy(Sequence[Made], Generic[Given, Made]):
    """The results of a function for the items of a sequence, computed each time that they are used.

    Args:
        items: the sequence.
        make: the function, which gives the same result each time.
        places: of the items that are used; None: all.
    """

    def __init__(
        self,
        items: Sequence[Given],
        make: Callable[[Given], Made],
        places: NDArray[np.int64] | None = None,
    ) -> None:
        self._items, self._make, self._places = items, make, places

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([*self],)

    def __len__(self) -> int:
        return len(self._items) if self._places is None else len(self._places)

    def __iter__(self) -> Iterator[Made]:
        if self._places is None or len(self._places) == len(self._items):
            yield from map(self._make, self._items)
            return
        places = iter(self._places.tolist())
        wanted = next(places, -1)
        for place, item in enumerate(self._items):
            if place == wanted:
                yield self._make(item)
                wanted = next(places, -1)

    @overload
    def __getitem__(self, place: int) -> Made: ...
    @overload
    def __getitem__(self, place: slice) -> list[Made]: ...
    def __getitem__(self, place: int | slice) -> Made | list[Made]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        at = place if self._places is None else int(self._places[place])
        return self._make(self._items[at])


def collected(records: Iterable[Record], held: int = 0) -> Sequence[Record]:
    """Return rows as a list, or as `Spooled` if they are more than `held` bytes (0: `_HELD`)."""
    return gathered(records, _fields, lambda row: Record(*row), held)


def gathered(
    rows: Iterable[Made],
    parts: Callable[[Made], tuple[Any, int]],
    join: Callable[[tuple[Any, int]], Made],
    held: int = 0,
) -> Sequence[Made]:
    """Return rows of any class as `collected` does; `parts` and `join` as for `Spooled`.

    The size of a block is estimated by its first row.
    """
    waiting = iter(rows)
    blocks, size = list[list[Made]](), 0
    while block := list(islice(waiting, _BLOCK)):
        blocks.append(block)
        size += len(block) * len(json.dumps(parts(block[0])))
        if size > (held or _HELD):
            rest = iter(lambda: list(islice(waiting, _BLOCK)), [])
            return Spooled(chain(emptied(blocks), rest), parts, join)
    return [row for block in blocks for row in block]


def emptied(items: list[Made]) -> Iterator[Made]:
    """Yield the items; each is dropped as soon as the next one is asked for."""
    items.reverse()
    while items:
        yield items.pop()


def taken(items: Sequence[Given], places: Iterable[int]) -> Sequence[Given]:
    """Return the items at some places, in order: a list, or `Lazy` if they are not in memory."""
    if not is_spooled(items):
        return [items[place] for place in places]
    return Lazy(items, lambda item: item, np.fromiter(places, np.int64))


def drawn(items: Sequence[Given], places: NDArray[np.int64]) -> Sequence[Given]:
    """Return items as `taken` does; the places may be in any order, and come again."""
    if not is_spooled(items):
        return [items[place] for place in places.tolist()]
    return Lazy(places, items.__getitem__)  # type: ignore[arg-type]


def chained(parts: Sequence[Sequence[Given]]) -> Sequence[Given]:
    """Return the items of all parts: a list, or `Lazy` if some are not in memory."""
    if not any(map(is_spooled, parts)):
        return [item for part in parts for item in part]
    ends = [*accumulate(map(len, parts))]

    def item(place: int) -> Given:
        part = bisect(ends, place)
        return parts[part][place - ends[part]]  # from its end: this is negative

    return Lazy(range(ends[-1]), item)


def made(items: Sequence[Given], make: Callable[[Given], Made]) -> Sequence[Made]:
    """Return a function's results for all items: a list, or `Lazy` if they are not in memory.

    The function must give the same result each time.
    """
    return Lazy(items, make) if is_spooled(items) else [make(item) for item in items]


def is_spooled(items: Sequence[Any]) -> bool:
    """Return whether a sequence is not held in memory, so that nobody should make a list of it."""
    return isinstance(items, Spooled | Lazy)
