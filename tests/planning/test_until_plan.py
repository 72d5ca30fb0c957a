"""The plan of a run whose last training has no fixed length, and its part of the hours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from m2m.errors import ResourceError
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.planning import hours as hours_module
from m2m.planning.cost import Work
from m2m.planning.hours import fit_hours
from m2m.planning.plan import plan_with
from m2m.planning.until import LAST, LAST_PART, Rungs
from m2m.progress import Silent
from m2m.recipe import Recipe, load_recipe
from tests.pipeline.scenario import make_scenario
from tests.planning.test_hours import Heard
from tests.planning.test_plan import RATES


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = make_scenario(tmp_path)
    text = path.read_text(encoding="utf-8").replace('budget = "fixed"\n', "")
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def without_last(inputs: Inputs) -> float:
    return sum(stage.seconds for stage in plan_with(inputs, RATES).stages if stage.name != LAST)


def test_rungs_double_their_steps_while_the_contenders_halve() -> None:
    rungs = Rungs(contenders=6, first=300, begun=1, experts=8)
    assert [*rungs] == [(6, 300), (3, 300), (2, 600)]
    assert rungs.top == 1200
    assert rungs.steps == 6 * 300 + 3 * 300 + 2 * 600 - 300
    assert rungs.last(1e9) == 8 * 300 + 3900, "as many as all others together"
    assert rungs.last(1500) == 300, "the datasets have been seen often enough"
    assert [*Rungs(1, 300, 0, 1)] == [(1, 300)]


def test_the_plan_states_the_split_and_the_cap(recipe: Recipe) -> None:
    inputs = read_inputs(recipe)
    plan = plan_with(inputs, RATES)
    assert [stage.name for stage in plan.stages] == ["train", "search", "halving", LAST, "export"]
    (split,) = [each for each in plan.advice if each.startswith("of the time")]
    assert LAST in split
    assert "steps at most" in plan.stages[3].what
    hours = 2 * plan.total_seconds / 3600
    timed = plan_with(inputs, RATES, hours)
    assert timed.total_seconds == pytest.approx(hours * 3600)
    assert timed.stages[:3] == plan.stages[:3]
    assert timed.fits


def test_planned_rungs_are_those_of_the_run(recipe: Recipe) -> None:
    inputs = read_inputs(recipe)
    planned = Work(inputs, RATES).rungs()
    courses = Run(recipe, Silent()).confirm().courses
    assert courses is not None
    assert abs(planned.contenders - len(courses.courses)) <= 2
    assert planned.first == 12
    others = [each.checks[-1].steps for i, each in enumerate(courses.courses)
              if i != courses.winner]  # fmt: skip
    assert max(others) <= planned.top


def test_the_last_training_keeps_its_part_of_the_hours(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs, heard = read_inputs(recipe), Heard()
    whole = without_last(inputs)
    hours = whole / (1 - LAST_PART) / hours_module._FRACTION / 3600
    assert fit_hours(inputs, recipe, 1.01 * hours, heard).recipe == inputs.recipe
    assert not heard.warnings


def test_a_decision_holds_for_any_hours_so_that_adapters_stay(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs = read_inputs(recipe)
    hours = 1.5 * without_last(inputs) / 3600
    first = fit_hours(inputs, recipe, hours, Heard())
    assert first.recipe != inputs.recipe, "something was cut"
    assert fit_hours(inputs, recipe, 10 * hours, Heard()).recipe == first.recipe


def test_what_is_trained_already_is_never_cut(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(recipe, Silent()).train()
    monkeypatch.setattr(hours_module, "calibrate", None)
    inputs = read_inputs(recipe)
    assert fit_hours(inputs, recipe, 1e-6, Heard()).recipe == inputs.recipe


def test_if_the_floor_takes_more_than_half_m2m_says_so(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs, heard = read_inputs(recipe), Heard()
    least = dataclasses.replace(recipe.confirm, top=1)
    smaller = dataclasses.replace(inputs.recipe, confirm=least)
    floor = without_last(dataclasses.replace(inputs, recipe=smaller))
    fit_hours(inputs, recipe, 1.35 * floor / 3600, heard)
    assert any("leave datasets out" in warning for warning in heard.warnings)
    other = dataclasses.replace(recipe, merge=dataclasses.replace(recipe.merge, seed=1))
    with pytest.raises(ResourceError, match="at its least"):
        fit_hours(inputs, other, 0.5 * floor / 3600, Heard())
