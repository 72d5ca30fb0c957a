"""Other settings from the command line: typed, checked, and with results of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.errors import RecipeError
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.recipe.overrides import Typed
from m2m.results.folder import RunFolder
from m2m.store import run_lock
from tests.pipeline.scenario import copied, make_scenario, watched_trainings


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose experts are trained."""
    recipe = make_scenario(tmp_path_factory.mktemp("overrides"))
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 2")
    recipe.write_text(text.replace("top = 2", 'top = 1\nbaselines = ["best_single"]'), "utf-8")
    (recipe.parent / "more.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', "utf-8")
    found = m2m("train", recipe, "--quiet")
    assert found.exit_code == 0, found.output
    return recipe


@pytest.fixture
def recipe(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that trainings have written, as they happen."""
    return watched_trainings(monkeypatch, lambda trainer: trainer._folder.name)


@pytest.mark.parametrize(
    ("key", "text", "section", "field", "value"),
    [
        ("train.seed", "1", "train", "seed", 1),
        ("train.learning_rate", "1e-4", "train", "learning_rate", 1e-4),
        ("train.alpha", "8", "train", "alpha", 8.0),
        ("train.schedule", "linear", "train", "schedule", "linear"),
        ("train.schedule", '"linear"', "train", "schedule", "linear"),
        ("train.epochs", "2", "train", "epochs", 2.0),  # in place of the file's steps
        ("train.target_modules", "q_proj,v_proj", "train", "target_modules", ("q_proj", "v_proj")),
        ("search.required", '["copy"]', "search", "required", ("copy",)),
        ("search.required", "[]", "search", "required", ()),
        ("confirm.budget", "7", "confirm", "budget", 7),
        ("confirm.drop", "true", "confirm", "drop", True),
    ],
)  # fmt: skip
def test_a_value_is_typed_like_the_field(
    recipe: Path, key: str, text: str, section: str, field: str, value: object
) -> None:
    loaded = load_recipe(recipe, (), {key: Typed(text)})
    got = getattr(getattr(loaded, section), field)
    assert got == value
    assert type(got) is type(value)
    assert load_recipe(recipe, (), {key: value}) == loaded  # as Python gives it


def test_a_dataset_is_named(recipe: Path) -> None:
    given = {"datasets.upper.path": Typed("more.jsonl"), "datasets.copy.licence": Typed("1.0")}
    loaded = load_recipe(recipe, (), given)
    copy, _, upper = loaded.datasets
    assert upper.path == recipe.parent / "more.jsonl"
    assert copy.licence == "1.0"


def test_all_mistakes_are_named_with_what_was_meant(recipe: Path) -> None:
    wrong = [
        ("trian.seed", "1", "unknown section [trian]; did you mean train?"),
        ("train.sed", "1", "unknown field 'sed' in [train]; did you mean seed?"),
        ("train.rank", "many", "rank must be a whole number, found 'many'"),
        ("train.steps", "0", "steps must be at least 1, found 0"),
        ("train.schedule", "linaer", "unknown schedule 'linaer'; did you mean linear?"),
        ("datasets.cop.licence", "x", "there is no 'cop' in [[datasets]]; did you mean copy?"),
        ("targets.copying.dev", "gone.jsonl", "dev: there is no file"),
    ]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, (), {key: Typed(text) for key, text, _ in wrong})
    for key, _, message in wrong:
        assert f"--set {key}: {message}" in caught.value.message
    with pytest.raises(RecipeError, match=r"--set train\.epochs: give only one of"):
        load_recipe(recipe, (), {"train.steps": 3, "train.epochs": 1.0})


@pytest.mark.parametrize("words", [["seed"], ["train.seed"], ["train.seed=1", "train.seed=2"]])
def test_what_is_no_setting_is_wrong_usage(recipe: Path, words: list[str]) -> None:
    options = [part for word in words for part in ("--set", word)]
    assert m2m("train", recipe, *options).exit_code == 2


def test_equal_settings_have_one_folder(recipe: Path) -> None:
    def folder(**given: Any) -> str:
        keys = {key.replace("__", "."): value for key, value in given.items()}
        return load_recipe(recipe, (), keys).folder.name

    assert folder(train__seed=0, train__rank=4, limits__threads=2) == "recipe", "nothing changes"
    both = folder(train__seed=1, train__rank=8)
    assert both == folder(train__rank=8, train__seed=1) == "recipe+train.rank=8+train.seed=1"
    strange = folder(base__hub="a/b c")
    assert strange == folder(base__hub="a/b c") != folder(base__hub="a/b d")
    assert len(Path(strange).parts) == 1


@pytest.mark.slow
def test_a_setting_never_overwrites_anothers_results(recipe: Path, trainings: list[str]) -> None:
    """A, then B by --set, then A: nothing is trained again, and A's results are as they were."""
    first = m2m("run", recipe, "--json", "--quiet")
    assert first.exit_code == 0, first.output
    runs = recipe.parent / "m2m-runs"
    before = {path: path.read_bytes() for path in (runs / "recipe").rglob("*") if path.is_file()}
    other = m2m("run", recipe, "--set", "train.seed=1", "--json", "--quiet")
    assert other.exit_code == 0, other.output
    assert json.loads(other.stdout)["folder"] == str(runs / "recipe+train.seed=1")
    assert before == {path: path.read_bytes() for path in before}
    trainings.clear()
    again = m2m("run", recipe, "--json", "--quiet")
    assert trainings == []
    assert json.loads(again.stdout)["confirmed"] == json.loads(first.stdout)["confirmed"]


def test_experts_are_reused_between_runs_of_one_folder(
    recipe: Path, trainings: list[str], tmp_path: Path
) -> None:
    second = recipe.with_name("second.toml")
    text = recipe.read_text(encoding="utf-8").replace("[search]", "[search]\nseed = 5")
    second.write_text(text.replace('name = "upper"', 'name = "other"'), encoding="utf-8")
    assert m2m("train", second, "--quiet").exit_code == 0
    assert trainings == ["other"], "copy and reverse are those of the first recipe"
    trainings.clear()
    out = tmp_path / "elsewhere" / "run"
    found = m2m("train", recipe, "--set", "merge.seed=3", "--out", out, "--json", "--quiet")
    assert (found.exit_code, trainings) == (0, [])
    adapters = recipe.parent / "m2m-runs" / "recipe" / "adapters"
    for name in ("copy", "reverse", "upper"):
        for file in (adapters / name).iterdir():
            assert (out / "adapters" / name / file.name).read_bytes() == file.read_bytes()


def test_a_damaged_expert_of_another_run_is_not_taken(recipe: Path, trainings: list[str]) -> None:
    adapters = recipe.parent / "m2m-runs" / "recipe" / "adapters"
    weights = adapters / "copy" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert m2m("train", recipe, "--set", "merge.seed=3", "--quiet").exit_code == 0
    assert trainings == ["copy"]


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["fixed", "until"])
def test_an_edited_recipe_that_is_edited_back_trains_nothing(
    recipe: Path, trainings: list[str], budget: str
) -> None:
    """Adapters of other settings move to `earlier/`, and come back with their settings."""
    text = recipe.read_text(encoding="utf-8").replace('"fixed"', f'"{budget}"')

    def run(text: str) -> list[dict[str, Any]]:
        recipe.write_text(text, encoding="utf-8")
        loaded = load_recipe(recipe)
        with run_lock(loaded.folder):
            confirmed = Run(loaded, Silent()).confirm()
        return [model.as_json() for model in confirmed.models]

    first = run(text)
    run(text.replace("[train]", "[train]\nseed = 7"))
    kept = RunFolder(load_recipe(recipe).folder).earlier
    assert len([path for path in kept.iterdir() if path.is_dir()]) >= 3
    trainings.clear()
    assert run(text) == first
    assert trainings == []


@pytest.mark.slow
def test_a_named_folder_with_other_results_is_refused(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert m2m("search", recipe, "--out", out, "--quiet").exit_code == 0
    before = (out / "ranking.json").read_bytes()
    found = m2m("search", recipe, "--set", "search.seed=1", "--out", out, "--quiet")
    assert found.exit_code == 1
    assert "has results of other settings: search.seed is 0 there and 1 here" in found.stderr
    assert (out / "ranking.json").read_bytes() == before
    assert m2m("search", recipe, "--out", out, "--quiet").exit_code == 0
    assert m2m("report", recipe, "--out", out, "--quiet").exit_code == 0
    assert (out / "report.html").is_file()
    assert m2m("report", out, "--out", out).exit_code == 2, "a folder and --out"
    assert m2m("run", recipe, recipe, "--out", out).exit_code == 2, "two runs in one folder"


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_after_another_setting(recipe: Path) -> None:
    """The state of a training that other settings interrupted is kept too."""
    from m2m.errors import Interrupted
    from tests.tiny import StopAfter

    shutil.rmtree(recipe.parent / "m2m-runs")
    text = recipe.read_text(encoding="utf-8").replace("steps = 2", "steps = 6")
    other = text.replace("[train]", "[train]\nseed = 7")

    def train(text: str, progress: Any) -> list[bool]:
        recipe.write_text(text, encoding="utf-8")
        loaded = load_recipe(recipe)
        with run_lock(loaded.folder):
            return [adapter.resumed for adapter in Run(loaded, progress).train()]

    with pytest.raises(Interrupted, match="after step 4"):
        train(text, StopAfter(4))
    assert train(other, Silent()) == [False, False, False]
    assert train(text, Silent()) == [True, False, False]
