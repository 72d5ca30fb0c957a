"""PEFT folders: round trips, what others write, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from m2m.adapter import Adapter, check_adapter, load_adapter, read_extra, save_adapter
from m2m.errors import InputError
from m2m.nn.lora import LoraPair, lora_delta
from tests.tiny import pico_config

Q0, V1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"
SHAPES = {Q0: (64, 64), V1: (32, 64)}


def pair(module: str, rank: int = 4, scale: float = 2.0, seed: int = 0) -> LoraPair:
    rng = np.random.default_rng(seed)
    rows, columns = SHAPES[module]
    a = rng.standard_normal((rank, columns), np.float32)
    return LoraPair(a, rng.standard_normal((rows, rank), np.float32), scale)


def adapter(**pairs_by_name: Any) -> Adapter:
    pairs = {Q0: pair(Q0), V1: pair(V1, seed=1)}
    values: dict[str, Any] = {"rank": 4, "alpha": 8.0, "pairs": pairs, "base_model": "pico"}
    return Adapter(**values | {"base_fingerprint": "abc", "name": "one"} | pairs_by_name)


def foreign(folder: Path, tensors: dict[str, Any] | None = None, **config: Any) -> Path:
    """A folder as PEFT would write it, without m2m.json."""
    folder.mkdir()
    prefix = f"base_model.model.{Q0}"
    if tensors is None:
        made = pair(Q0)
        tensors = {f"{prefix}.lora_A.weight": made.a, f"{prefix}.lora_B.weight": made.b}
    save_file(tensors, folder / "adapter_model.safetensors")
    base = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "x/y"}
    text = json.dumps(base | config)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return folder


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    saved = adapter()
    save_adapter(tmp_path / "a", saved, {"losses": [2.0, 1.5]})
    loaded = load_adapter(tmp_path / "a")
    assert (loaded.rank, loaded.alpha, loaded.name) == (4, 8.0, "one")
    assert (loaded.base_model, loaded.base_fingerprint) == ("pico", "abc")
    assert loaded.pairs.keys() == saved.pairs.keys()
    for module, made in saved.pairs.items():
        np.testing.assert_array_equal(loaded.pairs[module].a, made.a)
        np.testing.assert_array_equal(loaded.pairs[module].b, made.b)
        assert loaded.pairs[module].scale == made.scale
    assert read_extra(tmp_path / "a")["losses"] == [2.0, 1.5]


def test_the_files_are_what_peft_expects(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", adapter())
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert tensors[f"base_model.model.{V1}.lora_A.weight"].shape == (4, 64)
    assert tensors[f"base_model.model.{V1}.lora_B.weight"].shape == (32, 4)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 8, "none")
    assert config["use_rslora"] is False
    # Not every layer has both modules, so the full paths are named.
    assert config["target_modules"] == [Q0, V1]


def test_target_modules_are_last_parts_where_all_layers_agree(tmp_path: Path) -> None:
    pairs = {Q0: pair(Q0), Q0.replace("0", "1"): pair(Q0)}
    save_adapter(tmp_path / "a", adapter(pairs=pairs))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["q_proj"]


def test_unequal_ranks_and_scales_keep_their_deltas(tmp_path: Path) -> None:
    pairs = {Q0: pair(Q0, rank=3, scale=0.5), V1: pair(V1, rank=6, scale=1.0)}
    save_adapter(tmp_path / "a", adapter(pairs=pairs))
    loaded = load_adapter(tmp_path / "a")
    assert loaded.rank == 6
    for module, made in pairs.items():
        found = lora_delta(loaded.pairs[module])
        np.testing.assert_allclose(found, lora_delta(made), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"q_proj": 16}}, 4.0),
        ({"alpha_pattern": {r"model\.layers\.\d+\.self_attn\.q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"v_proj": 16, "proj": 1}}, 2.0),
        ({"rank_pattern": {"q_proj": 4}, "r": 64}, 2.0),
        ({"fan_in_fan_out": True}, 2.0),
        ({"modules_to_save": None, "bias": "none", "unknown_key": 3}, 2.0),
        ({"init_lora_weights": "gaussian"}, 2.0),
    ],
)
def test_scales_of_other_peoples_adapters(
    tmp_path: Path, config: dict[str, Any], scale: float
) -> None:
    loaded = load_adapter(foreign(tmp_path / "theirs", **config))
    assert loaded.pairs[Q0].scale == scale
    assert (loaded.name, loaded.base_model, loaded.base_fingerprint) == ("theirs", "x/y", None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"kasa_config": {"beta": 1}}, "kasa_config"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=r"adapter_config\.json") as caught:
        load_adapter(foreign(tmp_path / "theirs", **config))
    assert said in caught.value.message


def test_all_problems_of_a_config_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_adapter(foreign(tmp_path / "theirs", use_dora=True, bias="all", r=-1))
    assert all(word in caught.value.message for word in ("use_dora", "bias", "r is -1"))


A, B = np.ones((2, 64), np.float32), np.ones((64, 2), np.float32)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"base_model.model.{Q0}.lora_A.weight": A}, "lora_A only"),
        ({f"base_model.model.{Q0}.lora_magnitude_vector.weight": A}, "lora_magnitude_vector"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": A}, "lora_embedding_A"),
        (
            {
                f"base_model.model.{Q0}.lora_A.weight": A,
                f"base_model.model.{Q0}.lora_B.weight": np.ones((64, 3), np.float32),
            },
            "share no rank",
        ),
        (
            {
                f"base_model.model.{Q0}.lora_A.weight": A * np.float32(np.nan),
                f"base_model.model.{Q0}.lora_B.weight": B,
            },
            "not finite",
        ),
    ],
)
def test_odd_tensors_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_adapter(foreign(tmp_path / "theirs", tensors))
    assert said in caught.value.message
    assert "adapter_model.safetensors" in caught.value.message


def test_half_precision_and_named_keys_are_read(tmp_path: Path) -> None:
    prefix = f"base_model.model.{Q0}"
    tensors = {
        f"{prefix}.lora_A.default.weight": A.astype(np.float16),
        f"{prefix}.lora_B.default.weight": B.astype(np.float16),
    }
    loaded = load_adapter(foreign(tmp_path / "theirs", tensors, r=2))
    assert loaded.pairs[Q0].a.dtype == np.float32
    assert loaded.pairs[Q0].scale == 4.0


def test_a_folder_without_adapter_or_with_pickles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an adapter folder"):
        load_adapter(tmp_path)
    theirs = foreign(tmp_path / "theirs")
    (theirs / "adapter_model.safetensors").rename(theirs / "adapter_model.bin")
    with pytest.raises(InputError) as caught:
        load_adapter(theirs)
    assert "pickled" in str(caught.value.hint)


def test_check_adapter_names_every_mismatch() -> None:
    config = pico_config()
    check_adapter(adapter(), config, "abc")
    check_adapter(adapter(base_fingerprint=None), config, "other")
    strange = {"model.layers.9.self_attn.q_proj": pair(Q0), V1: pair(Q0)}
    with pytest.raises(InputError) as caught:
        check_adapter(adapter(pairs=strange), config, "other")
    for said in ("layers.9", V1, "[64, 64]", "[32, 64]", "another base model (pico)", "3 problems"):
        assert said in caught.value.message


def test_saving_replaces_a_folder_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    save_adapter(folder, adapter())
    (folder / "stale.txt").write_text("old", encoding="utf-8")
    save_adapter(folder, adapter(name="two"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "m2m.json",
    ]
    assert load_adapter(folder).name == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
