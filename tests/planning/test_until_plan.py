"""The plan of a run whose last training has no fixed length, and its part of the hours."""

from __future__ import annotations

import dataclasses
import json
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.planning import hours as hours_module
from m2m.planning.cost import Work
from m2m.planning.hours import Within, decide
from m2m.planning.plan import Plan, plan_within, until_time_is_up
from m2m.planning.split import promising
from m2m.planning.until import FLOOR_PART, LAST, LAST_PART, MOST, Rungs
from m2m.progress import Silent
from m2m.recipe import Recipe, changed, load_recipe
from m2m.recipe.strategies import NONE
from m2m.results.courses import PATIENCE, TIME
from m2m.results.folder import RunFolder
from tests.pipeline.scenario import make_scenario
from tests.planning.test_hours import Heard
from tests.planning.test_plan import RATES
from tests.tiers import sampled
from tests.tiny import pico_dataset

SLOW = dataclasses.replace(
    RATES,
    token=0.01,
    tokens=dict.fromkeys(("copy", "reverse", "upper", "first", "last", "double"), 100.0),
    pause=0.1,
    judged=0.01,
)


def until(path: Path, more: str = "", steps: int = 12) -> Recipe:
    text = path.read_text(encoding="utf-8").replace('budget = "fixed"\n', more)
    path.write_text(text.replace("steps = 12", f"steps = {steps}"), encoding="utf-8")
    return load_recipe(path)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return until(make_scenario(tmp_path))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Six datasets, and experts of 400 steps that may be cut to 150."""
    path = make_scenario(tmp_path_factory.mktemp("many"), "first")
    recipe = until(path, steps=400)
    more = [
        dataclasses.replace(
            recipe.datasets[0], name=name, path=pico_dataset(path.with_name(f"{name}.jsonl"), skill)
        )
        for name, skill in (("last", "copy"), ("double", "reverse"))
    ]
    return read_inputs(dataclasses.replace(recipe, datasets=(*recipe.datasets, *more)))


def without(inputs: Inputs, names: int) -> Inputs:
    excluded = tuple(inputs.usable_names[names:])
    search = dataclasses.replace(inputs.recipe.search, excluded=excluded)
    return dataclasses.replace(inputs, recipe=dataclasses.replace(inputs.recipe, search=search))


def test_rungs_double_their_steps_while_the_contenders_halve() -> None:
    rungs = Rungs(contenders=6, first=300, begun=1, experts=8)
    assert [*rungs] == [(6, 300), (3, 300), (2, 600)]
    assert rungs.top == 1200
    assert rungs.steps == 6 * 300 + 3 * 300 + 2 * 600 - 300
    assert rungs.last(1e9) == 8 * 300 + 3900, "as many as all others together"
    assert rungs.last(1500) == 300, "the datasets have been seen often enough"
    assert [*Rungs(1, 300, 0, 1)] == [(1, 300)]


def parts(plan: Plan) -> dict[str, float]:
    return {part.name: part.part for part in plan.parts}


def test_the_plan_states_the_split_and_the_cap(recipe: Recipe) -> None:
    inputs = read_inputs(recipe)
    plan = plan_within(inputs, RATES, 0.0)
    assert [stage.name for stage in plan.stages] == ["train", "search", "halving", LAST, "export"]
    assert sum(parts(plan).values()) == pytest.approx(1.0)
    assert "steps at most" in plan.stages[3].what
    hours = 9 * plan.total_seconds / 3600
    timed = plan_within(inputs, RATES, hours)
    assert timed.total_seconds == pytest.approx(hours * 3600)
    assert timed.stages[:3] == plan.stages[:3]
    assert not timed.gave_up
    assert timed.parts[0].text.endswith("(at most 25 %)")
    assert timed.parts[3].text.endswith("(at least 45 %)")


@pytest.mark.slow  # a real run
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


@pytest.mark.slow  # a real run
def test_a_finished_run_keeps_its_trainings_and_goes_on_if_it_has_hours(recipe: Recipe) -> None:
    found = Run(recipe, Silent()).confirm()
    courses = found.courses
    assert courses is not None
    inputs = read_inputs(recipe)
    kept = {stage.name: stage for stage in plan_within(inputs, RATES, 0.0).stages}
    assert kept["halving"].what == f"kept: {len(courses.courses)} contenders"
    assert kept[LAST].what == f"kept: the winner's {courses.steps} steps"
    assert max(kept["halving"].seconds, kept[LAST].seconds) < RATES.surrogate + 3.0
    for end, what in (
        (PATIENCE, f"kept: the winner's {courses.steps} steps"),
        (TIME, f"the winner goes on from {courses.steps} steps, about "),
    ):
        ended = dataclasses.replace(found, courses=dataclasses.replace(courses, end=end))
        stages = until_time_is_up(Work(inputs, RATES, finished=ended), 1.0)
        assert next(stage for stage in stages if stage.name == LAST).what.startswith(what)
        assert sum(stage.seconds for stage in stages) == pytest.approx(3600.0) or end == PATIENCE
    other = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, seed=7))
    planned = plan_within(dataclasses.replace(inputs, recipe=other), RATES, 0.0).stages
    assert not any(stage.what.startswith("kept") for stage in planned)


def test_the_best_two_together_are_the_last_contender_to_be_given_up(many: Inputs) -> None:
    inputs = without(many, 3)
    kept = []
    for minutes in range(4, 60, 4):
        settings = decide(inputs, SLOW, minutes / 60)["settings"]
        left = settings.get("baselines", ("all",))
        kept.append((settings.get("nested", 3), "all" in left or "union" in left))
    assert (2, False) in kept
    assert (1, True) not in kept


@pytest.mark.parametrize(
    ("minutes", "names"), sampled(product([240, 90, 45, 30, 20, 12, 8, 5, 1], [3, 6]), every=4)
)
def test_every_stage_keeps_to_its_limit_whatever_the_hours(
    many: Inputs, minutes: int, names: int
) -> None:
    """A second a step: with 6 datasets their least steps take 15 minutes."""
    inputs = without(many, names)
    plan = plan_within(inputs, SLOW, minutes / 60)
    assert plan.fits, "it is never refused"
    found, searched = parts(plan), plan.stages[0].what != "no experts"
    assert found["train"] <= FLOOR_PART
    if searched:
        assert found["train"] + found["search"] + found["halving"] <= 1 - LAST_PART
        assert found[LAST] >= LAST_PART
    if found["train"] > MOST["train"]:
        assert any("fewest that carry a signal" in loss for loss in plan.gave_up)
        assert "of 150 steps" in plan.stages[0].what
    assert found["halving"] <= MOST["halving"]
    assert found["search"] <= MOST["search"]
    assert sum(found.values()) == pytest.approx(1.0)
    assert "not known before the run" in plan.twice[-1]


def test_a_stage_is_compared_with_its_part_and_its_plan(recipe: Recipe) -> None:
    within = Within(recipe, 2.0)
    assert within.deadlines is not None
    words = within.deadlines.words
    assert words("train", 3600.0) == "train took 1 h 00 min, 50 % of 2 hours (at most 25 %)"
    assert words("last training", 3600.0).endswith("(45 % or more are kept for it)")
    assert words("export", 3600.0) == words("search", 1.0) == ""
    assert words("first pass", 1800.0) == "", "it belongs to the experts"
    assert words("train", 1800.0).startswith("train took 1 h 00 min")
    within._plan(Work(read_inputs(recipe), RATES))
    assert "50 % of 2 hours (planned " in words("train", 1800.0)
    assert sum(within._planned.values()) == pytest.approx(7200.0)


def test_less_time_means_fewer_steps_then_fewer_datasets_then_no_search(many: Inputs) -> None:
    found = [decide(many, SLOW, minutes / 60) for minutes in (600, 120, 40, 25, 8)]
    assert found[0] == {"settings": {}, "gave_up": [], "cuts": []}
    assert 150 < found[1]["settings"]["steps"] < 400
    assert found[2]["settings"]["steps"] == 150
    assert 1 <= len(found[3]["settings"]["excluded"]) <= 4
    assert "its tokens are" in str(found[3]["gave_up"])
    assert found[4]["settings"]["strategy"] == NONE
    assert [str(each["gave_up"]) == "[]" for each in found] == [True, *[False] * 4]


def test_what_is_required_is_never_left_out(many: Inputs) -> None:
    search = dataclasses.replace(many.recipe.search, required=("upper", "copy"))
    inputs = dataclasses.replace(many, recipe=dataclasses.replace(many.recipe, search=search))
    left = decide(inputs, SLOW, 20 / 60)["settings"]
    assert not {"upper", "copy"} & {*left["excluded"]}


def test_a_file_that_contradicts_the_others_comes_last(tmp_path: Path) -> None:
    path = make_scenario(tmp_path, "first")
    rows = (tmp_path / "copy.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(row) for row in rows]
    answers = [row["completion"] for row in questions]
    for row, answer in zip(questions, answers[1:] + answers[:1], strict=True):
        row["completion"] = answer
    lines = [json.dumps(row) + "\n" for row in questions]
    (tmp_path / "first.jsonl").write_text("".join(lines), encoding="utf-8")
    order = promising(read_inputs(load_recipe(path)))
    wrong = {dataset.name for dataset in order if dataset.wrong}
    assert len(wrong & {"copy", "first"}) == 1, "one of the two, and which cannot be known"
    assert order[-1].name in wrong
    assert "contradict" in order[-1].reason
    recipe = load_recipe(path)
    marked = [dataclasses.replace(d, control=d.name == "first") for d in recipe.datasets]
    order = promising(read_inputs(dataclasses.replace(recipe, datasets=(*marked,))))
    assert {d.name: d.reason for d in order if d.wrong} == {"first": "a control"}


@pytest.mark.slow  # three runs
def test_far_too_few_hours_still_run_and_say_what_they_are(recipe: Recipe) -> None:
    """With real times of this machine: nothing is refused."""
    heard = Heard()
    run = Run(recipe, heard, hours=Within(recipe, 1e-5))
    assert not run.recipe.searches
    assert any("no experts and no search" in warning for warning in heard.warnings)
    assert any("at least" in warning for warning in heard.warnings)
    found = run.confirm()
    assert found.courses is not None
    assert found.courses.end == TIME
    again = Run(recipe, heard, hours=Within(recipe))
    assert again.recipe == run.recipe, "commands without hours keep the cuts"
    assert again.confirm().as_json() == found.as_json()
    more = Run(recipe, heard, hours=Within(recipe, 10.0)).confirm()
    assert more.courses is not None
    assert more.courses.steps > found.courses.steps


def test_a_decision_holds_for_any_hours_so_that_adapters_stay(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs = read_inputs(recipe)
    hours = plan_within(inputs, RATES, 0.0).total_seconds / 3600
    first = Within(recipe, hours).fit(inputs, Heard())
    assert first.recipe != inputs.recipe, "something was cut"
    for later in (10 * hours, 0.0):
        assert Within(recipe, later).fit(inputs, Heard()).recipe == first.recipe


@pytest.mark.slow
def test_what_is_trained_already_is_never_cut(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(recipe, Silent()).train()
    monkeypatch.setattr(hours_module, "calibrate", None)
    inputs = read_inputs(recipe)
    assert Within(recipe, 1e-6).fit(inputs, Heard()).recipe == inputs.recipe


@pytest.mark.slow  # a real run
def test_after_a_run_its_plan_says_what_more_hours_bring(recipe: Recipe) -> None:
    done = Run(recipe, Silent(), hours=Within(recipe, 1.0))
    done.confirm()
    plan = plan_within(read_inputs(recipe), RATES, 2.0, Within(recipe, 2.0).kept(until=True))
    assert plan.twice[0].startswith("Training ended after")
    assert any("As many steps again" in each or "not known" in each for each in plan.twice)
    other = read_inputs(changed(recipe, {"train": {"precision": "q8_0"}}))
    plan = plan_within(other, RATES, 2.0, Within(recipe, 2.0).kept(until=True))
    assert "Training ended after" not in " ".join(plan.twice)


@pytest.mark.slow
def test_the_command_shows_the_split_and_twice_the_hours(recipe: Recipe) -> None:
    shown = CliRunner().invoke(cli, ["plan", str(recipe.path), "--hours", "1"])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "(at least 45 %)" in words
    assert "In 2 hours" in words
    data = CliRunner().invoke(cli, ["plan", str(recipe.path), "--hours", "1", "--json", "--quiet"])
    printed = json.loads(data.stdout)
    assert {part["name"] for part in printed["parts"]} >= {"train", LAST}
    assert printed["twice"]
    assert not RunFolder(recipe.folder).hours.exists(), "a plan decides nothing"
