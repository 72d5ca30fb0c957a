"""A run's folder of a stranger: whatever its JSON says, a report is made or refused in words."""

from __future__ import annotations

import copy
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import InputError, M2MError
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.report import write_report
from m2m.results.facts import read_facts
from m2m.store import run_lock
from tests.pipeline.scenario import copied

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="Windows makes no links for everybody")
FREE = ("made_from", "budget")  # of more than one kind, or read apart
WRONG: list[Any] = [None, "x", -1, 1e308, math.inf, [], {"a": {}}, 10**400]

# Every value of a file, or some of them.
EVERY = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = copied(finished_run, tmp_path_factory.mktemp("run"))
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(f"{text}\n[validate]\nmixtures = 2\n", encoding="utf-8")
    run = Run(load_recipe(recipe), Silent(), anyway=True)
    run.validate()
    run.run()
    return load_recipe(recipe).folder


def ways(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON, the first one of each list."""
    if at:
        yield at
    if isinstance(value, dict):
        for name in value:
            yield from ways(value[name], (*at, name))
    elif isinstance(value, list) and value:
        yield from ways(value[0], (*at, 0))


def changed(data: dict[str, Any], at: tuple[Any, ...], value: Any) -> str:
    data = copy.deepcopy(data)
    inside: Any = data
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = value
    return json.dumps(data).replace("Infinity", "1e999")  # which JSON allows


@EVERY
@pytest.mark.parametrize(
    "name",
    [
        *("ranking.json", "confirm.json", "export.json", "adapters/copy/m2m.json"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("recipe.json", "validate.json")),
    ],
)
def test_a_wrong_value_is_shown_or_refused_in_words(
    folder: Path, tmp_path: Path, name: str, every: int
) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    data = json.loads((run / name).read_text(encoding="utf-8"))
    refused = 0
    for number, at in enumerate([*ways(data)][::every]):
        for wrong in (WRONG[number % len(WRONG)], WRONG[(number + 3) % len(WRONG)]):
            (run / name).write_text(changed(data, at, wrong), encoding="utf-8")
            try:
                write_report(read_facts(run), run)
            except M2MError as error:
                assert name in error.message
                refused += 1
    assert refused > 5 / every


@EVERY
@pytest.mark.parametrize("name", ["ranking.json", "confirm.json", "export.json", "validate.json"])
def test_no_value_of_another_kind_is_read_as_if_it_were_right(
    folder: Path, tmp_path: Path, name: str, every: int
) -> None:
    """Texts are no numbers, numbers no texts, and only true and false are true or false."""
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    data = json.loads((run / name).read_text(encoding="utf-8"))
    for at in [*ways(data)][::every]:
        inside = data
        for step in at:
            inside = inside[step]
        if inside is None or isinstance(inside, dict | list) or at[0] in FREE:
            continue
        for wrong in (7,) if isinstance(inside, str) else ("nan", "7", math.inf):
            (run / name).write_text(changed(data, at, wrong), encoding="utf-8")
            with pytest.raises(InputError, match=f"{name}: is not as m2m writes it"):
                read_facts(run)


@pytest.mark.parametrize("line", [
    '{"name":"train","seconds":"inf","peak_rss_bytes":1}',
    '{"name":"train","seconds":-1,"peak_rss_bytes":1}',
    '{"name":"train","seconds":1,"peak_rss_bytes":' + "9" * 400 + "}",
])  # fmt: skip
def test_a_step_that_cannot_be_is_refused(folder: Path, tmp_path: Path, line: str) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    (run / "steps.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"steps.jsonl: is not as m2m writes it"):
        read_facts(run)


@LINKS
@pytest.mark.parametrize("name", ["lock", "run.log", "steps.jsonl", "study.jsonl", "report.html",
                                  "report", "export", "adapters", "confirm/3"])  # fmt: skip
def test_nothing_is_written_through_links_of_a_runs_folder(
    folder: Path, tmp_path: Path, name: str
) -> None:
    home = Path(shutil.copytree(folder.parents[1], tmp_path / "home"))
    run = home / "m2m-runs" / folder.name
    mine = tmp_path / "mine"
    if (run / name).is_dir():
        shutil.rmtree(run / name)
        mine.mkdir()
    else:
        (run / name).unlink(missing_ok=True)
        mine.write_text("mine", encoding="utf-8")
    (run / name).symlink_to(mine)
    for line in (["report", str(run)], ["run", str(home / "recipe.toml")],
                 ["merge-runs", str(folder), "--into", str(run)]):  # fmt: skip
        done = CliRunner().invoke(cli, line)
        assert done.exit_code == 1
        assert f"has links out of the folder: {name} -> {mine}" in done.output
    assert mine.is_dir() or mine.read_text(encoding="utf-8") == "mine"
    assert not mine.is_dir() or not [*mine.iterdir()]


@LINKS
def test_links_that_stay_in_the_folder_and_a_folder_that_is_a_link_are_fine(
    folder: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    (run / "report").rename(run / "tables")
    (run / "report").symlink_to("tables")
    (tmp_path / "link").symlink_to(run)
    write_report(read_facts(tmp_path / "link"), tmp_path / "link")
    (run / "lock").unlink(missing_ok=True)
    (run / "lock").symlink_to("study.jsonl")  # which the lock would empty
    with pytest.raises(InputError, match="lock: is a link"), run_lock(run):
        pass
    assert (run / "study.jsonl").read_bytes() == (folder / "study.jsonl").read_bytes()


def test_a_dataset_has_no_name_that_leads_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    data = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    data["datasets"][0]["name"] = "../../elsewhere"
    (run / "recipe.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="is not the name of a dataset"):
        read_facts(run)
