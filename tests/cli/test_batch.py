from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import m2m as m2m_package
from m2m.cli.main import cli
from m2m.recipe import load_recipe
from m2m.results.outcome import FIELDS
from m2m.store import run_lock
from tests.pipeline.scenario import copied


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def recipes(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A good recipe, one that fails and another good one."""
    first = copied(finished_run, tmp_path_factory.mktemp("batch"))
    text = first.read_text(encoding="utf-8")
    broken, last = first.with_name("broken.toml"), first.with_name("last.toml")
    broken.write_text(text.replace("copy.jsonl", "gone.jsonl"), encoding="utf-8")
    last.write_text(text.replace("steps = 12", "steps = 3"), encoding="utf-8")
    return [first, broken, last]


@pytest.mark.slow  # two real runs
def test_a_batch_keeps_going_and_prints_a_line_for_each(recipes: list[Path]) -> None:
    found = m2m("run", *recipes, "--keep-going", "--json", "--quiet")
    assert found.exit_code == 1
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["recipe"] for line in lines] == [str(recipe) for recipe in recipes]
    assert [line["status"] for line in lines] == ["done", "failed", "done"]
    assert "gone.jsonl" in lines[1]["error"]
    for line in lines:
        assert [*line] == [*FIELDS], "every line has all fields, in the order of the reference"
        assert line["schema"] == 1
        written = datetime.fromisoformat(line["date"])
        assert timedelta() <= datetime.now(UTC) - written < timedelta(minutes=10)
        assert line["versions"]["m2m"] == m2m_package.__version__
        assert line["versions"]["numpy"] == np.__version__
        assert (line["error"] is None) == (line["verdict"] is not None)
    assert [line["seed"] for line in lines[::2]] == [{"train": 0, "merge": 0, "search": 0}] * 2
    assert [line["settings"]["train"]["steps"] for line in lines[::2]] == [12, 3]
    assert lines[0]["settings"]["data"] == {"normalise": "as is"}, "defaults are there too"
    shown = [text.removeprefix("Warning: ") for text in found.stderr.splitlines()
             if text.startswith("Warning: ")]  # fmt: skip
    assert lines[0]["warnings"], "those of the results are there too"
    assert {*shown} <= {text for line in lines for text in line["warnings"]}
    for rival in lines[0]["winner_ahead"]:
        low, high = rival["ci95"]
        assert low - 1e-9 <= rival["estimate"] <= high + 1e-9
    names = [(model["label"], model["how"]) for model in lines[0]["confirmed"]]
    assert len(lines[0]["winner_ahead"]) == len(names) - 1
    assert {(rival["label"], rival["how"]) for rival in lines[0]["winner_ahead"]} < {*names}
    assert Path(lines[2]["gguf"]).is_file()
    assert "1 of 3 recipes failed" in found.stderr


def test_one_recipe_has_the_same_line(recipes: list[Path]) -> None:
    found = m2m("run", recipes[1], "--json", "--quiet", "--set", "train.seed=4")
    assert found.exit_code == 1
    line = json.loads(found.stdout)
    assert found.stdout.count("\n") == 1
    assert [*line] == [*FIELDS]
    assert (line["status"], line["settings"]) == ("failed", None)
    assert line["overrides"] == {"train.seed": 4}
    assert line["error"] in found.stderr
    assert line["hint"] in found.stderr


def test_a_run_that_fails_after_reading_says_its_settings(recipes: list[Path]) -> None:
    with run_lock(load_recipe(recipes[2], (), {"train.seed": 4}).folder):
        same = ["--set", "train.rank=4", "--set", "limits.threads=1"]
        found = m2m("run", recipes[2], "--json", "--quiet", "--set", "train.seed=4", *same)
    line = json.loads(found.stdout)
    assert (found.exit_code, line["status"]) == (1, "failed")
    assert line["overrides"] == {"train.seed": 4, "train.rank": 4, "limits.threads": 1}
    assert line["settings"]["train"]["seed"] == line["seed"]["train"] == 4
    assert line["folder"].endswith("last+train.seed=4")
    assert "is in use by" in line["error"]


def test_without_keep_going_the_first_failure_ends_it(recipes: list[Path]) -> None:
    found = m2m("run", *recipes)
    assert found.exit_code == 1
    assert str(recipes[2]) not in found.stdout
    (line,) = found.stdout.splitlines()
    assert line.startswith(f"{recipes[0]}: ")


@pytest.mark.slow
def test_a_good_batch_exits_with_0(recipes: list[Path]) -> None:
    found = m2m("run", recipes[0], recipes[2])
    assert found.exit_code == 0
    assert "[2/2]" in found.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_an_interrupted_batch_names_the_line_that_resumes_all(recipes: list[Path]) -> None:
    long = recipes[0].with_name("long.toml")
    text = recipes[0].read_text(encoding="utf-8").replace("steps = 12", "steps = 5000")
    long.write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "m2m", "run", str(long), str(recipes[2])]
    line += ["--keep-going", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        adapters = long.parent / "m2m-runs" / "long" / "adapters"
        while process.poll() is None and not list(adapters.glob("*.checkpoint.safetensors")):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.stdout is not None
        (stopped,) = process.stdout.read().splitlines()
    assert process.returncode == 130
    assert f"go on with `m2m run {long} {recipes[2]} --keep-going --json`" in said
    result = json.loads(stopped)
    assert (result["status"], result["recipe"]) == ("stopped", str(long))
    assert result["hint"] in said
