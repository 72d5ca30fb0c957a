"""Whole or absent: exceptions at each step, and a process that is really killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import (
    atomic_file,
    atomic_folder,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)

REPOSITORY = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_parents(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a" / "b.bin") as file:
        file.write(b"whole")
        assert names(tmp_path / "a") != ["b.bin"]
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"whole"
    assert names(tmp_path / "a") == ["b.bin"]


def test_writers_of_bytes_text_and_json(tmp_path: Path) -> None:
    write_bytes(tmp_path / "b", b"\0\r\n")
    write_text(tmp_path / "t", "é\r\n")
    write_json(tmp_path / "j", {"ä": [1]})
    assert (tmp_path / "b").read_bytes() == b"\0\r\n"
    assert (tmp_path / "t").read_bytes() == "é\r\n".encode()
    assert (tmp_path / "j").read_bytes() == '{\n  "ä": [\n    1\n  ]\n}\n'.encode()
    write_json(tmp_path / "j", {"x": [float("nan"), -float("inf"), 1.5]})
    assert json.loads((tmp_path / "j").read_text(encoding="utf-8")) == {"x": [None, None, 1.5]}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "x", "old")
    with pytest.raises(error), atomic_file(tmp_path / "x") as file:
        file.write(b"half")
        raise error
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_full_at_any_step_of_a_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "x", "old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(ResourceError, match="disk is full"):
        write_text(tmp_path / "x", "new")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"


def test_other_errors_of_the_body_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "x"):
        (tmp_path / "absent").read_bytes()
    assert not names(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "file" / "x", "")
    with pytest.raises(InputError, match="cannot write"), atomic_folder(tmp_path / "file" / "x"):
        pass


def test_a_folder_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "f") as inside:
            write_text(inside / content, content)
            (inside / "sub").mkdir()
            write_text(inside / "sub" / "x", "deep")
            assert names(tmp_path / "f") == ["one", "sub"] if content == "two" else True
        assert names(tmp_path / "f") == sorted([content, "sub"])
        assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("step", ["body", "rename"])
def test_a_failed_folder_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, existing: bool
) -> None:
    if existing:
        with atomic_folder(tmp_path / "f") as inside:
            write_text(inside / "old", "")
    before = names(tmp_path)

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "broken")

    if step == "rename":
        monkeypatch.setattr("m2m.formats.atomic.os.rename", fail)
        # Path.rename is os.rename too: the old folder's way out and back must go on working.
        monkeypatch.setattr(Path, "rename", Path.replace)
    with pytest.raises(ResourceError, match="broken"), atomic_folder(tmp_path / "f") as inside:
        write_text(inside / "new", "")
        if step == "body":
            fail()
    assert names(tmp_path) == before
    if existing:
        assert names(tmp_path / "f") == ["old"]


def test_leftovers_are_removed_and_an_interrupted_swap_is_undone(tmp_path: Path) -> None:
    (tmp_path / ".m2m-123.tmp").mkdir()
    write_text(tmp_path / ".m2m-123.tmp" / "x", "")
    write_text(tmp_path / ".m2m-456.tmp", "")
    (tmp_path / ".m2m-old-gone").mkdir()
    (tmp_path / ".m2m-old-there").mkdir()
    (tmp_path / "there").mkdir()
    write_text(tmp_path / "mine.tmp", "")
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "absent")
    assert names(tmp_path) == ["gone", "mine.tmp", "there"]


def test_a_folder_behind_an_interrupted_swap_can_be_written_again(tmp_path: Path) -> None:
    (tmp_path / ".m2m-old-f").mkdir()
    with atomic_folder(tmp_path / "f") as inside:
        write_text(inside / "new", "")
    assert names(tmp_path) == ["f"]
    assert names(tmp_path / "f") == ["new"]


_WRITER = """
import os, signal
from pathlib import Path
from m2m.formats.atomic import atomic_file, atomic_folder
with atomic_{kind}(Path("x")) as out:
    target = out if "{kind}" == "file" else (out / "part").open("wb")
    target.write(b"half")
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path: Path, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITER.format(kind=kind)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists()
    assert len(names(tmp_path)) == 1
    remove_leftovers(tmp_path)
    assert not names(tmp_path)
