"""scripts/bench/train.py measures what it says, on a pico model."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tiny import pico_config

SCRIPT = Path(__file__).parent.parent / "scripts" / "bench" / "train.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("bench_train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_train", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.MODELS, "pico", pico_config())
    yield module


def options(case: str, threads: int) -> argparse.Namespace:
    return argparse.Namespace(
        model="pico", cases=[case], threads=threads, maps="whole", recompute=0, repeats=1
    )


@pytest.mark.parametrize("case", ["short_512", "long_512"])
def test_a_case_is_measured_against_the_products_of_all_threads(
    bench: ModuleType, case: str
) -> None:
    made = bench.Bench(options(case, 2))
    found = made.measure(case, 1)
    assert found["step_over_gemm"] > 0
    assert found["tokens_per_second"] > 0
    whole, shared = made.recorded(case, 1), made.recorded(case, 2)
    assert (len(whole), len(shared)) == (1, 2)
    together = sum(bench.flops(products) for products in shared)
    assert together == pytest.approx(bench.flops(whole[0]), rel=0.1)
    work = [bench.flops(products) for products in shared]
    assert max(work) < 1.4 * min(
        work
    )  # attention, which is guessed, is a large part of a pico model


def test_the_products_are_put_back(bench: ModuleType) -> None:
    before = np.matmul
    bench.Bench(options("short_512", 2)).recorded("short_512", 2)
    assert np.matmul is before
