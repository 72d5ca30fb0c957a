"""`adapter = "..."` of a dataset: an adapter that was trained elsewhere is its expert."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.adapter import CONFIG, OWN, WEIGHTS
from m2m.cli.main import cli
from m2m.errors import InputError, RecipeError
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from tests.pipeline.scenario import copied, make_scenario

WIDE = 'rank = 6\nalpha = 9\ntarget_modules = ["q_proj", "v_proj", "down_proj"]'
SMALL = {"steps = 12": "steps = 4", "checkpoint_every = 3": "checkpoint_every = 2"}


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def changed(recipe: Path, name: str, changes: dict[str, str]) -> Path:
    text = recipe.read_text(encoding="utf-8")
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    path = recipe.with_name(name)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched run; its adapter of copy, and one of reverse of another rank, as PEFT folders."""
    recipe = changed(make_scenario(tmp_path_factory.mktemp("given")), "recipe.toml", SMALL)
    wide = changed(recipe, "wide.toml", {"rank = 4": WIDE})
    for path, name in ((recipe, "copy"), (wide, "reverse")):
        assert m2m("train" if path is wide else "search", path, "--quiet").exit_code == 0
        source = path.parent / "m2m-runs" / path.stem / "adapters" / name
        for file in (CONFIG, WEIGHTS):  # as PEFT leaves it: without m2m's own file
            target = path.parent / "gpu" / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / file, target)
    changed(recipe, "given.toml", {
        'path = "copy.jsonl"': 'path = "copy.jsonl"\nadapter = "gpu/copy"',
        'path = "reverse.jsonl"': 'adapter = "gpu/reverse"',
    })  # fmt: skip
    return recipe.with_name("given.toml")


@pytest.fixture
def recipe(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path)


def trials(recipe: Path) -> dict[tuple[str, ...], Any]:
    """The scores of each mixture in a run's journal."""
    journal = recipe.parent / "m2m-runs" / recipe.stem / "study.jsonl"
    lines = map(json.loads, journal.read_text(encoding="utf-8").splitlines())
    return {tuple(line["mixture"]["datasets"]): line["scores"]["copying"] for line in lines}


def test_it_is_merged_scored_and_never_fine_tuned_without_rows(recipe: Path) -> None:
    work = Run(load_recipe(recipe), Silent())
    trained = {adapter.dataset: adapter for adapter in work.train()}
    assert [*trained] == ["copy", "reverse", "upper"]
    assert trained["copy"].path == recipe.parent / "gpu" / "copy"
    assert [a.loss_first is None for a in trained.values()] == [True, True, False]
    folder = work.folder
    assert [path.name for path in (folder / "adapters").iterdir()] == ["upper"]
    work.search()
    own, given = trials(recipe.with_name("recipe.toml")), trials(recipe)
    assert given.keys() == own.keys()
    assert given[("copy",)]["loglik"] == own[("copy",)]["loglik"]  # the very same adapter
    assert given[("copy", "upper")]["loglik"] == own[("copy", "upper")]["loglik"]
    assert given[("reverse",)]["loglik"] != own[("reverse",)]["loglik"]  # another rank
    confirmation = work.confirm()
    tuned = [model for model in confirmation.models if model.how == "finetuned"]
    assert tuned
    assert not any("reverse" in model.mixture.datasets for model in tuned)
    alone = [model for model in tuned if model.mixture.datasets == ("copy",)]
    assert all(folder / "confirm" in model.adapter.parents for model in alone if model.adapter)
    stored = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    assert len(stored["inputs"]["datasets"]["reverse"]["adapter"]) == 64
    assert any("reverse has no rows" in line for line in stored["inputs"]["base"]["warnings"])


def test_its_report_and_the_checks_of_data_leave_it_out(recipe: Path) -> None:
    assert m2m("train", recipe, "--quiet").exit_code == 0
    assert m2m("data", "check", recipe).exit_code == 0
    shown = m2m("train", recipe, "--json")
    assert [Path(each["path"]).parent.name for each in json.loads(shown.stdout)["adapters"]] == [
        *("gpu", "gpu", "adapters")
    ]
    assert "its expert is the adapter" in shown.stderr
    assert "Warning: reverse has no rows" in shown.stderr
    report = m2m("report", recipe, "--json")
    assert [curve["name"] for curve in json.loads(report.stdout)["curves"]] == ["upper"]


@pytest.mark.slow
def test_only_adapters_are_searched_and_then_refused_in_words(recipe: Path) -> None:
    bare = changed(recipe, "bare.toml", {
        'path = "copy.jsonl"\n': "",
        '[[datasets]]\nname = "upper"\npath = "upper.jsonl"\n': "",
    })  # fmt: skip
    found = m2m("search", bare, "--json", "--quiet")
    assert found.exit_code == 0
    assert len(json.loads(found.stdout)["mixtures"]) == 3
    refused = m2m("confirm", bare, "--quiet")
    assert refused.exit_code == 1
    assert "nothing to fine-tune for real" in refused.stderr
    assert "m2m merge" in refused.stderr
    assert "no training to time" in m2m("plan", bare, "--quiet").stderr


def test_validate_needs_the_rows(recipe: Path) -> None:
    with pytest.raises(InputError, match="reverse: an adapter without rows cannot be fine-tuned"):
        Run(load_recipe(recipe), Silent()).validate()


def test_an_adapter_of_another_base_is_refused(recipe: Path) -> None:
    gpu = recipe.parent / "gpu"
    (gpu / "copy" / OWN).write_text(json.dumps({"base_fingerprint": "0" * 64}), encoding="utf-8")
    config = json.loads((gpu / "reverse" / CONFIG).read_text(encoding="utf-8"))
    (gpu / "reverse" / CONFIG).write_text(json.dumps({**config, "r": 5}), encoding="utf-8")
    found = m2m("search", recipe, "--quiet")
    assert found.exit_code == 1
    assert "was trained on another base model" in found.stderr
    assert "has rank 6, adapter_config.json says 5" in found.stderr


def test_an_adapter_that_names_another_base_is_doubted(recipe: Path) -> None:
    path = recipe.parent / "gpu" / "copy" / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    named = {**config, "base_model_name_or_path": "someone/quite-another-model"}
    path.write_text(json.dumps(named), encoding="utf-8")
    found = m2m("train", recipe, "--quiet")
    assert found.exit_code == 0
    assert "quite-another-model" in found.stderr
    assert "Warning: the adapter copy" in found.stderr


def test_a_dataset_needs_rows_or_an_adapter(recipe: Path) -> None:
    none = changed(recipe, "none.toml", {'adapter = "gpu/reverse"\n': ""})
    with pytest.raises(RecipeError, match="field 'path' is missing in"):
        load_recipe(none)
    gone = changed(recipe, "gone.toml", {'"gpu/reverse"': '"gpu/other"'})
    with pytest.raises(RecipeError, match=r"line \d+: adapter: there is no folder") as refused:
        load_recipe(gone)
    assert "path:" not in refused.value.message
