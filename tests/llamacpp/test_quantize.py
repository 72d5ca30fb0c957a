from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.llamacpp import filetypes as f
from m2m.llamacpp.quantize import (
    Survival,
    dequantize_rows,
    quantize,
    quantize_merged,
    quantize_rows,
)

TYPES = sorted({t.tensor for t in f.FILE_TYPES.values()} | {f.Q5_0, f.Q5_1})


def matrix(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def read_back(packed: np.ndarray, type: int, columns: int) -> np.ndarray:
    out = np.empty((len(packed), columns), np.float32)
    dequantize_rows(packed, type, out)
    return out


@pytest.mark.parametrize("type", TYPES)
def test_threads_do_not_change_a_byte(type: int) -> None:
    array = matrix(2100, 256)  # three chunks
    whole = np.empty((2100, f.row_bytes(256, type)), np.uint8)
    quantize_rows(array, type, whole)
    np.testing.assert_array_equal(quantize(array, type, threads=3), whole)
    np.testing.assert_array_equal(quantize(array, type, threads=1), whole)


@pytest.mark.parametrize("type", TYPES)
def test_reading_back_is_what_the_gguf_package_reads(type: int) -> None:
    packed = quantize(matrix(5, 512), type)
    theirs = quants.dequantize(packed, GGMLQuantizationType(type)).reshape(5, 512)
    np.testing.assert_array_equal(read_back(packed, type, 512), theirs)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(TYPES), st.integers(1, 9), st.integers(1, 3), st.floats(1e-2, 1e4), st.data()
)
def test_every_type_stays_near_the_values(
    type: int, rows: int, blocks: int, scale: float, data: st.DataObject
) -> None:
    array = matrix(rows, 256 * blocks, data.draw(st.integers(0, 99))) * np.float32(scale)
    back = read_back(quantize(array, type), type, 256 * blocks)
    assert np.linalg.norm(back - array) <= 0.13 * np.linalg.norm(array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    array = matrix(3, 64)
    array[1, 7] = bad
    with pytest.raises(InputError, match="not a finite number"):
        quantize(array, f.Q8_0)


def test_a_value_too_large_for_the_type_is_refused() -> None:
    with pytest.raises(InputError, match="cannot quantise to f16"):
        quantize(np.full((1, 32), 1e6, np.float32), f.F16)


def test_out_is_filled_and_must_fit() -> None:
    array = matrix(4, 64)
    out = np.zeros((4, 68), np.uint8)
    assert quantize(array, f.Q8_0, out=out) is out
    np.testing.assert_array_equal(out, quantize(array, f.Q8_0))
    with pytest.raises(ValueError, match="contiguous"):
        quantize(array, f.Q8_0, out=np.zeros((4, 70), np.uint8))


@pytest.mark.parametrize("type", TYPES)
def test_merged_bytes_are_those_of_the_sum(type: int) -> None:
    base, delta = matrix(1500, 256), matrix(1500, 256, 1) * np.float32(0.1)
    out = np.empty((1500, f.row_bytes(256, type)), np.uint8)
    quantize_merged(base, delta, type, out=out)
    np.testing.assert_array_equal(out, quantize(base + delta, type))


def survival(base: np.ndarray, delta: np.ndarray, type: int) -> Survival:
    out = np.empty((len(base), f.row_bytes(base.shape[1], type)), np.uint8)
    return quantize_merged(base, delta, type, out=out)


def test_survival_is_the_share_and_the_purity_of_the_change() -> None:
    base, delta = matrix(200, 256), matrix(200, 256, 1) * np.float32(0.02)
    whole = survival(base, delta, f.F32)
    assert whole.gain == pytest.approx(1.0, abs=1e-5)
    assert whole.cosine == pytest.approx(1.0, abs=1e-5)
    q8 = survival(base, delta, f.Q8_0)
    read = read_back(quantize(base + delta, f.Q8_0), f.Q8_0, 256)
    change = (read - read_back(quantize(base, f.Q8_0), f.Q8_0, 256)).astype(np.float64)
    assert q8.gain == pytest.approx((change * delta).sum() / (delta**2).sum(), rel=1e-4)
    cosine = (change * delta).sum() / np.linalg.norm(change) / np.linalg.norm(delta)
    assert q8.cosine == pytest.approx(cosine, rel=1e-4)
    both = whole + q8
    assert both.dd == pytest.approx(2 * (delta.astype(np.float64) ** 2).sum(), rel=1e-4)


def test_a_low_bit_base_swallows_a_small_change() -> None:
    raw = matrix(200, 256)
    base = read_back(quantize(raw, f.Q4_1), f.Q4_1, 256)
    delta = matrix(200, 256, 1) * np.float32(0.003)
    assert survival(base, delta, f.Q4_1).gain < 0.3
    assert survival(base, delta, f.Q8_0).gain > 0.9


def test_survival_of_no_change_is_no_number() -> None:
    nothing = survival(matrix(8, 64), np.zeros((8, 64), np.float32), f.Q8_0)
    assert np.isnan(nothing.gain)
    assert np.isnan(nothing.cosine)
