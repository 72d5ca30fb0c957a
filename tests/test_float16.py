from __future__ import annotations

import numpy as np
import pytest

from m2m.kernels import float16, library

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(64, 1024)


def bits(values: np.ndarray) -> np.ndarray:
    """What must be the same: all of a number, that it is none of a NaN."""
    return np.where(np.isnan(values), 1, values.view(np.uint32))


def test_every_float16_is_widened_as_numpy_does() -> None:
    assert float16._loop("fp16") is not None, "llama-cpp-python's library was not found"
    out = np.empty(EVERY.shape, np.float32)
    float16.widen(EVERY, out)
    np.testing.assert_array_equal(bits(out), bits(EVERY.astype(np.float32)))


def test_without_the_library_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    float16._loop.cache_clear()
    try:
        assert float16._loop("fp16") is None
        out = np.empty(EVERY.shape, np.float32)
        float16.widen(EVERY, out)
        np.testing.assert_array_equal(bits(out), bits(EVERY.astype(np.float32)))
    finally:
        monkeypatch.undo()
        float16._loop.cache_clear()


@pytest.mark.parametrize("library_is_there", [True, False])
@pytest.mark.parametrize("step", [1, 2])
def test_every_bfloat16_is_the_upper_half_of_a_float32(
    monkeypatch: pytest.MonkeyPatch, step: int, library_is_there: bool
) -> None:
    if not library_is_there:
        monkeypatch.setattr(float16, "_loop", lambda kind: None)
    every = np.arange(1 << 16, dtype=np.uint16).reshape(64, 1024)[::step]
    out = np.zeros((64, 1030), np.float32)[: len(every), :1024]
    float16.widen(every, out)
    expected = (every.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(bits(out), bits(expected))


@pytest.mark.parametrize("step", [1, 2])
def test_rows_that_lie_apart_are_widened_in_their_places(step: int) -> None:
    out = np.zeros((64, 1030), np.float32)
    float16.widen(EVERY[::step, :], out[: 64 // step, :1024])
    np.testing.assert_array_equal(
        bits(out[: 64 // step, :1024]), bits(EVERY[::step].astype(np.float32))
    )
    assert not out[:, 1024:].any()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot widen"):
        float16.widen(EVERY, np.empty((1024, 64), np.float32))
