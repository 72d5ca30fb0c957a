"""Adapters of families whose Hugging Face class has one map for q, k and v."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import load_adapter, save_adapter
from m2m.checkpoint import BaseModel, import_model
from m2m.errors import InputError
from m2m.merge.merger import Merger
from m2m.merge.peft_names import to_peft
from m2m.nn.lora import lora_delta
from tests.families.pico import family_folder
from tests.merge.conftest import adapter
from tests.tiny import pico_config


@pytest.fixture(params=["gpt2", "phi3"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> BaseModel:
    config = pico_config(architecture=request.param)
    import_model(family_folder(tmp_path / "hf", config), tmp_path / "m", name="m")
    return BaseModel.open(tmp_path / "m")


def test_a_merge_takes_an_adapter_under_the_names_of_the_hugging_face_class(
    model: BaseModel, tmp_path: Path
) -> None:
    mine = adapter(model, 1, 4)
    save_adapter(tmp_path / "a", to_peft(mine, model.config))
    theirs = load_adapter(tmp_path / "a")
    assert theirs.pairs.keys().isdisjoint({"model.layers.0.self_attn.q_proj"})
    merger = Merger(model, {"a": theirs})
    for module, pair in mine.pairs.items():
        delta = merger.delta(module, ["a"], [1.0])
        np.testing.assert_allclose(delta, lora_delta(pair), atol=1e-5)


def test_another_familys_adapter_is_still_refused_by_its_own_names(
    model: BaseModel, tmp_path: Path
) -> None:
    other = pico_config(architecture="bloom")
    import_model(family_folder(tmp_path / "other", other), tmp_path / "b", name="b")
    foreign = to_peft(adapter(BaseModel.open(tmp_path / "b"), 1, 4), other)
    with pytest.raises(InputError, match="query_key_value is not a linear map"):
        Merger(model, {"a": foreign})
