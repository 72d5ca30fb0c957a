"""An import compares m2m's computation with llama.cpp's, and names what it does not know."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.errors import InputError, LlamaError
from m2m.families import FAMILIES
from m2m.formats.gguf import GGUFValue
from m2m.llamacpp.guard import check_import
from m2m.llamacpp.logit_check import check_agreement, divergence
from m2m.llamacpp.model import LlamaModel
from m2m.nn.config import RopeScaling
from tests.families.pico import CONFIGS, family_folder
from tests.tiny import pico_config, write_pico_gguf
from tests.tiny_folder import pico_folder


def with_another_theta(folder: Path) -> Path:
    """Make the decoder rotate otherwise than llama.cpp; return base.gguf."""
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8")) | {"rope_theta": 20.0}
    path.write_text(json.dumps(data), encoding="utf-8")
    return folder / "base.gguf"


def agree(path: Path) -> None:
    with LlamaModel(path, threads=1, exact_cache=True) as peer:
        check_agreement(path, peer)


@pytest.mark.parametrize("kind", [pytest.param("F32", marks=pytest.mark.slow), "BF16"])
def test_a_model_that_the_two_compute_otherwise_is_refused(tmp_path: Path, kind: str) -> None:
    source = pico_folder(tmp_path / "hf", dtype=kind)
    import_model(source, tmp_path / "m", name="m", check=check_import)
    agree(tmp_path / "m" / "base.gguf")
    path = with_another_theta(tmp_path / "m")
    with pytest.raises(
        LlamaError, match=r"After token \d+ of 24 .*KL .*read it as llama"
    ) as caught:
        check_import(path)
    assert caught.value.hint and "does not follow" in caught.value.hint
    if kind == "F32":
        with pytest.raises(LlamaError, match=r"hf: m2m and llama\.cpp compute different models"):
            import_model(
                source,
                tmp_path / "n",
                name="n",
                check=lambda made: check_import(with_another_theta(made.parent)),
            )
        assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_agrees(tmp_path: Path, name: str) -> None:
    import_model(
        family_folder(tmp_path / "hf", CONFIGS[name]),
        tmp_path / "m",
        name="m",
        check=agree,
    )


@pytest.mark.parametrize("name", [n for n in FAMILIES if CONFIGS[n].positions == "rotary"])
def test_rotary_factors_of_llama_3_are_computed_alike_or_refused(tmp_path: Path, name: str) -> None:
    scaling = RopeScaling("llama3", 8.0, 1.0, 4.0, 16)  # so that 24 tokens show it
    source = family_folder(
        tmp_path / "hf", dataclasses.replace(CONFIGS[name], rope_scaling=scaling)
    )
    if FAMILIES[name].llama3:
        import_model(source, tmp_path / "m", name="m", check=agree)
        return
    with pytest.raises(InputError, match="has the type llama3, which"):
        import_model(source, tmp_path / "m", name="m")


def test_the_divergence_of_two_distributions_by_hand() -> None:
    first, second = np.log([[0.5, 0.25, 0.25], [0.5, 0.5, 1e-9]]), np.log([[0.25, 0.25, 0.5]] * 2)
    expected = [0.25 * np.log(2.0), 0.5 * np.log(2.0) + 0.5 * np.log(2.0)]
    np.testing.assert_allclose(divergence(first + 7.0, second), expected, atol=1e-7)
    np.testing.assert_allclose(divergence(first, first - 900.0), 0.0, atol=1e-12)


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    odd = {"llama.attention.sinks": GGUFValue.uint32(1), "other.x": GGUFValue.uint32(1)}
    path = write_pico_gguf(tmp_path / "x.gguf", pico_config(), metadata=odd)
    info = import_model(path, tmp_path / "m", name="m")
    assert any("does not know: attention.sinks." in warning for warning in info.warnings)
    folder = pico_folder(tmp_path / "hf")
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    data |= {"attn_sinks": 4, "use_cache": True, "_name_or_path": "x"}
    (folder / "config.json").write_text(json.dumps(data), encoding="utf-8")
    info = import_model(folder, tmp_path / "n", name="n")
    assert any("does not know: attn_sinks." in warning for warning in info.warnings)
    assert not any("does not know" in text for text in BaseModel.open(tmp_path / "n").warnings[1:])
