"""A causal convolution of packed rows: no row sees another one, whatever is between them."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.nn.chunks import LEAST
from m2m.nn.config import Batch
from m2m.nn.convolution import Convolution
from m2m.nn.layout import Layout, lay_out
from m2m.nn.thread_pool import Worker
from tests.nn.gradients import F64, check_directions

CHANNELS = 5


def layout(lengths: list[int], prefix: int) -> Layout:
    count = prefix + sum(lengths)
    nothing = np.zeros(0, np.intp)
    batch = Batch(np.zeros(count, np.int32), np.array(lengths), prefix, nothing, nothing)
    return lay_out(batch, trim=False)


def forward(made: Layout, x: F64, weight: F64) -> tuple[F64, Convolution]:
    own, out = Convolution(made, Worker(), 0, weight), np.empty_like(x)
    own.forward(x, out)
    return out, own


@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("prefix", [0, 1, 2, 9])
def test_each_row_is_convolved_alone(taps: int, prefix: int) -> None:
    rng = np.random.default_rng(0)
    made, weight = layout([1, 7, 2, 7, 30], prefix), rng.standard_normal((taps, CHANNELS))
    x = rng.standard_normal((len(made.tokens), CHANNELS))
    out, _ = forward(made, x, weight)
    for group in made.groups:
        start = group.start
        for length in group.lengths:
            before = x[:prefix] if group.before else x[:0]
            row = np.concatenate([np.zeros((taps, CHANNELS)), before, x[start : start + length]])
            expected = sum(weight[j] * np.roll(row, j, axis=0) for j in range(taps))
            np.testing.assert_allclose(out[start : start + length], expected[-length:], atol=1e-14)
            start += length


@pytest.mark.parametrize("prefix", [0, 3])
def test_nothing_leaks_from_one_packed_row_to_the_next(prefix: int) -> None:
    """Values that are not finite stay in their row, forward and backward."""
    rng = np.random.default_rng(1)
    made, weight = layout([6, 6, 6], prefix), rng.standard_normal((4, CHANNELS))
    x = rng.standard_normal((len(made.tokens), CHANNELS))
    clean, own = forward(made, x, weight)
    dout, dclean = rng.standard_normal(x.shape), np.empty_like(x)
    own.backward(dout, dclean)
    middle = slice(prefix + 6, prefix + 12)
    x[middle] = np.nan
    dout[middle] = np.nan
    out, own = forward(made, x, weight)
    dx = np.empty_like(x)
    own.backward(dout, dx)
    assert np.isnan(out[middle]).all() and np.isnan(dx[middle]).all()
    others = np.r_[0 : middle.start, middle.stop : len(x)]
    np.testing.assert_array_equal(out[others], clean[others])
    rows = others[others >= prefix]  # the prefix has a part of every row's gradient
    np.testing.assert_array_equal(dx[rows], dclean[rows])


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_gradient(prefix: int) -> None:
    rng = np.random.default_rng(2)
    made, weight = layout([3, 9, 1], prefix), rng.standard_normal((4, CHANNELS))
    x, dout = rng.standard_normal((2, len(made.tokens), CHANNELS))
    _, own = forward(made, x, weight)
    dx = np.empty_like(x)
    own.backward(dout, dx)
    check_directions(
        lambda arrays: float((forward(made, arrays[0], weight)[0] * dout).sum()), [x], [dx]
    )


def test_more_taps_than_a_cut_row_keeps_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {LEAST}"):
        forward(layout([4], 0), np.zeros((4, CHANNELS)), np.zeros((LEAST + 1, CHANNELS)))
