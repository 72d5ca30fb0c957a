"""Adapters that fit a model by their shapes and still are wrong for it, or do nothing.

Merged without a word, they give a model that looks whole: trained on another base, all zero
(peft issues about untrained or wrongly named LoRA weights), or with a head that was trained whole.
Every door that takes an adapter says so: merge, its GGUF LoRA, chat, eval, a whole run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from m2m.adapter import CONFIG, Adapter, load_adapter, save_adapter
from m2m.checkpoint import BaseModel, import_model
from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.export.lora_gguf import export_lora
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.merge.belonging import adapter_doubts, lora_doubts
from tests.merge.conftest import adapter
from tests.pipeline.scenario import make_scenario
from tests.tiny import pico_model, pico_target
from tests.tiny_folder import pico_folder


def m2m(*arguments: str | Path, typed: str = "") -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], typed, catch_exceptions=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.open(pico_model(tmp_path_factory.mktemp("models"), name="SmolLM2-135M"))


def saved(base: BaseModel, folder: Path, named: str, *, zero: bool = False) -> Path:
    """An adapter as PEFT saves it: no fingerprint, the name of its base alone."""
    made = adapter(base, 1)
    if zero:
        for pair in made.pairs.values():
            pair.b[...] = 0.0
    made = dataclasses.replace(made, base_model=named, base_fingerprint=None, name="theirs")
    save_adapter(folder, made)
    (folder / "m2m.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("named", "doubt"),
    [
        ("HuggingFaceTB/SmolLM2-135M", ""),
        ("unsloth/SmolLM2-135M-unsloth-bnb-4bit", ""),
        ("/home/asha/models/smollm2_135m/", ""),
        ("/root/.cache/huggingface/hub/models--HuggingFaceTB--SmolLM2-135M/snapshots/93ef", ""),
        (r"C:\models\SmolLM2-135M.Q8_0.gguf", ""),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "was trained on 'HuggingFaceTB/SmolLM2-135M-Ins"),
        ("mistralai/Mistral-7B-v0.1", "was trained on 'mistralai/Mistral-7B-v0.1'"),
        ("", "does not say which base model it was trained on"),
    ],
)
def test_the_base_that_an_adapter_names_is_compared(
    base: BaseModel, tmp_path: Path, named: str, doubt: str
) -> None:
    theirs = load_adapter(saved(base, tmp_path / "a", named))
    found = adapter_doubts(theirs, base)
    assert [doubt in each for each in found] == [True] * bool(doubt)
    export_lora(theirs, base, tmp_path / "a.gguf")
    again = lora_doubts(tmp_path / "a.gguf", base.gguf.path)
    assert [doubt in each for each in again] == [True] * bool(doubt)


def test_an_adapter_that_lost_the_factors_of_a_layer_is_doubted(
    base: BaseModel, tmp_path: Path
) -> None:
    # As a sharded training saves it; PEFT warns of missing keys since 0.14 (its issue 2115).
    theirs = load_adapter(saved(base, tmp_path / "a", "HuggingFaceTB/SmolLM2-135M"))
    assert not adapter_doubts(theirs, base)
    del theirs.pairs["model.layers.1.self_attn.q_proj"]
    (doubt,) = adapter_doubts(theirs, base)
    assert "no factors for 1 of" in doubt
    assert "model.layers.1.self_attn.q_proj" in doubt


def test_merge_warns_of_another_base_also_through_a_compressed_adapter(
    base: BaseModel, tmp_path: Path
) -> None:
    theirs = saved(base, tmp_path / "a", "mistralai/Mistral-7B-v0.1")
    asked = ("merge", "--model", base.path, "--adapter", theirs)
    found = m2m(*asked, "--out", tmp_path / "merged.gguf")
    assert "Warning: the adapter a was trained on 'mistralai/Mistral-7B-v0.1'" in found.stderr
    assert "is called 'SmolLM2-135M' or" in found.stderr
    printed = json.loads(m2m(*asked, "--rank", 4, "--out", tmp_path / "b", "--json").stdout)
    assert "mistralai" in printed["warnings"][0]
    assert adapter_doubts(load_adapter(tmp_path / "b"), base)  # no fingerprint was made up


def test_an_adapter_that_m2m_trained_on_this_base_is_not_doubted(
    base: BaseModel, tmp_path: Path
) -> None:
    own = dataclasses.replace(adapter(base, 1), base_model="x", base_fingerprint=base.fingerprint)
    export_lora(own, base, tmp_path / "own.gguf")
    assert adapter_doubts(own, base) == lora_doubts(tmp_path / "own.gguf", base.gguf.path) == []
    other = BaseModel.open(pico_model(tmp_path, seed=1, name="other"))
    with pytest.raises(InputError, match="was trained on another base model"):
        lora_doubts(tmp_path / "own.gguf", other.gguf.path)


@pytest.mark.slow
def test_chat_and_eval_warn_of_a_lora_for_another_model(base: BaseModel, tmp_path: Path) -> None:
    theirs = load_adapter(saved(base, tmp_path / "a", "mistralai/Mistral-7B-v0.1"))
    export_lora(theirs, base, tmp_path / "a.gguf")
    lora, task = tmp_path / "a.gguf", pico_target(tmp_path / "t.jsonl", "copy", 4)
    said = m2m("chat", base.path, "--lora", lora, "--tokens", 1, typed="hi\n").stderr
    assert "Warning: the adapter a.gguf was trained on 'mistralai/Mistral-7B-v0.1'" in said
    found = m2m("eval", base.path, "--lora", lora, task, "--json")
    assert "mistralai" in json.loads(found.stdout)["warnings"][0]
    found = m2m("eval", base.path, f"{base.path}+{lora}", task, "--json")
    assert "mistralai" in json.loads(found.stdout)["warnings"][0]


def test_an_adapter_of_zeros_is_said_and_no_number_is_made_up(
    base: BaseModel, tmp_path: Path
) -> None:
    zero = saved(base, tmp_path / "zero", "SmolLM2-135M", zero=True)
    asked = ("merge", "--model", base.path, "--adapter", zero)
    found = m2m(*asked, "--out", tmp_path / "merged.gguf")
    assert "Warning: the adapter zero changes nothing: all its deltas are zero" in found.stderr
    assert "nan" not in found.stdout + found.stderr
    printed = json.loads(m2m(*asked, "--out", tmp_path / "merged.gguf", "--json").stdout)
    assert printed["delta_survival"] is None
    assert "changes nothing" in printed["warnings"][0]
    assert m2m(*asked, "--rank", 4, "--out", tmp_path / "b").exit_code == 1
    export_lora(load_adapter(zero), base, tmp_path / "zero.gguf")
    assert "changes nothing" in lora_doubts(tmp_path / "zero.gguf", base.gguf.path)[0]


@pytest.mark.parametrize("more", [("--scale", "0"), ()])
def test_weights_of_zero_are_said(base: BaseModel, tmp_path: Path, more: tuple[str, ...]) -> None:
    theirs = saved(base, tmp_path / "a", "SmolLM2-135M")
    weighted = f"{theirs}=0" if not more else str(theirs)
    asked = ("merge", "--model", base.path, "--adapter", weighted, *more)
    assert "this merge changes nothing" in m2m(*asked, "--out", tmp_path / "m.gguf").stderr


@pytest.mark.slow  # a real run
def test_a_run_whose_experts_learned_nothing_ends_with_warnings(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("5e-3", "0.0")
    recipe.write_text(text, encoding="utf-8")
    found = m2m("export", recipe, "--anyway", "--json", "--quiet")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["delta_survival"] is None
    ranking = json.loads((tmp_path / "m2m-runs/recipe/ranking.json").read_text(encoding="utf-8"))
    said = [each for each in ranking["warnings"] if "changes nothing" in each]
    assert len(said) == 3


@pytest.mark.parametrize(
    "name", ["base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"]
)
def test_a_head_saved_with_an_adapter_is_refused_with_the_way_out(
    base: BaseModel, tmp_path: Path, name: str
) -> None:
    folder = saved(base, tmp_path / "a", "SmolLM2-135M")
    file = SafetensorsFile(folder / "adapter_model.safetensors")
    tensors = {each: file.array(each) for each in file.names}
    tensors[name] = base.weights["model.embed_tokens.weight"]
    specs = [TensorSpec(each, "F32", array.shape) for each, array in tensors.items()]
    write_safetensors(folder / "adapter_model.safetensors", specs, tensors.values())
    with pytest.raises(InputError, match=r"was trained whole") as caught:
        load_adapter(folder)
    assert "merge_and_unload" in str(caught.value.hint)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["modules_to_save"] = ["lm_head"]
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="modules_to_save") as caught:
        load_adapter(folder)
    assert "merge_and_unload" in str(caught.value.hint)


def test_lora_on_a_head_is_refused(base: BaseModel, tmp_path: Path) -> None:
    theirs = adapter(base, 1)
    head = Adapter(4, 8.0, {"lm_head": next(iter(theirs.pairs.values()))}, "SmolLM2-135M")
    save_adapter(tmp_path / "a", head)
    asked = ("merge", "--model", base.path, "--adapter", tmp_path / "a")
    found = m2m(*asked, "--out", tmp_path / "m.gguf")
    assert found.exit_code == 1
    assert "m2m merges nothing into heads and embeddings" in found.stderr


@pytest.mark.parametrize("stored", ["F16", "F32"])
def test_a_trained_head_beside_a_tied_config_is_refused(tmp_path: Path, stored: str) -> None:
    """transformers ties or unties by its version; a head that was trained is never dropped."""
    folder = pico_folder(tmp_path / "merged")
    file = SafetensorsFile(folder / "model.safetensors")
    tensors = {name: file.array(name) for name in file.names}
    for factor in (1.0, 1.5):
        tensors["lm_head.weight"] = factor * tensors["model.embed_tokens.weight"]
        kinds = dict.fromkeys(tensors, "F32") | {"lm_head.weight": stored}
        specs = [TensorSpec(name, kinds[name], array.shape) for name, array in tensors.items()]
        data = [a.astype(np.float16) if kinds[n] == "F16" else a for n, a in tensors.items()]
        write_safetensors(folder / "model.safetensors", specs, data)
        if factor == 1.0:
            import_model(folder, tmp_path / "same", name="same")
            continue
        with pytest.raises(InputError, match=r"lm_head\.weight differs from the embeddings"):
            import_model(folder, tmp_path / "trained", name="trained")
