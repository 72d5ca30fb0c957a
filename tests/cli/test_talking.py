"""`m2m chat` on a terminal: it greets, offers questions of the target, and ends at `exit`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.commands.chat import questions_of
from m2m.formats.atomic import write_json
from tests.report import samples
from tests.tiny import pico_gguf


def on_a_terminal(model: Path, typed: str) -> tuple[str, int]:
    """Type into `m2m chat` on a pseudo-terminal; return what it shows, and its exit status."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "m2m", "chat", str(model), "--tokens", "3"]
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        asked = False
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux: the other side is closed
                break
            shown += part
            if not part:
                break
            if not asked and b"> " in shown:
                time.sleep(0.1)
                os.write(ours, typed.encode())
                asked = True
        process.wait(timeout=60)
    os.close(ours)
    return shown.decode(errors="replace"), process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("word", ["exit", "Quit", "/bye"])
def test_a_word_ends_it(tmp_path: Path, word: str) -> None:
    shown, status = on_a_terminal(pico_gguf(tmp_path / "pico.gguf"), f"{word}\n")
    assert "You talk to pico.gguf." in shown
    assert "exit ends" in shown
    assert status == 0


def test_questions_are_those_of_the_confirmed_run(tmp_path: Path) -> None:
    export = tmp_path / "run/export/model.gguf"
    assert questions_of(str(export)) == []
    export.parent.mkdir(parents=True)
    confirmed = samples.confirmation(("aa", "bb", "cc"), "Unasemaje?").as_json()
    path = tmp_path / "run/confirm.json"
    write_json(path, confirmed)
    assert questions_of(str(export)) == ["Unasemaje?"]
    path.write_text("{", encoding="utf-8")
    assert questions_of(str(export)) == []
