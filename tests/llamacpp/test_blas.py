from __future__ import annotations

import numpy as np
import pytest

from m2m.llamacpp.blas import _switches, one_blas_thread


def test_threads_are_one_inside_and_as_before_after() -> None:
    found = _switches()
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
