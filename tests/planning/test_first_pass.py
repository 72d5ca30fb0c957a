"""A first short training of all datasets, if hours are too few for an expert of each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError, Interrupted
from m2m.pipeline.first_pass import first_pass
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.shares import Share
from m2m.planning import hours as hours_module
from m2m.planning.hours import Within, decide
from m2m.planning.plan import plan_within
from m2m.planning.until import FLOOR_PART, LAST, LAST_PART
from m2m.progress import Silent
from m2m.recipe import Recipe
from m2m.results.folder import RunFolder
from tests.pipeline.scenario import make_scenario
from tests.pipeline.test_until import Stopping, tree
from tests.planning.test_hours import Heard
from tests.planning.test_until_plan import SLOW, until
from tests.tiers import sampled


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Four datasets with experts of 150 steps: no cut makes them shorter."""
    path = make_scenario(tmp_path_factory.mktemp("four"), "first")
    return read_inputs(until(path, steps=150))


def replaced(inputs: Inputs, section: str, **values: Any) -> Inputs:
    changed = dataclasses.replace(getattr(inputs.recipe, section), **values)
    return dataclasses.replace(
        inputs, recipe=dataclasses.replace(inputs.recipe, **{section: changed})
    )


@pytest.mark.parametrize(
    ("minutes", "tried", "kept"),
    [*sampled([(60, 0, 4), (27, 4, 3), (22, 3, 2), (20, 0, 2), (15, 0, 4)], every=3), (25, 4, 2)],
)
def test_at_least_half_of_those_in_the_first_pass_get_an_expert(
    four: Inputs, minutes: float, tried: int, kept: int
) -> None:
    """A second a step: 150 steps for each of four are 10 minutes, 75 are 5."""
    decision = decide(four, SLOW, minutes / 60)
    names, steps, keep = decision.get("first_pass", [[], 75, 4])
    assert (len(names), steps, keep) == (tried, 75, kept if tried else 4)
    assert 4 - len(decision["settings"].get("excluded", ())) == kept
    if minutes == 25:
        plan = plan_within(four, SLOW, minutes / 60)
        seconds = {stage.name: stage.seconds for stage in plan.stages}
        part = {name: value / (60 * minutes) for name, value in seconds.items()}
        assert 75 * (tried + kept) < seconds["train"] <= FLOOR_PART * 60 * minutes
        assert part[LAST] >= LAST_PART
        assert f"the best of {tried} datasets after 75" in plan.stages[0].what
        assert f"{tried} datasets get a first pass of 75 steps" in " ".join(plan.gave_up)


@pytest.mark.parametrize(
    ("section", "values"),
    [("train", {"patience": 2}), ("train", {"replay": 0.1})],
)
def test_no_pass_if_an_expert_cannot_go_on_from_it(
    four: Inputs, section: str, values: dict[str, Any]
) -> None:
    assert "first_pass" not in decide(replaced(four, section, **values), SLOW, 25 / 60)


@pytest.mark.slow  # trainings
def test_what_is_required_stays_whatever_its_score(tmp_path: Path) -> None:
    inputs = read_inputs(until(make_scenario(tmp_path, "first"), steps=2))
    inputs.recipe.folder.mkdir(parents=True)
    names = ["copy", "reverse", "upper", "first"]
    plain = [*first_pass(inputs, names, 1, 1, Silent())]
    assert len(plain) == 3
    worst = plain[-1]
    kept = {*names} - {
        *first_pass(replaced(inputs, "search", required=(worst,)), names, 1, 2, Silent())
    }
    assert kept == {worst, *({*names} - {*plain})}


def made(recipe: Recipe, progress: Any) -> Run:
    run = Run(recipe, progress, hours=Within(recipe, 3.0 / 60))
    run.train()
    return run


@pytest.mark.slow  # real trainings
def test_a_pass_that_is_stopped_goes_on_and_its_experts_are_those_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: SLOW)
    runs = []
    for name, stops in (("whole", []), ("stopped", [8, 10])):
        recipe = until(make_scenario(tmp_path / name, "first"), steps=12)
        for after in stops:
            with pytest.raises(Interrupted):
                made(recipe, Stopping(after))
            decision = json.loads(RunFolder(recipe.folder).hours.read_text(encoding="utf-8"))
            assert decision["first_pass"][1:] == [6, 2]
            with pytest.raises(InputError, match="first pass"):
                Run(recipe, Silent(), Share(1, 2), hours=Within(recipe))
        heard = Heard()
        runs.append(made(recipe, heard))
        (loss,) = [
            warning for warning in heard.warnings if "first pass of 6 steps these" in warning
        ]
        assert loss.count("±") == 2
        again = Run(recipe, Silent(), hours=Within(recipe))
        assert again.recipe == runs[-1].recipe, "the choice is kept"
    assert runs[0].recipe.search == runs[1].recipe.search
    assert tree(runs[0].recipe.path) == tree(runs[1].recipe.path)
    alone = until(make_scenario(tmp_path / "alone", "first"), steps=12)
    Run(dataclasses.replace(alone, search=runs[0].recipe.search), Silent()).train()
    assert tree(alone.path) == tree(runs[0].recipe.path)
    for name in runs[0].inputs.expert_names:
        files = [run / "adapters" / name / "adapter_model.safetensors"
                 for run in (alone.folder, runs[0].folder)]  # fmt: skip
        assert files[0].read_bytes() == files[1].read_bytes()
