"""A run's folder that was copied to another place is as fresh as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.results.folder import CONFIRMED, EXPORTED, RANKING, RECIPE, RunFolder
from m2m.store import fingerprint
from tests.pipeline.scenario import copied


def test_nothing_is_out_of_date_in_a_copy(finished_run: Path, tmp_path: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    folder = RunFolder(load_recipe(recipe).folder)
    before = (folder.path / RANKING).read_bytes()
    run = Run(load_recipe(recipe), Silent())
    assert str(tmp_path) in (folder.path / RECIPE).read_text(encoding="utf-8"), "written again"
    assert folder.is_fresh(RANKING), "so that shares of later stages can begin"
    assert (folder.path / RANKING).read_bytes() == before
    run.confirm()
    assert str(tmp_path) in (folder.path / CONFIRMED).read_text(encoding="utf-8")
    assert folder.stale() == []


def test_aligned_files_may_move_too(finished_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(load_recipe(copied(finished_run, tmp_path)).folder)
    for place in ("here", "there"):
        changed(folder.path / RECIPE, targets=[{"dev": place, "dev_aligned": [place]}])
        if place == "here":
            folder.keep(RANKING, json.loads((folder.path / RANKING).read_text(encoding="utf-8")))
    assert folder.is_fresh(RANKING)


def changed(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "key", "stale"),
    [(RECIPE, "train", RANKING), (RECIPE, "inputs", RANKING), (CONFIRMED, "winner", EXPORTED)],
)
def test_other_settings_rows_and_winners_are_still_out_of_date(
    finished_run: Path, tmp_path: Path, name: str, key: str, stale: str
) -> None:
    folder = RunFolder(load_recipe(copied(finished_run, tmp_path)).folder)
    values = json.loads((folder.path / name).read_text(encoding="utf-8"))[key]
    changed(folder.path / name, **{key: values | {"datasets": []}})
    assert [line.split()[0] for line in folder.stale()] == [stale]


def test_marks_of_earlier_versions_count_in_their_own_place(
    finished_run: Path, tmp_path: Path
) -> None:
    """They had the paths in them."""
    folder = RunFolder(load_recipe(copied(finished_run, tmp_path)).folder)
    confirmed = json.loads((folder.path / CONFIRMED).read_text(encoding="utf-8"))
    changed(folder.path / EXPORTED, made_from=fingerprint(winner=confirmed["winner"]))
    assert folder.stale() == []
    changed(folder.path / EXPORTED, made_from=fingerprint(winner={}))
    assert len(folder.stale()) == 1
