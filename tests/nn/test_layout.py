from __future__ import annotations

import numpy as np
import pytest

from m2m.nn import layout
from m2m.nn.config import Batch
from m2m.nn.layout import lay_out
from tests.nn.reference import make_batch, make_config


def test_rows_come_longest_first_and_losses_follow_their_tokens() -> None:
    batch = make_batch(make_config(), (3, 9, 5), 4, share=1.0)
    found = lay_out(batch)
    assert [group.lengths for group in found.groups] == [(9, 5, 3), (4,)]
    np.testing.assert_array_equal(found.tokens[found.loss_index], batch.tokens[batch.loss_index])
    np.testing.assert_array_equal(found.positions[:13], [*range(4), *range(4, 13)])
    assert found.prefix is found.groups[-1]


def test_padding_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PADS", (2, 1000))
    groups = lay_out(make_batch(make_config(), (9, 8, 8, 3), share=1.0)).groups
    assert [group.lengths for group in groups] == [(9, 8, 8), (3,)]


def test_padding_and_back() -> None:
    group = lay_out(make_batch(make_config(), (3, 2), 1, share=1.0)).groups[0]
    packed = np.arange(12.0).reshape(6, 2)
    padded = group.pad(packed, np.empty((6, 2)))
    np.testing.assert_array_equal(padded[:, :, 0], [[2, 4, 6], [8, 10, 10]])
    cleared = group.pad(packed, np.empty((6, 2)), clear=True)
    np.testing.assert_array_equal(cleared[:, :, 0], [[2, 4, 6], [8, 10, 0]])
    assert group.slots is not None
    np.testing.assert_array_equal(padded.reshape(6, 2)[group.slots], packed[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": np.array([4])}, "5 tokens do not hold"),
        ({"lengths": np.array([3, 0])}, "without a token"),
        ({"loss_index": np.array([1])}, "outside the rows"),
        ({"loss_index": np.array([5])}, "outside the rows"),
        ({"loss_index": np.array([3, 3]), "loss_target": np.array([1, 1])}, "given twice"),
        ({"loss_target": np.array([1, 1])}, "1 places, 2 targets"),
    ],
)
def test_batches_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    parts: dict[str, object] = {
        "tokens": np.arange(5),
        "lengths": np.array([3]),
        "prefix_length": 2,
        "loss_index": np.array([3]),
        "loss_target": np.array([1]),
    }
    Batch(**parts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        Batch(**(parts | change))  # type: ignore[arg-type]
