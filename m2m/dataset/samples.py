"""Turn rows into token sequences with a mark on each token that is trained on."""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.counted import counted
from m2m.dataset.mapping import AS_IT_IS, RowMapping
from m2m.dataset.row import Row
from m2m.dataset.row_source import RowSource
from m2m.dataset.tool_calls import fit_arguments, refuse_unplain
from m2m.errors import InputError, Problems
from m2m.formats.spooled import Lazy, drawn, emptied
from m2m.formats.translation_files import FIXED
from m2m.opening import Text
from m2m.tokenizer import Formatter, Message, Segment

_MOST_SMALL = np.iinfo(np.uint16).max
_KINDS: dict[int, type[np.uint16 | np.int32]] = {2: np.uint16, 4: np.int32}
_HEAD = struct.Struct("<IIBQI")  # tokens, changes of the mask, bytes of a token, line, turn
_HELD = 64 << 20  # bytes of samples that stay in memory
# Raise this number when the same bytes give other samples than before.
_SCHEMA = 3


class Sample:
    """One sequence for training, packed: two bytes for a token, four if the vocabulary is large.

    Args:
        ids: (T,) token ids.
        loss_mask: (T,) bool, True if the token is predicted; never at 0, which nothing precedes.
        line, turn: see below.
    """

    __slots__ = ("_at", "_packed")

    def __init__(
        self, ids: NDArray[np.int32], loss_mask: NDArray[np.bool_], line: int, turn: int = 0
    ) -> None:
        width = 2 if not len(ids) or int(ids.max()) <= _MOST_SMALL else 4
        # Places at which the mask changes: two for a row with one answer.
        padded = np.zeros(len(ids) + 2, np.bool_)
        padded[1:-1] = loss_mask
        edges = np.flatnonzero(padded[1:] != padded[:-1]).astype(np.uint32)
        head = _HEAD.pack(len(ids), len(edges), width, line, turn)
        packed = (head, ids.astype(_KINDS[width]).tobytes(), edges.tobytes())
        self._packed: bytes | mmap.mmap = b"".join(packed)
        self._at = 0  # place of its head in `_packed`

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self._bytes(),)

    @property
    def key(self) -> int:
        """Return a number that no other sample of this process has, made twice or not."""
        return id(self._packed) << 64 | self._at

    @property
    def line(self) -> int:
        """Return the row's line in its file."""
        return int(_HEAD.unpack_from(self._packed, self._at)[3])

    @property
    def turn(self) -> int:
        """Return its place among the samples of one conversation, which share their beginnings."""
        return int(_HEAD.unpack_from(self._packed, self._at)[4])

    @property
    def ids(self) -> NDArray[np.int32]:
        """Return the token ids, (T,)."""
        count, _, width, *_ = _HEAD.unpack_from(self._packed, self._at)
        ids = np.frombuffer(self._packed, _KINDS[width], count, self._at + _HEAD.size)
        return ids.astype(np.int32)

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """Return which tokens are predicted, (T,)."""
        count, changes, width, *_ = _HEAD.unpack_from(self._packed, self._at)
        start = self._at + _HEAD.size + count * width
        mask = np.zeros(count, np.bool_)
        edges = np.frombuffer(self._packed, np.uint32, changes, start).tolist()
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            mask[begin:end] = True
        return mask

    @property
    def is_trained(self) -> bool:
        """Return whether any token is predicted."""
        return bool(_HEAD.unpack_from(self._packed, self._at)[1])

    @property
    def size(self) -> int:
        """Return the bytes of its tokens and its mask."""
        count, changes, width, *_ = _HEAD.unpack_from(self._packed, self._at)
        return int(count * width + 4 * changes)

    def __len__(self) -> int:
        return int(_HEAD.unpack_from(self._packed, self._at)[0])

    def _bytes(self) -> bytes:
        return self._packed[self._at : self._at + _HEAD.size + self.size]


def _unpacked(packed: bytes | mmap.mmap, at: int = 0) -> Sample:
    sample = Sample.__new__(Sample)
    sample._packed, sample._at = packed, at
    return sample


def shelved(samples: Iterable[Sample], held: int = 0) -> Sequence[Sample]:
    """Return samples as a list; if they have more than `held` bytes (0: `_HELD`), from a file.

    The file is temporary and mapped, and ends with the samples. Each one is made when it is used.
    """
    kept, size, waiting = list[Sample](), 0, iter(samples)
    for sample in waiting:
        kept.append(sample)
        size += sample.size
        if size > (held or _HELD):
            break
    else:
        return kept
    starts = array("q")
    with tempfile.TemporaryFile() as file:
        for sample in chain(emptied(kept), waiting):
            starts.append(file.tell())
            file.write(sample._bytes())
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Lazy(np.frombuffer(starts, np.int64), lambda at: _unpacked(mapped, int(at)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class RowLimit:
    """The most tokens that a row may have, by each of the three settings that limit it.

    `long_rows` says what happens to longer ones (`m2m.dataset.long_rows`).
    """

    max_length: int
    batch_tokens: int = 1 << 30
    context: int = 1 << 30
    long_rows: str = "refuse"

    @property
    def tokens(self) -> int:
        """Return the smallest of the limits."""
        return min(self.max_length, self.batch_tokens, self.context)

    @property
    def name(self) -> str:
        """Return the name of the smallest limit."""
        if self.context == self.tokens:
            return "that is all the model can read"
        return "max_length" if self.max_length == self.tokens else "batch_tokens"

    def remedy(self, lengths: Sequence[int]) -> str:
        """Return a hint for rows of these lengths in tokens, which are all above the limit.

        It never raises a setting above the model's context.
        """
        fitting = max([length for length in lengths if length <= self.context], default=0)
        limits = {"max_length": self.max_length, "batch_tokens": self.batch_tokens}
        raised = [f"{name} = {fitting}" for name, limit in limits.items() if limit < fitting]
        never = sum(length > self.context for length in lengths)
        ways = ["shorten or split them"]
        if raised:
            some = f" for {len(lengths) - never} of them" if never else ""
            ways.append(f"set {' and '.join(raised)} in [train]{some}")
        hint = f'{", ".join(ways)}, or set long_rows = "skip" or "truncate" in [train]'
        return f"{hint}: the model reads {self.context} tokens at most" if never else hint


def encode(
    rows: Sequence[Row], formatter: Formatter, limit: RowLimit | int, path: Path | str = "dataset"
) -> Sequence[Sample]:
    """Tokenise rows; a bare text longer than the limit becomes several samples.

    A conversation also becomes several samples if its template writes earlier turns differently
    once later ones follow: each answer is then trained in the context that a program will send.

    Args:
        rows: from `load_dataset`.
        formatter: the base model's tokenizer and template.
        limit: tokens of the longest sample.
        path: named in errors.

    Raises:
        InputError: rows are too long or the template refuses them; names all their lines.
    """
    limit = RowLimit(limit) if isinstance(limit, int) else limit
    problems, hints, lengths = Problems(), dict[str, None](), list[int]()
    samples = shelved(_encoded(rows, formatter, limit, problems, hints, lengths))
    hints |= {limit.remedy(lengths): None} if lengths else {}
    problems.raise_if_any(InputError, str(path), "; ".join(hints) or "correct these rows")
    return samples


def _encoded(
    rows: Sequence[Row],
    formatter: Formatter,
    limit: RowLimit,
    problems: Problems,
    hints: dict[str, None],
    lengths: list[int],
) -> Iterator[Sample]:
    """Yield the samples of all rows; add their faults, and the lengths of too long rows."""
    for row in rows:
        try:
            sequences = enumerate(sequences_of(row, formatter))
            row_samples = [_sample(segments, row.line, turn) for turn, segments in sequences]
        except InputError as error:
            problems.add(f"line {row.line}: {error.message}")
            hints.update({error.hint: None} if error.hint else {})
            continue
        longest = max(map(len, row_samples))
        if longest > limit.tokens and row.text is None:
            lengths.append(longest)
            fits = f"at most {limit.tokens} fit ({limit.name})"
            problems.add(f"line {row.line}: {counted(longest, 'token')}, {fits}")
        cuts = [cut for sample in row_samples for cut in _cut(sample, limit.tokens)]
        yield from (cut for cut in cuts if cut.is_trained)


def sequences_of(row: Row, formatter: Formatter) -> list[list[Segment]]:
    """Return the sequences of ids that a row becomes, with the parts that are trained on.

    Raises:
        InputError: the template refuses the row, or its text has control tokens.
    """
    if row.pieces is None and (token := formatter.tokenizer.written_out(row.plain_text)):
        raise InputError(
            f"the text has the control token {token} in it",
            "delete such tokens: m2m adds those of the chat template itself; a text that is "
            'already in the template becomes "messages", or "segments" that keep its tokens',
        )
    if row.messages is not None:
        messages: Sequence[Message] = row.messages
        if formatter.template is None:
            refuse_unplain(messages, row.tools)
        else:
            messages = fit_arguments(messages, formatter.template)
        return _weighed(formatter.samples(messages, row.tools), messages)
    if row.pieces is not None:
        return [formatter.segments(row.pieces)]
    return [formatter.document(row.text or "")]


def _weighed(sequences: list[list[Segment]], messages: Sequence[Message]) -> list[list[Segment]]:
    """Return the sequences with answers of weight 0 as context only."""
    trained = [message.get("weight") != 0 for message in messages if message["role"] == "assistant"]
    if all(trained):
        return sequences
    turns = iter(trained)
    return [
        [replace(part, trained=next(turns)) if part.trained else part for part in segments]
        for segments in sequences
    ]


def _sample(segments: Sequence[Segment], line: int, turn: int = 0) -> Sample:
    ids = np.array([i for segment in segments for i in segment.ids], dtype=np.int32)
    mask = np.repeat(
        np.array([segment.trained for segment in segments], dtype=np.bool_),
        [len(segment.ids) for segment in segments],
    )
    mask[:1] = False
    return Sample(ids, mask, line, turn)


def _cut(sample: Sample, max_length: int) -> list[Sample]:
    if len(sample) <= max_length:
        return [sample]
    cuts = []
    for start in range(0, len(sample), max_length):
        mask = sample.loss_mask[start : start + max_length].copy()
        mask[:1] = False
        cuts.append(Sample(sample.ids[start : start + max_length], mask, sample.line, sample.turn))
    return cuts


def common_prefix(samples: Sequence[Sample]) -> int:
    """Return how many tokens all samples begin with, which a batch needs to hold only once.

    The prefix ends before any token that predicts a trained one, and leaves every sample at least
    one token of its own.
    """
    if not samples:
        return 0
    first = samples[0].ids
    length = len(first)
    for sample in samples:
        # The token before the first trained one predicts it, so it must belong to the row itself.
        own = int(np.argmax(sample.loss_mask)) - 1 if sample.loss_mask.any() else len(sample) - 1
        length = min(length, own)
        different = np.flatnonzero(first[:length] != sample.ids[:length])
        length = int(different[0]) if len(different) else length
    return max(length, 0)


def split(
    samples: Sequence[Sample], seed: int, fraction: float
) -> tuple[Sequence[Sample], list[Sample]]:
    """Return the samples to train on and the held-out ones: a `fraction`, at least 1 if not 0.

    The same seed gives the same split; order is kept. One sample is always left to train on, and
    the samples of one conversation stay together.
    """
    begins = np.fromiter((sample.turn == 0 for sample in samples), np.int64, len(samples))
    rows = np.cumsum(begins) - 1  # (samples,): its conversation
    size = int(rows[-1]) + 1 if len(samples) else 0
    count = min(size - 1, max(1, round(size * fraction))) if fraction > 0 else 0
    held = np.random.default_rng([seed, size]).permutation(size)[: max(count, 0)]
    chosen = np.isin(rows, held)
    return drawn(samples, np.flatnonzero(~chosen)), [*drawn(samples, np.flatnonzero(chosen))]


def lines_of(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return (samples,) the line of each."""
    return np.fromiter((sample.line for sample in samples), np.int64, len(samples))


def dataset_fingerprint(
    file: Text | RowSource, formatter: Formatter, max_length: int, mapping: RowMapping = AS_IT_IS
) -> str:
    """Return the SHA-256 (hex) of everything that decides a file's samples, except the vocabulary.

    The base model's fingerprint covers the vocabulary.
    """
    parts = [
        _SCHEMA,
        file.sha256,
        file.path.suffix.lower(),
        formatter.identity,
        max_length,
        *([mapping.as_json()] if mapping.as_json() else []),  # older fingerprints have none
        # Of such files other segments were trained on before.
        *([4] if any(FIXED in note for note in getattr(file, "notes", ())) else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()
