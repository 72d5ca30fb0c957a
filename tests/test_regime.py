"""How long models are trained: the budget, the schedule, and runs that began with others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from m2m.errors import RecipeError
from m2m.recipe import load_recipe, run_folder
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
    for text in ("", "[]", "{", '{"confirm": 3, "train": {}}', '{"confirm": {"budget": []}}'):
        (into / "recipe.json").write_text(text, encoding="utf-8")
        assert regime(path) == plain


def test_the_golden_file_is_of_the_old_defaults() -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert stored["confirm"]["budget"] == "fixed"
    assert stored["train"]["schedule"] == "cosine"
    assert "max_passes" not in stored["confirm"]
