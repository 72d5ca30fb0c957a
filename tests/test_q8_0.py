from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.kernels.q8_0 import quantize_q8_0
from m2m.llamacpp import bindings as c
from m2m.llamacpp.filetypes import Q8_0


def both(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The bytes of C and ours; None where ours leaves it to C."""
    source = np.ascontiguousarray(values, np.float32).reshape(len(values), -1)
    theirs = np.empty((len(source), source.shape[1] // 32 * 34), np.uint8)
    ours = np.empty_like(theirs)
    arguments = (source.ctypes.data, theirs.ctypes.data, 0, *source.shape, None)
    assert c.ggml_quantize_chunk(Q8_0, *arguments) == theirs.nbytes
    return theirs, ours if quantize_q8_0(source, ours) else None


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 0.02, 1.0, 300.0, 1e6])
def test_the_bytes_are_those_of_c(scale: float) -> None:
    values = np.random.default_rng(0).standard_normal((2000, 576)) * scale
    theirs, ours = both(values)
    np.testing.assert_array_equal(ours, theirs)


def test_what_lies_between_two_steps_is_rounded_as_c_does() -> None:
    """With 127 as the largest, a step is 1: halves, their neighbours, zeros of both signs."""
    halves = np.arange(-126.5, 127.0, 1.0, np.float32)
    near = [halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(200))]
    values = np.concatenate([*near, [0.0, -0.0, 0.49999997, -0.49999997]]).astype(np.float32)
    values = np.resize(values, (-(-len(values) // 31), 31))
    rows = np.concatenate([np.full((len(values), 1), 127, np.float32), values], axis=1)
    for factor in (1.0, -1.0, 0.37, 2.0**-20):
        theirs, ours = both(rows * np.float32(factor))
        np.testing.assert_array_equal(ours, theirs)


def test_zeros_and_the_smallest_numbers() -> None:
    theirs, ours = both(np.zeros((3, 64)))
    np.testing.assert_array_equal(ours, theirs)
    _, ours = both(np.full((1, 32), 1e-40))
    assert ours is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=32, max_size=32))
def test_any_block(values: list[float]) -> None:
    theirs, ours = both(np.array([values], np.float32))
    assert ours is None or (ours == theirs).all()
