"""16-bit floats against NumPy and the gguf package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from m2m.formats.half import bf16_to_f32, f32_to_bf16, f32_to_f16, overflows_f16


def test_every_bf16_number_survives_widening_and_rounding() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = bf16_to_f32(bits)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(f32_to_bf16(wide)[numbers], bits[numbers])
    assert np.isnan(bf16_to_f32(f32_to_bf16(wide[~numbers]))).all()


def test_bf16_rounding_equals_the_gguf_package() -> None:
    array = np.random.default_rng(0).standard_normal((8, 64), np.float32)
    kind = gguf.GGMLQuantizationType.BF16
    np.testing.assert_array_equal(
        f32_to_bf16(array).view(np.uint8), gguf.quantize(array, kind).view(np.uint8)
    )


@pytest.mark.parametrize(
    ("value", "too_large"), [(65504.0, False), (65519.0, False), (65520.0, True), (-1e9, True)]
)
def test_f16_overflow_is_seen_before_it_happens(value: float, too_large: bool) -> None:
    array = np.array([0.0, value], np.float32)
    assert overflows_f16(array) is too_large
    assert bool(np.isinf(f32_to_f16(array)).any()) is too_large


def test_an_empty_array_does_not_overflow() -> None:
    assert not overflows_f16(np.zeros((0, 4), np.float32))
