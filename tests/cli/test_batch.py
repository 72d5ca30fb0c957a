from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from tests.pipeline.scenario import make_scenario


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A good recipe, one that fails and another good one."""
    folder = tmp_path_factory.mktemp("batch")
    first = make_scenario(folder)
    text = first.read_text(encoding="utf-8").replace("steps = 12", "steps = 2")
    text = text.replace("top = 2", 'top = 1\nbaselines = ["best_single"]')
    first.write_text(text, encoding="utf-8")
    broken, last = folder / "broken.toml", folder / "last.toml"
    broken.write_text(text.replace("copy.jsonl", "gone.jsonl"), encoding="utf-8")
    last.write_text(text.replace("steps = 2", "steps = 3"), encoding="utf-8")
    return [first, broken, last]


@pytest.mark.slow  # two real runs
def test_a_batch_keeps_going_and_prints_a_line_for_each(recipes: list[Path]) -> None:
    found = m2m("run", *recipes, "--keep-going", "--json", "--quiet")
    assert found.exit_code == 1
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["recipe"] for line in lines] == [str(recipe) for recipe in recipes]
    assert [("error" in line) for line in lines] == [False, True, False]
    assert "gone.jsonl" in lines[1]["error"]
    assert Path(lines[2]["gguf"]).is_file()
    assert "1 of 3 recipes failed" in found.stderr


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


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_an_interrupted_batch_names_the_line_that_resumes_all(recipes: list[Path]) -> None:
    long = recipes[0].with_name("long.toml")
    text = recipes[0].read_text(encoding="utf-8").replace("steps = 2", "steps = 5000")
    long.write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "m2m", "run", str(long), str(recipes[2]), "--keep-going"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment) as process:
        adapters = long.parent / "m2m-runs" / "long" / "adapters"
        while process.poll() is None and not list(adapters.glob("*.checkpoint.safetensors")):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"go on with `m2m run {long} {recipes[2]} --keep-going`" in said
