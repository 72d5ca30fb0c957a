"""Pack samples into batches without padding, in a seeded order that can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from m2m.dataset.samples import Sample, common_prefix
from m2m.errors import InputError
from m2m.nn.decoder import Batch


def pack(samples: Sequence[Sample], prefix: int = 0) -> Batch:
    """Put samples end to end after the `prefix` tokens with which all of them begin.

    Args:
        samples: the samples of the batch, in order.
        prefix: how many shared tokens to hold once, at most `common_prefix(samples)`.
    """
    lengths = np.array([len(sample) - prefix for sample in samples], dtype=np.int64)
    starts = prefix + np.cumsum(lengths) - lengths
    tokens = [samples[0].ids[:prefix], *(sample.ids[prefix:] for sample in samples)]
    # Map a target's place in its sample to the place in the batch of the token before it.
    targets = [np.flatnonzero(sample.loss_mask) for sample in samples]
    index = [places - 1 - prefix + start for places, start in zip(targets, starts, strict=True)]
    return Batch(
        tokens=np.concatenate(tokens).astype(np.int32),
        lengths=lengths,
        prefix_length=prefix,
        loss_index=np.concatenate(index),
        loss_target=np.concatenate(
            [sample.ids[places] for sample, places in zip(samples, targets, strict=True)]
        ),
    )


def pack_all(samples: Sequence[Sample], batch_tokens: int) -> Iterator[Batch]:
    """Yield all samples once, in order, in batches of at most `batch_tokens`."""
    prefix = common_prefix(samples)
    group: list[Sample] = []
    size = prefix
    for sample in samples:
        if group and size + len(sample) - prefix > batch_tokens:
            yield pack(group, prefix)
            group, size = [], prefix
        group.append(sample)
        size += len(sample) - prefix
    if group:
        yield pack(group, prefix)


class BatchStream:
    """Endless batches: every epoch has a new seeded order, and batches run across epochs.

    A batch is filled until the next sample would not fit, so all batches are about equally large,
    even if the dataset is small.

    Args:
        samples: the training samples.
        seed: of the order.
        batch_tokens: tokens of a batch, at most.
        stop: samples after which a step ends, even if its last batch is small; 0: never.

    Raises:
        InputError: there are no samples, or one is longer than a batch.
    """

    def __init__(
        self, samples: Sequence[Sample], seed: int, batch_tokens: int, stop: int = 0
    ) -> None:
        if not samples:
            raise InputError("the dataset has no sample to train on")
        longest = max(samples, key=len)
        if len(longest) > batch_tokens:
            raise InputError(
                f"line {longest.line} has {len(longest)} tokens, a batch holds {batch_tokens}",
                "raise batch_tokens or lower max_length in [train]",
            )
        self._samples = samples
        self._seed = seed
        self._batch_tokens = batch_tokens
        self._stop = stop
        self._prefix = common_prefix(samples)
        self._goto(0, 0)

    @property
    def position(self) -> tuple[int, int]:
        """Return (epoch, samples taken from it), which is enough to resume from here."""
        return self._epoch, self._cursor

    @property
    def taken(self) -> int:
        """Return how many samples were taken so far; a repeated one counts each time."""
        return self._epoch * len(self._samples) + self._cursor

    def seek(self, position: tuple[int, int]) -> None:
        """Continue from a `position` of a stream with the same samples, seed and size."""
        self._goto(*position)

    def __next__(self) -> Batch:
        return pack(self._group(), self._prefix)

    def step(self, batches: int) -> Iterator[Batch]:
        """Yield the batches of one optimiser step."""
        return (pack(group, self._prefix) for group in self._step(batches))

    def skip(self, batches: int) -> tuple[list[Sample], int]:
        """Skip a step without packing it; return its samples and how many tokens it has."""
        groups = list(self._step(batches))
        samples = [sample for group in groups for sample in group]
        shared = self._prefix * (len(groups) - len(samples))  # once per batch
        return samples, sum(map(len, samples)) + shared

    def _step(self, batches: int) -> Iterator[list[Sample]]:
        for _ in range(batches):
            yield self._group()
            if self.taken == self._stop:
                return

    def _group(self) -> list[Sample]:
        group: list[Sample] = []
        size = self._prefix
        while True:
            sample = self._peek()
            own = len(sample) - self._prefix
            if group and (size + own > self._batch_tokens or self.taken == self._stop):
                return group
            group.append(sample)
            size += own
            self._cursor += 1

    def __iter__(self) -> Iterator[Batch]:
        return self

    def _peek(self) -> Sample:
        if self._cursor == len(self._samples):
            self._goto(self._epoch + 1, 0)
        return self._samples[int(self._order[self._cursor])]

    def _goto(self, epoch: int, cursor: int) -> None:
        self._epoch = epoch
        self._cursor = cursor
        self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
