"""A batch predicts what its samples predict, and a stream can be taken up anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.dataset import BatchStream, Sample, common_prefix, pack, pack_all
from m2m.errors import InputError
from m2m.nn.decoder import Batch


def make_samples(count: int, seed: int = 0, shared: int = 5) -> list[Sample]:
    rng = np.random.default_rng(seed)
    prefix = np.arange(100, 100 + shared)
    samples = []
    for line in range(1, count + 1):
        own = rng.integers(0, 50, size=rng.integers(3, 12))
        ids = np.concatenate([prefix, own]).astype(np.int32)
        mask = rng.random(len(ids)) < 0.5
        mask[: shared + 2] = False
        mask[-1] = True
        samples.append(Sample(ids, mask, line))
    return samples


def predictions(batch: Batch) -> list[tuple[tuple[int, ...], int]]:
    """(context, target) of every prediction, each row read after the prefix."""
    ends = batch.prefix_length + np.cumsum(batch.lengths)
    found = []
    for place, target in zip(batch.loss_index, batch.loss_target, strict=True):
        row = int(np.searchsorted(ends, place, side="right"))
        start = int(ends[row] - batch.lengths[row])
        context = [*batch.tokens[: batch.prefix_length], *batch.tokens[start : place + 1]]
        found.append((tuple(int(i) for i in context), int(target)))
    return found


def expected(samples: list[Sample]) -> list[tuple[tuple[int, ...], int]]:
    return [
        (tuple(int(i) for i in sample.ids[:place]), int(sample.ids[place]))
        for sample in samples
        for place in np.flatnonzero(sample.loss_mask)
    ]


@given(st.integers(0, 5), st.integers(1, 6), st.integers(0, 1000))
def test_a_batch_predicts_what_its_samples_predict(shared: int, count: int, seed: int) -> None:
    samples = make_samples(count, seed, shared)
    longest = common_prefix(samples)
    for prefix in {0, longest // 2, longest}:
        batch = pack(samples, prefix)
        assert predictions(batch) == expected(samples)
        assert len(batch.tokens) == prefix + sum(len(s) - prefix for s in samples)
        assert batch.tokens.dtype == np.int32


def test_all_samples_once_in_order_within_the_limit() -> None:
    samples = make_samples(30)
    batches = list(pack_all(samples, 40))
    assert [p for batch in batches for p in predictions(batch)] == expected(samples)
    assert max(len(batch.tokens) for batch in batches) <= 40
    assert all(batch.prefix_length == 5 for batch in batches)


def test_an_epoch_holds_every_sample_and_the_next_is_another_order() -> None:
    samples = make_samples(9)
    stream = BatchStream(samples, seed=1, batch_tokens=17)  # one sample or two
    seen: list[tuple[tuple[int, ...], int]] = []
    size = len(expected(samples))
    while len(seen) < 2 * size:
        seen += predictions(next(stream))
    first, second = seen[:size], seen[size : 2 * size]
    assert sorted(first) == sorted(second) == sorted(expected(samples))
    assert first != second


def test_batches_are_full_whatever_the_size_of_the_dataset() -> None:
    for count in (1, 2, 50):
        stream = BatchStream(make_samples(count), seed=0, batch_tokens=64)
        sizes = [len(next(stream).tokens) for _ in range(20)]
        assert max(sizes) <= 64
        assert min(sizes) > 64 - 12


def test_a_stream_goes_on_from_any_position() -> None:
    def contents(stream: BatchStream) -> tuple[int, ...]:
        return tuple(int(i) for i in next(stream).tokens)

    stream = BatchStream(make_samples(7), seed=5, batch_tokens=30)
    positions, batches = [], []
    for _ in range(12):
        positions.append(stream.position)
        batches.append(contents(stream))
    for start, position in enumerate(positions):
        again = BatchStream(make_samples(7), seed=5, batch_tokens=30)
        again.seek(position)
        assert [contents(again) for _ in batches[start:]] == batches[start:]


def test_the_seed_decides_the_order() -> None:
    tokens = [next(BatchStream(make_samples(30), seed, 200)).tokens.tolist() for seed in (0, 0, 1)]
    assert tokens[0] == tokens[1] != tokens[2]


def test_what_cannot_be_batched_is_refused() -> None:
    with pytest.raises(InputError, match="no sample"):
        BatchStream([], 0, 64)
    with pytest.raises(InputError, match=r"line 1 has \d+ tokens, a batch holds 4"):
        BatchStream(make_samples(1), 0, 4)
