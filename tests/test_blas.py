from __future__ import annotations

import numpy as np
import pytest

from m2m.blas import blas_switches, can_hold_blas, one_blas_thread


def test_threads_are_one_inside_and_as_before_after() -> None:
    found = blas_switches()
    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if found is None:
        assert "openblas" not in build
        pytest.skip(f"NumPy uses {build}")
    get, set_ = found
    before = get()
    set_(2)
    try:
        with one_blas_thread():
            assert get() == 1
            a = np.random.default_rng(0).standard_normal((300, 300))
            inside = a @ a
        assert get() == 2
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        assert get() == 2
    finally:
        set_(before)
    np.testing.assert_allclose(a @ a, inside)


def test_the_last_of_several_that_hold_it_lets_go() -> None:
    if not can_hold_blas():
        pytest.skip("NumPy's BLAS has no switch")
    get, set_ = blas_switches() or (lambda: 0, lambda count: None)
    before = get()
    set_(2)
    try:
        outer, inner = one_blas_thread(), one_blas_thread()
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        assert get() == 1
        inner.__exit__(None, None, None)
        assert get() == 2
    finally:
        set_(before)
