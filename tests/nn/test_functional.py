from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2m.nn import functional
from m2m.nn.activations import (
    XIELU,
    geglu,
    geglu_backward,
    gelu,
    gelu_backward,
    swiglu,
    swiglu_backward,
)
from m2m.nn.functional import (
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
    rotate,
    rotate_backward,
)
from tests.nn.gradients import F64, check_directions

EPS = 1e-5


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two or three rows, so that every kernel crosses their borders."""
    monkeypatch.setattr(functional, "BLOCK", 24)


def draw(*shape: int, seed: int = 0) -> F64:
    return np.random.default_rng(seed).standard_normal(shape)


def test_rms_norm_is_the_formula_and_adds_the_residual_first() -> None:
    x, residual = draw(7, 8), draw(7, 8, seed=1)
    summed = x + residual
    out = np.empty_like(x)
    inv = rms_norm(x, EPS, out, residual)
    np.testing.assert_allclose(x, summed)
    np.testing.assert_allclose(inv, (np.mean(summed**2, axis=1, keepdims=True) + EPS) ** -0.5)
    np.testing.assert_allclose(out, summed * inv)


def test_rms_norm_backward_adds_the_gradient_to_what_is_there() -> None:
    x, weight, before = draw(7, 8), draw(7, 8, seed=1), draw(7, 8, seed=2)
    out = np.empty_like(x)
    inv = rms_norm(x, EPS, out)
    dx = before.copy()
    rms_norm_backward(weight.copy(), out, inv, dx)

    def loss(arrays: Sequence[F64]) -> float:
        into = np.empty_like(x)
        rms_norm(arrays[0].copy(), EPS, into)
        return float((into * weight).sum())

    check_directions(loss, [x], [dx - before])


def test_layer_norm_is_the_formula_and_its_gradient() -> None:
    x, residual, weight = draw(7, 8), draw(7, 8, seed=1), draw(7, 8, seed=2)
    out, dx = np.empty_like(x), draw(7, 8, seed=3)
    centred = x + residual - (x + residual).mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    inv = layer_norm(x, EPS, out, residual)
    np.testing.assert_allclose(out, expected)
    before = dx.copy()
    layer_norm_backward(weight.copy(), out, inv, dx)

    def loss(arrays: Sequence[F64]) -> float:
        into = np.empty_like(x)
        layer_norm(arrays[0].copy(), EPS, into)
        return float((into * weight).sum())

    check_directions(loss, [x], [dx - before])


def test_a_unit_without_a_gate() -> None:
    x, weight = draw(7, 6) * 2.0, draw(7, 6, seed=1)
    out, dx, again = np.empty_like(x), x.copy(), weight.copy()
    gelu(x, out)
    inner = np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(out, 0.5 * x * (1.0 + np.tanh(inner)))
    gelu_backward(again, dx)
    np.testing.assert_allclose(again, out)

    def loss(arrays: Sequence[F64]) -> float:
        into = np.empty_like(weight)
        gelu(arrays[0], into)
        return float((into * weight).sum())

    check_directions(loss, [x], [dx])


def test_rotation_by_complex_numbers_and_back() -> None:
    x, weight = draw(5, 8), draw(5, 8, seed=1)
    table = np.asarray(0.7 * np.exp(1j * draw(5, 4, seed=2)), np.complex128)
    dx = weight.copy()
    rotate_backward(dx, table)

    def loss(arrays: Sequence[F64]) -> float:
        moved = arrays[0].copy()
        rotate(moved, table)
        return float((moved * weight).sum())

    check_directions(loss, [x], [dx])
    turned = x.copy()
    rotate(turned, table)
    expected = x[:, 0] * table[:, 0].real - x[:, 1] * table[:, 0].imag
    np.testing.assert_allclose(turned[:, 0], expected)


@pytest.mark.parametrize(
    ("forward", "backward"), [(swiglu, swiglu_backward), (geglu, geglu_backward)]
)
def test_gated_units(forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
    pair, weight = draw(7, 12), draw(7, 6, seed=1)
    dpair, again, out = pair.copy(), weight.copy(), np.empty_like(weight)
    forward(pair, out)
    backward(again, dpair)
    np.testing.assert_allclose(again, out)

    def loss(arrays: Sequence[F64]) -> float:
        into = np.empty_like(weight)
        forward(arrays[0], into)
        return float((into * weight).sum())

    check_directions(loss, [pair], [dpair])


def test_gated_units_are_the_published_activations() -> None:
    gate, up = draw(4, 5) * 3.0, draw(4, 5, seed=1)
    pair, out = np.concatenate([gate / 2.0, up], axis=1), np.empty_like(gate)
    swiglu(pair, out)
    np.testing.assert_allclose(out, gate / (1.0 + np.exp(-gate)) * up)
    geglu(pair, out)
    inner = np.sqrt(2.0 / np.pi) * (gate + 0.044715 * gate**3)
    np.testing.assert_allclose(out, 0.5 * gate * (1.0 + np.tanh(inner)) * up)


def test_kernels_keep_float32() -> None:
    x = draw(3, 8).astype(np.float32)
    out = np.empty_like(x)
    assert rms_norm(x, EPS, out, x.copy()).dtype == np.float32
    table = np.ones((3, 4), np.complex64)
    rotate(x, table)
    assert x.dtype == out.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_finite_float16_is_widened_exactly(dtype: type) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half = every[np.isfinite(every)].reshape(-1, 1024)
    out: NDArray[Any] = np.empty((len(half), 1030), dtype)[:, :1024]
    functional.widen(half, out)
    np.testing.assert_array_equal(
        out.view(np.uint32 if dtype == np.float32 else np.uint64),
        half.astype(dtype).view(np.uint32 if dtype == np.float32 else np.uint64),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_every_finite_bfloat16_is_widened_exactly(dtype: type, factor: float) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    expected = (every.astype(np.uint32) << 16).view(np.float32)
    kept = np.isfinite(expected)
    every, expected = every[kept].reshape(-1, 256), expected[kept].reshape(-1, 256)
    out: NDArray[Any] = np.empty((len(every), 262), dtype)[:, :256]
    functional.widen(every, out, factor)
    np.testing.assert_array_equal(out, expected.astype(dtype) * factor)


def test_widening_multiplies_columns() -> None:
    half, factor = draw(3, 8).astype(np.float16), draw(1, 8)[0].astype(np.float32)
    out = np.empty((3, 8), np.float32)
    functional.widen(half, out, factor)
    np.testing.assert_array_equal(out, half.astype(np.float32) * factor)


def test_extreme_gates_neither_overflow_nor_turn_into_nan() -> None:
    pair = np.array([[-400.0, 400.0, 1.0, 1.0]], np.float32)
    out = np.empty((1, 2), np.float32)
    swiglu(pair, out)
    np.testing.assert_array_equal(out, [[0.0, 800.0]])


def test_a_wrong_gradient_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)) for _ in range(3)]
    grads = [2 * array for array in arrays]
    check_directions(lambda moved: float(sum((a * a).sum() for a in moved)), arrays, grads)
    grads[1] = grads[1] * (1 + 1e-5)
    with pytest.raises(AssertionError, match=r"alone \{1:"):
        check_directions(lambda moved: float(sum((a * a).sum() for a in moved)), arrays, grads)


def test_xielu_is_the_formula_and_its_gradient() -> None:
    x, weight = draw(5, 8), draw(5, 8, seed=1)
    x += 0.1 * np.sign(x)  # the slope is bent at 0
    alpha_p, alpha_n, beta, eps = 0.4, -0.3, 0.6, -1e-6
    own = XIELU(alpha_p, alpha_n, beta, eps)
    out = np.empty_like(x)
    own.forward(x, out)
    above = np.log(1.0 + np.exp(alpha_p)) * x**2 + beta * x
    slope = beta + np.log(1.0 + np.exp(alpha_n))
    below = slope * (np.exp(np.minimum(x, eps)) - 1.0 - x) + beta * x
    np.testing.assert_allclose(out, np.where(x > 0.0, above, below), rtol=1e-12)

    def loss(arrays: Sequence[F64]) -> float:
        into = np.empty_like(x)
        own.forward(arrays[0], into)
        return float((into * weight).sum())

    dx, act = x.copy(), weight.copy()
    own.backward(act, dx)
    check_directions(loss, [x], [dx])
    np.testing.assert_allclose(act, out, rtol=1e-12)
