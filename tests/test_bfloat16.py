from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from m2m.formats.half import f32_to_bf16
from m2m.kernels import bfloat16, library
from m2m.nn.matrix import bf16_gain
from tests.nn.reference import bf16_product

Shape = tuple[int, int, int]


@pytest.fixture
def _no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(library, "load", lambda *_: None)
    for cached in (bfloat16._opened, bf16_gain):
        cached.cache_clear()
    yield
    for cached in (bfloat16._opened, bf16_gain):
        cached.cache_clear()


def matrices(shape: Shape, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows, inner, columns = shape
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, inner), dtype=np.float32)
    weights = rng.standard_normal((columns, inner), dtype=np.float32)
    return x, f32_to_bf16(weights).reshape(weights.shape)


# Multiples of what the processor takes at once, and not; one of everything.
SHAPES = [
    (5, 64, 7),
    (128, 608, 96),
    (33, 576, 48),
    (1, 32, 1),
    (3, 40, 5),
    (2, 7, 3),
    (300, 96, 64),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_of_rounded_numbers_added_up_in_float32(shape: Shape) -> None:
    assert bfloat16.available()
    x, weights = matrices(shape)
    out = np.full((shape[0], shape[2]), np.nan, np.float32)
    bfloat16.multiply(x, weights, out)
    exact, most = bf16_product(x, weights)
    assert (np.abs(out - exact) <= most).all()


def test_rows_that_lie_apart_are_taken_from_and_written_to_their_places() -> None:
    x, weights = matrices((6, 64, 9))
    wide, out = np.full((6, 100), 7.0, np.float32), np.full((6, 30), 7.0, np.float32)
    store = np.zeros((9, 200), np.uint16)
    wide[:, 3:67], store[:, 50:114] = x, weights
    bfloat16.multiply(wide[:, 3:67], store[:, 50:114], out[:, 4:13])
    exact, most = bf16_product(x, weights)
    assert (np.abs(out[:, 4:13] - exact) <= most).all()
    assert (np.delete(out, np.s_[4:13], axis=1) == 7.0).all()


def test_threads_at_once_and_growing_sizes_give_the_same_bytes() -> None:
    cases = [matrices((rows, 64, 32), rows) for rows in (4, 500, 3, 80, 2000, 1)]

    def product(case: tuple[np.ndarray, np.ndarray]) -> bytes:
        out = np.empty((len(case[0]), len(case[1])), np.float32)
        bfloat16.multiply(*case, out)
        return out.tobytes()

    alone = [product(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(product, cases * 10)) == alone * 10


def test_values_are_rounded_to_the_nearest_ties_to_even() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values[:4] = np.array([0x3F808000, 0x3F818000, 0x3F80FFFF, 0x80000000], np.uint32).view(
        np.float32
    )
    out = np.empty(len(values), np.uint16)
    bfloat16.narrow(values, out)
    known = np.isfinite(values)
    np.testing.assert_array_equal(out[known], f32_to_bf16(values[known]).reshape(-1))


def test_what_does_not_fit_is_refused() -> None:
    x, weights = matrices((4, 64, 8))
    for out in (np.empty((4, 9), np.float32), np.empty((8, 4), np.float32).T):
        with pytest.raises(ValueError, match="cannot multiply"):
            bfloat16.multiply(x, weights, out)
    with pytest.raises(ValueError, match="cannot multiply"):
        bfloat16.multiply(np.broadcast_to(x[:1], x.shape), weights, np.empty((4, 8), np.float32))
    with pytest.raises(ValueError, match="cannot multiply"):
        bfloat16.multiply(x[::-1], weights, np.empty((4, 8), np.float32))
    with pytest.raises(ValueError, match="cannot multiply"):
        bfloat16.multiply(x[:, :32], weights, np.empty((4, 8), np.float32))
    with pytest.raises(ValueError, match="cannot narrow"):
        bfloat16.narrow(x, np.empty((64, 4), np.uint16))
    bfloat16.multiply(x[:0], weights, np.empty((0, 8), np.float32))


def test_a_speed_is_measured() -> None:
    assert bf16_gain() > 0.0


@pytest.mark.usefixtures("_no_library")
def test_without_the_library_there_is_none() -> None:
    assert not bfloat16.available()
    assert bf16_gain() == 0.0
    x, weights = matrices((4, 64, 8))
    with pytest.raises(RuntimeError, match="available"):
        bfloat16.multiply(x, weights, np.empty((4, 8), np.float32))


def test_a_library_that_lays_tensors_out_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = [*bfloat16._Tensor._fields_]
    moved.insert(2, ("new", bfloat16.c_size_t))
    monkeypatch.setattr(
        bfloat16, "_Tensor", type("_Moved", (bfloat16.ctypes.Structure,), {"_fields_": moved})
    )
    bfloat16._opened.cache_clear()
    try:
        assert not bfloat16.available()
    finally:
        monkeypatch.undo()
        bfloat16._opened.cache_clear()
