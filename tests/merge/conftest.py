"""A pico base and random adapters of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel
from m2m.nn.lora import LoraPair, init_lora, lora_delta
from m2m.recipe import PROJECTIONS
from tests.tiny import pico_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.open(pico_model(tmp_path_factory.mktemp("models")))


def adapter(
    base: BaseModel, seed: int, rank: int = 4, modules: Sequence[str] = PROJECTIONS
) -> Adapter:
    """A random adapter whose B is not zero."""
    rng = np.random.default_rng(seed)
    pairs = {
        name: LoraPair(pair.a, rng.normal(0, 0.05, pair.b.shape).astype(np.float32), pair.scale)
        for name, pair in init_lora(base.config, modules, rank, 8.0, rng).items()
    }
    return Adapter(rank, 8.0, pairs, base.name, base.fingerprint)


def dense(change: Any) -> Any:
    """What a merge method returned, as an array."""
    return lora_delta(change) if isinstance(change, LoraPair) else change
