"""`m2m run --hours`: what is cut, in which order, and that a decision lasts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import RowSource
from m2m.dataset.rows import Rows, read_rows
from m2m.errors import ResourceError
from m2m.pipeline import corpus as corpus_module
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.planning import hours as hours_module
from m2m.planning.calibration import Rates
from m2m.planning.cuts import with_settings
from m2m.planning.hours import Within, decide
from m2m.planning.plan import plan_with
from m2m.planning.split import RESERVE
from m2m.progress import Silent
from m2m.recipe import Recipe, Search, load_recipe
from m2m.results.folder import RunFolder
from tests.pipeline.scenario import copied, make_scenario
from tests.planning.test_plan import RATES
from tests.tiny import pico_target


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(make_scenario(tmp_path))


def seconds(inputs: Inputs, recipe: Recipe, rates: Rates = RATES) -> float:
    return plan_with(dataclasses.replace(inputs, recipe=recipe), rates).total_seconds


@pytest.mark.parametrize("share", [2.0, 0.95, 0.75, 0.6])
def test_a_recipe_is_cut_until_it_fits_and_no_further(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs, heard = read_inputs(recipe), Heard()
    whole = seconds(inputs, recipe)
    limit = share * whole
    found = Within(recipe, limit / RESERVE / 3600).fit(inputs, heard)
    assert seconds(inputs, found.recipe) <= limit
    assert bool(heard.warnings) == (share < 1)
    assert (found.recipe == inputs.recipe) == (share > 1)
    assert found.recipe.confirm.top == (2 if share > 1 else 1)
    if found.recipe.train.steps < 12:
        more = dataclasses.replace(found.recipe.train, steps=found.recipe.train.steps + 1)
        assert seconds(inputs, dataclasses.replace(found.recipe, train=more)) > limit


@pytest.mark.parametrize(
    ("search", "share", "changed"),
    [
        (Search(strategy="exhaustive"), 0.5, {"strategy"}),
        (Search(weights="simplex"), 0.5, {"budget"}),
    ],
)
def test_a_search_gets_cheaper_before_mixtures_are_left_out(
    recipe: Recipe, search: Search, share: float, changed: set[str]
) -> None:
    names = [*"abcdef"]
    datasets = tuple(dataclasses.replace(recipe.datasets[0], name=name) for name in names)
    pico_target(recipe.path.parent / "dev.jsonl", "copy", 48)
    inputs = read_inputs(dataclasses.replace(recipe, datasets=datasets, search=search))
    rates = dataclasses.replace(RATES, token=0.0, tokens=dict.fromkeys(names, 1.0), scored=1.0)
    limit = share * seconds(inputs, inputs.recipe, rates)
    decided = decide(inputs, rates, limit / RESERVE / 3600)
    assert decided["settings"].keys() == {"top", *changed}
    assert len(decided["gave_up"]) == len(decided["settings"])
    fitted = with_settings(inputs.recipe, decided["settings"])
    assert seconds(inputs, fitted, rates) <= limit
    if budget := decided["settings"].get("budget"):
        more = dataclasses.replace(fitted.search, budget=budget + 2)
        assert seconds(inputs, dataclasses.replace(fitted, search=more), rates) > limit


def test_what_cannot_be_cut_enough_is_refused(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    with pytest.raises(ResourceError, match=r"at its least it takes"):
        Within(recipe, 1e-4).fit(read_inputs(recipe), Silent())
    assert not RunFolder(recipe.folder).hours.exists()


def test_a_decision_lasts_for_its_recipe_and_hours(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    inputs = read_inputs(recipe)
    hours, heard = 0.75 * seconds(inputs, recipe) / 3600, Heard()

    def cut(recipe: Recipe, hours: float = hours) -> tuple[int, int, Search]:
        found = Within(recipe, hours).fit(dataclasses.replace(inputs, recipe=recipe), heard)
        return found.recipe.train.steps, found.recipe.confirm.top, found.recipe.search

    first = cut(recipe)
    slower = dataclasses.replace(RATES, token=RATES.token * 1.2)
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: slower)
    assert cut(recipe) == first
    assert cut(recipe, 0.0) == first, "commands without hours keep the cuts, too"
    limits = dataclasses.replace(recipe.limits, threads=2, device="auto")
    assert cut(dataclasses.replace(recipe, limits=limits), 0.0) == first, "as errors advise"
    moved = load_recipe(copied(recipe.path, recipe.path.parent.with_name("elsewhere")))
    assert moved.folder != recipe.folder
    assert cut(moved, 0.0) == first, "a copied folder has the cuts of its adapters"
    other = [dataclasses.replace(moved.datasets[0], path=moved.datasets[1].path)]
    other += moved.datasets[1:]
    assert cut(dataclasses.replace(moved, datasets=tuple(other)), 0.0) != first
    changed = dataclasses.replace(recipe, merge=dataclasses.replace(recipe.merge, scale=0.9))
    assert cut(changed) != first
    assert cut(recipe, 0.0) == (12, 2, recipe.search), "that decision is not about this recipe"
    assert heard.notes[-1].endswith("are of another recipe, and are not used")
    RunFolder(recipe.folder).hours.write_text("{", encoding="utf-8")
    assert cut(recipe) != first


@pytest.mark.parametrize("budget", ["steps = 12", "epochs = 4.0"])
def test_a_run_reads_its_inputs_once_and_keeps_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """A budget in epochs too: read again, it would be the whole number of steps again."""
    path = make_scenario(tmp_path)
    text = path.read_text(encoding="utf-8").replace("steps = 12", budget)
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    monkeypatch.setattr(hours_module, "calibrate", lambda inputs, progress: RATES)
    whole = read_inputs(recipe)
    limit = 0.5 * seconds(whole, whole.recipe)
    read: list[Path] = []

    def counting(source: RowSource, mapping: RowMapping) -> Rows:
        read.append(source.path)
        return read_rows(source, mapping)

    monkeypatch.setattr(corpus_module, "read_rows", counting)
    run = Run(recipe, Heard(), hours=Within(recipe, limit / RESERVE / 3600))
    assert sorted(read) == sorted(dataset.path for dataset in recipe.datasets)
    assert run.recipe.train.steps < whole.recipe.train.steps
    assert seconds(whole, run.recipe) <= limit


@pytest.mark.slow
def test_the_command_runs_what_fits_and_logs_what_it_gave_up(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 4000")
    recipe.write_text(text, encoding="utf-8")
    late = CliRunner().invoke(cli, ["run", str(recipe), "--hours", "0.0001"])
    assert late.exit_code == 1
    assert "at its least" in late.stderr
    recipe.write_text(text.replace("steps = 4000", "steps = 2"), encoding="utf-8")
    found = CliRunner().invoke(cli, ["run", str(recipe), "--hours", "1", "--json", "--quiet"])
    assert found.exit_code == 0
    decided = json.loads(
        (RunFolder(tmp_path / "m2m-runs" / "recipe").hours).read_text(encoding="utf-8")
    )
    assert decided["gave_up"] == []
    assert json.loads(found.stdout)["winner"]
