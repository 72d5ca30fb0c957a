"""The list of models that fit, and the answer to a name of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.checkpoint import BaseModel, find_model
from m2m.checkpoint.known import FILES, advice, known_models
from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.recipe import Train
from m2m.tuner.saving import GIB, choose_saving, load_of
from tests.pipeline.scenario import make_scenario


def test_the_list_is_complete_and_in_order() -> None:
    models = known_models()
    assert len(models) == 10
    assert [m.parameters for m in models[:-2]] == sorted(m.parameters for m in models[:-2])
    assert len({model.name for model in models}) == len(models)
    for model in models:
        usual, least = model.memory
        bytes_in_16_bits = 2 * model.parameters * 1e6 / GIB
        assert bytes_in_16_bits < least < usual
        assert model.licence
        assert model.languages


@pytest.mark.model
def test_facts_about_the_starter_are_those_of_its_files(starter: Path) -> None:
    base = BaseModel.open(starter)
    stated = next(model for model in known_models() if model.name == base.name)
    assert stated.parameters == round(base.info.parameters / 1e6)
    assert stated.licence == base.info.licence
    load = load_of(Train(), 2)
    saving = choose_saving(base.config, load, 0, held=int(0.2 * GIB))
    assert stated.memory[0] == pytest.approx(saving.bytes / GIB, abs=0.15)


def test_they_are_printed_whole_with_the_way_to_get_them() -> None:
    shown = CliRunner().invoke(cli, ["models", "known"]).stdout
    for model in known_models():
        assert f"{model.hub}: " in shown
    assert "m2m downloads nothing" in shown
    listed = json.loads(CliRunner().invoke(cli, ["models", "known", "--json"]).stdout)
    assert [entry["hub"] for entry in listed] == [model.hub for model in known_models()]
    assert all(name in listed[0]["get"] for name in (*FILES, listed[0]["hub"]))


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("Qwen/Qwen3-0.6B", "the page Qwen/Qwen3-0.6B of"),
        ("qwen/qwen3-0.6b", "the page Qwen/Qwen3-0.6B of"),
        ("qwen3-0.6b", "the page Qwen/Qwen3-0.6B of"),
        ("Qwen/Qwen3-0.6", "did you mean Qwen/Qwen3-0.6B?"),
        ("lelapa/InkubaLM-0.4B", "the page lelapa/InkubaLM-0.4B of"),
    ],
)
def test_a_name_of_the_hub_is_answered_with_the_way_to_get_it(asked: str, answer: str) -> None:
    with pytest.raises(InputError, match="there is no model called") as refused:
        find_model(asked, [Path("models")])
    assert answer in str(refused.value.hint)
    added = CliRunner().invoke(cli, ["models", "add", asked])
    assert added.exit_code == 1
    assert answer in added.stderr


@pytest.mark.parametrize("name", ["my-model", "a/b/c", "../x", "C:/x y"])
def test_other_names_are_no_names_of_the_hub(name: str) -> None:
    assert advice(name) is None


def test_a_folder_with_such_a_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert advice("owner/model") is None


def test_a_recipe_with_a_name_of_the_hub_says_it_too(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace('"pico"', '"Qwen/Qwen2.5-0.5B-Instruct"')
    recipe.write_text(text, encoding="utf-8")
    found = CliRunner().invoke(cli, ["train", str(recipe), "--quiet"])
    assert found.exit_code == 1
    assert "m2m models add Qwen2.5-0.5B-Instruct" in found.stderr
    assert "Imported models: pico" in found.stderr
