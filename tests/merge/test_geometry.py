from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel
from m2m.merge.geometry import base_norm, gram_matrix
from m2m.nn.lora import LoraPair, lora_delta
from tests.tiny import pico_model

SHAPES = {"one": (12, 8), "two": (6, 10)}


def adapter(seed: int, rank: int, modules: tuple[str, ...] = ("one", "two")) -> Adapter:
    rng = np.random.default_rng(seed)
    pairs = {
        name: LoraPair(
            rng.normal(size=(rank, SHAPES[name][1])), rng.normal(size=(SHAPES[name][0], rank)), 1.5
        )
        for name in modules
    }
    return Adapter(rank, 1.5 * rank, pairs, "base")


def test_inner_products_are_those_of_the_deltas_themselves() -> None:
    adapters = [adapter(1, 2), adapter(2, 3, ("two",)), adapter(3, 2)]
    flat = []
    for each in adapters:
        deltas = {name: lora_delta(pair) for name, pair in each.pairs.items()}
        zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
        flat.append(np.concatenate([(zeros | deltas)[name].ravel() for name in SHAPES]))
    expected = np.array(flat) @ np.array(flat).T
    assert gram_matrix(adapters) == pytest.approx(expected)


def test_the_norm_of_the_base_is_that_of_the_weights_that_change(tmp_path: Path) -> None:
    base = BaseModel.open(pico_model(tmp_path))
    module = "model.layers.0.self_attn.q_proj"
    rng = np.random.default_rng(0)
    pair = LoraPair(rng.normal(size=(2, 64)), rng.normal(size=(64, 2)), 1.0)
    expected = np.linalg.norm(base.weights[f"{module}.weight"])
    assert base_norm(base, [Adapter(2, 2.0, {module: pair}, "pico")]) == pytest.approx(expected)
