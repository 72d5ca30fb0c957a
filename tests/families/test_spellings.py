"""Folders that are near a family: other classes with its layers, and larger models without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel, import_model
from m2m.checkpoint.hf_config import config_from_json
from m2m.errors import InputError
from m2m.export.merged_gguf import export_gguf
from m2m.families import FAMILIES
from m2m.formats.gguf import GGUFFile
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.guard import check_import
from m2m.llamacpp.model import LlamaModel
from m2m.merge.merger import Merger
from m2m.nn.lora import LoraPair
from tests.families.pico import CONFIGS, family_folder
from tests.tiny import pico_weights

CONFIG = CONFIGS["granite"]


def granite_4(path: Path, **changes: Any) -> Path:
    """Granite's pico model as GraniteMoeHybrid spells it: gate and up are one tensor."""
    family_folder(path, CONFIG)
    data = json.loads((path / "config.json").read_text(encoding="utf-8"))
    data |= {
        "model_type": "granitemoehybrid",
        "shared_intermediate_size": data["intermediate_size"],
        "intermediate_size": 7,
        "num_local_experts": 0,
        "position_embedding_type": "rope",
        "layer_types": ["attention"] * CONFIG.num_layers,
        "mamba_d_conv": 4,
    }
    (path / "config.json").write_text(json.dumps(data | changes), encoding="utf-8")
    weights = pico_weights(0, CONFIG)
    for layer in range(CONFIG.num_layers):
        prefix = f"model.layers.{layer}"
        pair = [weights.pop(f"{prefix}.mlp.{name}_proj.weight") for name in ("gate", "up")]
        weights[f"{prefix}.shared_mlp.input_linear.weight"] = np.concatenate(pair)
        down = weights.pop(f"{prefix}.mlp.down_proj.weight")
        weights[f"{prefix}.shared_mlp.output_linear.weight"] = down
    specs = [TensorSpec(name, "F32", array.shape) for name, array in weights.items()]
    write_safetensors(path / "model.safetensors", specs, weights.values(), {"format": "pt"})
    return path


@pytest.mark.slow
def test_granite_4_dense_is_granite(tmp_path: Path) -> None:
    source = granite_4(tmp_path / "hf")
    info = import_model(source, tmp_path / "m", name="m", check=check_import)
    assert not any("does not know" in warning for warning in info.warnings)
    model = BaseModel.open(tmp_path / "m")
    assert model.config == CONFIG
    for name, array in pico_weights(0, CONFIG).items():
        np.testing.assert_array_equal(model.weights[name], array)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_local_experts": 8}, "num_local_experts is 8: it has a mixture of experts"),
        ({"num_local_experts": None}, "num_local_experts is None"),
        ({"layer_types": ["mamba", "attention"]}, "layer_types is"),
        ({"position_embedding_type": None}, "position_embedding_type is None"),
    ],
)
def test_granite_4_with_more_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        import_model(granite_4(tmp_path / "hf", **change), tmp_path / "m", name="m")


def test_a_tensor_that_does_not_divide_is_refused_by_name(tmp_path: Path) -> None:
    source = granite_4(tmp_path / "hf", shared_intermediate_size=95)
    with pytest.raises(
        InputError, match=r"shared_mlp\.input_linear\.weight is \[192, 64\], its config says"
    ):
        import_model(source, tmp_path / "m", name="m")


def test_longrope_keeps_its_length_in_exports_and_short_factors_in_large_contexts(
    tmp_path: Path,
) -> None:
    config, key = CONFIGS["phi3 longrope"], "phi3.rope.scaling.original_context_length"
    import_model(family_folder(tmp_path / "hf", config), tmp_path / "m", name="m")
    base, ids = BaseModel.open(tmp_path / "m"), list(range(3, 40))
    with LlamaModel(tmp_path / "m" / "base.gguf", threads=1, context=512) as large:
        many = large.logits(ids)
    with LlamaModel(tmp_path / "m" / "base.gguf", threads=1, context=256) as small:
        np.testing.assert_allclose(small.logits(ids), many, atol=1e-3)
    pair = LoraPair(np.ones((1, 64), np.float32), np.ones((64, 1), np.float32), 1.0)
    given = Adapter(1, 1.0, {"model.layers.0.self_attn.o_proj": pair}, "m")
    out = tmp_path / "x.gguf"
    export_gguf(Merger(base, {"a": given}), {"a": 1.0}, file_type("f32"), out)
    assert base.gguf.value(key) == config.max_position_embeddings == 512
    assert GGUFFile(out).value(key) == 256
    import_model(out, tmp_path / "again", name="again")
    assert BaseModel.open(tmp_path / "again").config == config


def test_exaone_4_with_a_window_is_refused(tmp_path: Path) -> None:
    source = family_folder(tmp_path / "hf", CONFIGS["exaone4"])
    path = source / "config.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    cases = {
        "sliding_window is 4096": {k: v for k, v in stated.items() if k != "sliding_window"},
        "32B has layers with a window": stated | {"num_hidden_layers": 64, "layer_types": None},
    }
    for reason, data in cases.items():
        path.write_text(json.dumps(data), encoding="utf-8")
        with pytest.raises(InputError, match=reason):
            import_model(source, tmp_path / "m", name="m")


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if "rope_scaling" in f.defaults])
def test_rope_settings_of_transformers_5_replace_those_that_are_left_out(
    tmp_path: Path, name: str
) -> None:
    path = family_folder(tmp_path / "hf", CONFIGS[name]) / "config.json"
    data = json.loads(path.read_text("utf-8"))
    data["rope_parameters"] = {"rope_theta": data.pop("rope_theta"), "rope_type": "default"}
    data.pop("rope_scaling", None)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert config_from_json(path) == CONFIGS[name]
