"""Shells complete commands, options and models: asked as they ask, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from tests.tiny import pico_model


def complete(*words: str, **environment: str) -> list[str]:
    asked = {"_M2M_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["m2m", *words])}
    asked["COMP_CWORD"] = str(len(words))
    line = [sys.executable, "-m", "m2m"]
    done = subprocess.run(
        line, env={**os.environ, **asked, **environment}, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_and_options_are_completed() -> None:
    assert {"plan", "run", "data", "doctor"} <= set(complete(""))
    assert complete("data", "ch") == ["check"]
    assert "--keep-going" in complete("run", "--")


def test_models_are_completed(tmp_path: Path) -> None:
    pico_model(tmp_path)
    assert "pico" in complete("init", "--model", "pi", M2M_MODELS=str(tmp_path))
    assert "pico" not in complete("init", "--model", "x", M2M_MODELS=str(tmp_path))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_it_reads(shell: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["completion", shell], prog_name="m2m")
    assert found.exit_code == 0
    assert "_M2M_COMPLETE" in found.stdout
    assert "Install it with" in found.stderr
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(found.stdout, encoding="utf-8")
        subprocess.run([shell, "-n", str(script)], check=True)
