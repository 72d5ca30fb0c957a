"""Progress on a real terminal, on a plain stream, and not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.cli import console
from m2m.cli.console import TerminalProgress
from tests.pipeline.scenario import make_scenario


def work(progress: TerminalProgress) -> None:
    progress.stage("train", 1, 4)
    progress.start("training a", 3, "steps")
    for _ in range(3):
        time.sleep(0.02)
        progress.advance(1, "loss 1.5")
    progress.finish()
    progress.warn("careful")


def test_a_plain_stream_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.01)
    work(TerminalProgress())
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "1/4 train"
    assert lines[2].startswith("training a: 2/3 steps, ")
    assert "left" in lines[2]
    assert lines[-2].startswith("training a: 3/3 steps in ")
    assert lines[-1] == "Warning: careful"


def test_quiet_says_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    work(TerminalProgress(quiet=True))
    assert capsys.readouterr().err == "Warning: careful\n"


@pytest.mark.skipif(sys.platform == "win32", reason="opens a pseudo-terminal")
def test_a_terminal_gets_the_stage_and_a_bar_under_it(tmp_path: Path) -> None:
    import pty

    code = "from tests.cli.test_console import work, TerminalProgress; work(TerminalProgress())"
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    root = str(Path(__file__).parent.parent.parent)
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, stderr=theirs, stdout=subprocess.PIPE, env=environment, cwd=root)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode("utf-8")
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout == b""
    assert "1/4 train" in shown
    assert "so far" in shown
    assert "\x1b[" in shown
    assert "training a: 3/3 steps in " in shown


@pytest.mark.skipif(sys.platform == "win32", reason="opens a pseudo-terminal")
def test_a_narrow_terminal_cuts_no_name_and_breaks_no_word() -> None:
    import fcntl
    import pty
    import struct
    import termios

    name, command = "Rediyo_Kano_labarai_da_hirarraki_2023", "m2m run recipe.toml --hours 8"
    code = f"""
from m2m.cli.console import TerminalProgress, asked, say
print(asked("How is {name} meant? It has two columns."))
say("  Words of a sentence about {name} and `{command}` in it.")
say("Next   " + "m2m " * 20, copied=True)
progress = TerminalProgress()
progress.start("training {name} (1 of 3)", 3, "steps")
progress.advance(1, "loss 1.5")
progress.finish()
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    root = Path(__file__).parent.parent.parent
    subprocess.run(
        [sys.executable, "-c", code],
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm"},
        cwd=root,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode("utf-8")
    os.close(ours)
    lines = shown.replace("\r", "").split("\n")
    assert lines[:2] == [f"How is {name} meant? It has", "two columns."]
    assert lines[2:5] == [
        "  Words of a sentence about",
        f"    {name} and",
        f"    `{command}` in it.",
    ]
    assert lines[5] == "Next   " + "m2m " * 20
    assert "…" not in shown
    assert shown.count(f"training {name}") >= 2  # the bar, and the line that stays


@pytest.mark.slow
def test_a_run_leaves_a_log_also_of_its_failure(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace(
        "learning_rate = 5e-3", "learning_rate = 9e18"
    )
    recipe.write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "m2m", "train", str(recipe), "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    log = (tmp_path / "m2m-runs" / "recipe" / "run.log").read_text(encoding="utf-8")
    assert "step 1 of 4: train" in log
    assert "Error: training of copy diverged" in log
    assert "hint: " in log
