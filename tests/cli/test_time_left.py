"""The time that is left for a whole run, and the stages that come before the one asked for."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.console import TerminalProgress
from m2m.cli.main import cli
from m2m.cli.time_left import HoursLeft, TimeLeft, expect
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from tests.pipeline.scenario import copied, make_scenario

PLANNED = {"train": 100.0, "search": 30.0, "halving": 20.0, "last training": 40.0, "export": 10.0}


def test_the_stages_of_a_plan_are_counted_down(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left = TimeLeft(PLANNED)
    assert (str(left), left.all) == ("", "about 3 min 20 s")
    left.enter("train")
    now[0] += 25
    assert left.left == 75 + 30 + 60 + 10
    now[0] += 500  # slower than planned: the other stages still take their time
    assert left.left == 100
    left.least = 30.0  # as the bar says
    assert left.left == 130
    left.enter("confirm")
    assert left.left == 70
    assert str(left) == "about 1 min 10 s for all that is left"
    left.enter("validate")
    assert left.left is None
    early = TimeLeft(PLANNED, "confirm")
    assert sum(early.seconds.values()) == 190
    words = early.before("confirm")
    assert words.startswith("confirm needs the results of train (about 1 min 40 s) and search")
    assert TimeLeft({"confirm": 5.0}, "confirm").before("confirm") == ""


def test_a_plain_stream_has_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.expected = TimeLeft(PLANNED)
    progress.stage("search", 2, 4)
    progress.start("scoring", 6, "datasets")
    progress._said -= 60
    progress.advance(2)
    assert "2/6 datasets" in (shown := capsys.readouterr().err)
    assert shown.rstrip().endswith("for all that is left")


def test_with_hours_it_is_their_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left = HoursLeft(0.5)
    left.enter("train")
    now[0] += 300
    assert str(left) == "25 min 00 s of 0.5 hours left for all"
    now[0] += 9000
    assert (left.left, str(left)) == (0, "the 0.5 hours are over")


@pytest.mark.parametrize(
    ("steps", "estimated"), [(199, False), pytest.param(200, True, marks=pytest.mark.slow)]
)
def test_a_long_training_is_estimated_on_a_plain_stream_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, estimated: bool
) -> None:
    recipe = load_recipe(make_scenario(tmp_path))
    train = dataclasses.replace(recipe.train, steps=steps)
    names = [each.name for each in recipe.datasets][:2]
    search = dataclasses.replace(
        recipe.search, excluded=tuple(d.name for d in recipe.datasets if d.name not in names)
    )
    work = Run(dataclasses.replace(recipe, train=train, search=search), Silent())
    progress = TerminalProgress()
    expect(work, progress, "run")
    assert (progress.expected is not None) == estimated


@pytest.mark.slow
def test_confirm_on_a_fresh_recipe_says_that_trainings_come_first(
    finished_run: Path, tmp_path: Path
) -> None:
    recipe = make_scenario(tmp_path)
    found = CliRunner().invoke(cli, ["confirm", str(recipe)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "confirm needs the results of train (about " in found.stderr
    assert found.stderr.index("needs the results") < found.stderr.index("1/4 train")
    again = CliRunner().invoke(cli, ["confirm", str(recipe)], catch_exceptions=False)
    assert "needs the results" not in again.stderr
    (tmp_path / "done").mkdir()
    done = copied(finished_run, tmp_path / "done")
    found = CliRunner().invoke(cli, ["export", str(done)], catch_exceptions=False)
    assert "needs the results" not in found.stderr
