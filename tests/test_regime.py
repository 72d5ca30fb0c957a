"""How long models are trained: the budget, the schedule, and runs that began with others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from m2m.errors import RecipeError
from m2m.pipeline.experts import expert_job
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe, run_folder
from m2m.tuner.trainer import Trainer
from tests.pipeline.scenario import copied, make_scenario
from tests.test_recipe import MINIMAL, folder, written

GOLDEN = Path(__file__).parent / "golden" / "begun-fixed" / "recipe.json"
__all__ = ["folder"]  # the fixture


def regime(path: Path) -> tuple[str | int, str]:
    recipe = load_recipe(path)
    return recipe.confirm.budget, recipe.train.schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[confirm]\nbudget = "until"\n', ("until", "anytime")),
        ('[confirm]\nbudget = "fixed"\n', ("fixed", "cosine")),
        ("[confirm]\nbudget = 900\n", (900, "cosine")),
        ('[confirm]\nbudget = "fixed"\n[train]\nschedule = "anytime"\n', ("fixed", "anytime")),
        ("", ("until", "anytime")),
        ('[train]\nschedule = "anytime"\n', ("until", "anytime")),
        ('[train]\nschedule = "linear"\n', ("fixed", "linear")),
        ('[train]\nschedule = "auto"\n[confirm]\nbudget = "until"\n', ("until", "anytime")),
    ],
)
def test_the_schedule_follows_the_budget_if_the_recipe_names_none(
    folder: Path, text: str, expected: tuple[str | int, str]
) -> None:
    assert regime(written(folder, MINIMAL + text)) == expected


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_until_with_a_schedule_that_ends_is_refused_with_its_line(
    folder: Path, schedule: str
) -> None:
    text = MINIMAL + f'[train]\nschedule = "{schedule}"\n[confirm]\nbudget = "until"\n'
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(folder, text))
    assert 'line 14: budget = "until" needs trainings that can always go on' in caught.value.message
    assert f'schedule = "{schedule}"' in caught.value.message


def begun(path: Path) -> Path:
    """The recipe, with the folder of a run that an older version began."""
    into = run_folder(path.absolute())
    into.mkdir(parents=True)
    shutil.copy(GOLDEN, into)
    return into


def test_a_damaged_file_of_an_earlier_call_decides_nothing(folder: Path) -> None:
    path = written(folder, MINIMAL)
    plain = regime(path)
    into = begun(path)
    for text in ("", "[]", "{", '{"train": 3}', '{"train": {"schedule": [1]}}'):
        (into / "recipe.json").write_text(text, encoding="utf-8")
        assert regime(path) == plain


def test_the_golden_file_is_of_the_old_defaults() -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert stored["confirm"]["budget"] == "fixed"
    assert stored["train"]["schedule"] == "cosine"
    assert "max_passes" not in stored["confirm"]


def test_a_run_that_began_with_the_old_default_goes_on_with_it(folder: Path) -> None:
    path = written(folder, MINIMAL)
    assert regime(path) == ("until", "anytime")
    assert not load_recipe(path).remarks
    begun(path)
    assert regime(path) == ("fixed", "cosine")
    (remark,) = load_recipe(path).remarks
    assert 'began with budget = "fixed" and goes on with it' in remark
    assert 'write budget = "until" under [confirm]' in remark


@pytest.mark.parametrize("budget", ["fixed", "proportional", 60])
def test_a_validation_with_another_budget_changes_nothing(folder: Path, budget: str | int) -> None:
    """`m2m validate --budget` writes the file too, in old runs and in new ones."""
    path = written(folder, MINIMAL)
    into = begun(path)
    for schedule, expected in (("cosine", "fixed"), ("anytime", "until")):
        stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
        stored["confirm"]["budget"], stored["train"]["schedule"] = budget, schedule
        (into / "recipe.json").write_text(json.dumps(stored), encoding="utf-8")
        assert regime(path) == (expected, schedule)


def test_the_recipe_itself_decides_if_it_names_a_budget(folder: Path) -> None:
    path = written(folder, MINIMAL + '[confirm]\nbudget = "until"\n')
    begun(path)
    assert regime(path) == ("until", "anytime")
    assert not load_recipe(path).remarks


def test_an_old_run_keeps_its_adapters(tmp_path: Path) -> None:
    """The fingerprint of an old version's training of `copy`, with the recipe's old defaults."""
    recipe = make_scenario(tmp_path)
    silent = recipe.read_text(encoding="utf-8").replace('budget = "fixed"\n', "")
    recipe.write_text(silent, encoding="utf-8")
    begun(recipe)
    inputs = read_inputs(load_recipe(recipe))
    assert expert_job(inputs, "copy").mark(inputs.base) == (
        "1014965b64145050f365a82f13f413cff91e9e98d48a47d7fe0fb556cc49e866"
    )


@pytest.mark.slow
def test_an_old_run_goes_on_and_nothing_is_trained_again(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copied(finished_run, tmp_path)
    text = recipe.read_text(encoding="utf-8").replace('budget = "fixed"\n', "")
    before = Run(load_recipe(recipe), Silent()).confirm().as_json()
    stored = run_folder(recipe) / "recipe.json"
    old = json.loads(stored.read_text(encoding="utf-8"))
    for name in ("patience", "max_passes"):
        del old["confirm"][name]
    stored.write_text(json.dumps(old), encoding="utf-8")
    recipe.write_text(text, encoding="utf-8")

    def refused(*args: object, **more: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "__init__", refused)
    again = Run(load_recipe(recipe), Silent())
    assert again.confirm().as_json() == before
    kept = json.loads(stored.read_text(encoding="utf-8"))
    assert kept["confirm"]["budget"] == "fixed", "and the next call does the same"
