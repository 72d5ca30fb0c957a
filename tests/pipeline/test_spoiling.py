"""Datasets whose held-out loss turns in the last training are reported and, if wanted, left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.adapter import load_adapter
from m2m.errors import Interrupted
from m2m.mix.rungs import turned
from m2m.pipeline import halving
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.ladder import losses_by_dataset
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.results.courses import Courses
from m2m.tuner.row_mix import LEAST_ROWS
from tests.pipeline.scenario import make_scenario
from tests.pipeline.test_until import Stopping, tree
from tests.tiny import pico_dataset


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ({"a": [3.0, 2.0, 2.1, 2.2], "b": [3.0, 2.5, 2.3, 2.0]}, {"a": 1}),
        ({"a": [3.0, 2.0, 2.1], "b": [3.0, 2.5, 2.3]}, {}),  # one check is no trend
        ({"a": [3.0, 2.0, 2.01, 2.02], "b": [3.0, 2.5, 2.3, 2.0]}, {}),  # too little
        ({"a": [3.0, 2.0, 2.1, 2.2], "b": [3.0, 2.5, 2.6, 2.7]}, {}),  # the others do not improve
        ({"a": [3.0, 2.0, 2.1, 2.2]}, {}),  # alone
        ({"a": [2.0, 2.4, 2.5], "b": [2.0, 2.1, 2.2], "c": [5.0, 4.0, 3.0]}, {"a": 0, "b": 0}),
    ],
)
def test_a_loss_has_turned_if_it_rose_while_the_others_fell(
    losses: dict[str, list[float]], found: dict[str, int]
) -> None:
    assert turned(losses) == found
    assert [*turned(losses)] == [*found], "the worst first"


def spoiling(folder: Path, drop: bool) -> Path:
    """All three datasets at once, with enough rows that some are held out."""
    recipe = make_scenario(folder)
    for skill in ("copy", "reverse", "upper"):
        pico_dataset(folder / f"{skill}.jsonl", skill, count=LEAST_ROWS)
    text = recipe.read_text(encoding="utf-8").replace("exhaustive", "none")
    more = f'baselines = ["union"]\npatience = 9\nmax_passes = 2\ndrop = {str(drop).lower()}\n'
    recipe.write_text(text.replace('budget = "fixed"\n', more), encoding="utf-8")
    return recipe


def fake_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "upper" turn after 18 steps; only the numbers are made up."""

    def losses(inputs: Any, mixture: Any, adapter: Path) -> dict[str, float]:
        steps = int(adapter.parent.name)
        own = {name: 5.0 - steps / 100 for name in mixture.datasets}
        return own | {"upper": 3.0 + abs(steps - 18) / 50}

    monkeypatch.setattr("m2m.pipeline.ladder.losses_by_dataset", losses)


def courses(recipe: Path) -> Courses:
    found = Run(load_recipe(recipe), Silent()).confirm().courses
    assert found is not None
    return found


@pytest.mark.slow  # a training
def test_the_losses_are_those_of_each_dataset_by_itself(tmp_path: Path) -> None:
    recipe = spoiling(tmp_path, drop=False)
    inputs = read_inputs(load_recipe(recipe))
    assert all(corpus.held_out for corpus in inputs.corpora.values())
    run = Run(load_recipe(recipe), Silent())
    winner = run.confirm().winner
    lines = (run.folder / "checks.jsonl").read_text(encoding="utf-8").splitlines()
    stored = [line["by_dataset"] for line in map(json.loads, lines) if "by_dataset" in line]
    assert stored
    assert winner.adapter is not None
    again = losses_by_dataset(inputs, winner.mixture, winner.adapter)
    assert {*again} == {*inputs.corpora}
    if winner.steps and winner.steps > 12:
        assert any(each == pytest.approx(again) for each in stored)
    alone = winner.mixture.only(["copy"])
    assert losses_by_dataset(inputs, alone, winner.adapter) == {}


@pytest.mark.slow  # a training
def test_a_dataset_that_spoils_is_reported_and_stays_without_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses(monkeypatch)
    found = courses(spoiling(tmp_path, drop=False))
    (spoiled,) = found.spoiled
    assert (spoiled.dataset, spoiled.best, spoiled.steps) == ("upper", 18, 30)
    assert not spoiled.dropped
    assert "`drop = true`" in found.sentences[1]
    assert Courses.from_json(json.loads(json.dumps(found.as_json()))) == found
    old = {key: value for key, value in found.as_json().items() if key != "spoiled"}
    assert not Courses.from_json(old).spoiled


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        fake_losses(patch)
        recipe = spoiling(tmp_path_factory.mktemp("dropped"), drop=True)
        Run(load_recipe(recipe), Silent(), anyway=True).run()
    return recipe


@pytest.mark.slow  # a training
def test_with_drop_its_rows_are_left_out_from_there_on(dropped: Path) -> None:
    run = Run(load_recipe(dropped), Silent())
    confirmation = run.confirm()
    assert confirmation.courses is not None
    assert [spoiled.dropped for spoiled in confirmation.courses.spoiled] == [True]
    assert confirmation.courses.steps > 30
    passes = {name: rows.passes for name, rows in confirmation.winner.seen.items()}
    if confirmation.winner.steps and confirmation.winner.steps > 36:
        assert passes["upper"] < min(passes["copy"], passes["reverse"])
    for name in ("report.html", "export/README.md"):
        assert "was left out" in (run.folder / name).read_text(encoding="utf-8")
    states = [path.stem for path in (run.folder / "states").iterdir()]
    assert states == ["copy+reverse+upper-without-upper"]


@pytest.mark.slow  # two trainings
def test_the_beginning_is_that_of_the_run_without_drop(
    dropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses(monkeypatch)
    whole = courses(spoiling(tmp_path, drop=False)).courses[0].checks
    cut = courses(dropped).courses[0].checks
    same = [check for check in cut if check.steps <= 30]
    assert same == [check for check in whole if check.steps <= 30]
    assert [check.dev for check in cut[len(same) :]] != [check.dev for check in whole[len(same) :]]


@pytest.mark.slow  # many short runs
def test_a_run_that_is_stopped_anywhere_drops_to_the_same_bytes(
    dropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses(monkeypatch)
    recipe, stops = spoiling(tmp_path, drop=True), 0
    for _ in range(30):
        try:
            Run(load_recipe(recipe), Stopping(11)).confirm()
            break
        except Interrupted:
            stops += 1
    assert stops > 3
    assert courses(recipe).as_json() | {"seconds": 0} == courses(dropped).as_json() | {"seconds": 0}
    assert tree(recipe) == tree(dropped)


@pytest.mark.slow  # two trainings
def test_a_kill_between_two_states_or_a_deleted_adapter_loses_nothing(
    dropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses(monkeypatch)
    recipe = spoiling(tmp_path, drop=True)
    passed = halving.Ladder._pass_on

    def killed(self: Any, *args: Any) -> None:
        passed(self, *args)
        if self._drops:
            raise KeyboardInterrupt

    monkeypatch.setattr(halving.Ladder, "_pass_on", killed)
    with pytest.raises(KeyboardInterrupt):
        courses(recipe)
    monkeypatch.setattr(halving.Ladder, "_pass_on", passed)
    assert courses(recipe).best == courses(dropped).best
    assert tree(recipe) == tree(dropped)
    folder = recipe.parent / "m2m-runs" / "recipe"
    best = folder / "confirm" / str(courses(recipe).best)
    (adapter,) = best.iterdir()
    before = load_adapter(adapter)
    for path in (*adapter.iterdir(), *(folder / "states").iterdir()):
        path.unlink()
    adapter.rmdir()
    (folder / "confirm.jsonl").unlink()
    courses(recipe)
    after = load_adapter(adapter)
    assert all(np.array_equal(after.pairs[name].a, before.pairs[name].a) for name in before.pairs)
