"""Strangers' GGUF files never take m2m along; what passes its checks does not crash llama.cpp."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from m2m.errors import M2MError
from m2m.llamacpp import guard
from m2m.llamacpp.guard import check_loads
from tests.field.places import environment
from tests.fuzz.damage import damaged_gguf
from tests.fuzz.targets import TARGETS
from tests.tiny import pico_gguf

_LOADER = """
import sys
from m2m.errors import M2MError
from m2m.llamacpp.guard import load_once
from pathlib import Path
for line in sys.stdin:
    try:
        load_once(Path(line.rstrip()))
        answer = "loaded"
    except M2MError:
        answer = "refused"
    print(answer, flush=True)
"""


class Loader:
    """A process that loads one file after the other in llama.cpp; a new one after each crash."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOADER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )

    def load(self, path: Path) -> str:
        """ "loaded", "refused" or "crashed"."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            self.close()
            self._start()
        return answer or "crashed"

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def crashes(folder: Path, count: int, seed: int) -> tuple[int, list[Path]]:
    """How many of `count` damaged files m2m reads, and those of them that crash llama.cpp."""
    [read] = TARGETS["gguf"].reads
    whole = pico_gguf(folder / "valid.gguf").read_bytes()
    loader, chance = Loader(), random.Random(seed)
    passed, crashing = 0, []
    for number in range(count):
        path = folder / f"{number}.gguf"
        path.write_bytes(damaged_gguf(whole, chance))
        try:
            read(path)
        except M2MError:
            path.unlink()
            continue
        passed += 1
        if loader.load(path) == "crashed":
            crashing.append(path)
        else:
            path.unlink()
    loader.close()
    return passed, crashing


def test_files_that_pass_our_checks_do_not_crash_llama_cpp(tmp_path: Path) -> None:
    passed, found = crashes(tmp_path, 60, seed=1)
    assert passed > 4
    assert not found


@pytest.mark.soak
def test_many_files_that_pass_our_checks_do_not_crash_llama_cpp(tmp_path: Path) -> None:
    passed, found = crashes(tmp_path, 5000, seed=2)
    assert passed > 500
    assert not found


def test_a_healthy_file_passes(tmp_path: Path) -> None:
    check_loads(pico_gguf(tmp_path / "x.gguf"))


def test_a_file_is_tried_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_identity: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(guard, "identity", file_identity)
    path = pico_gguf(tmp_path / "x.gguf")
    check_loads(path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    check_loads(path)  # starts nothing
    pico_gguf(path, seed=1)
    with pytest.raises(FileNotFoundError, match="no-python"):
        check_loads(path)
