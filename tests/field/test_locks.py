"""Two at once, and locks of processes that are no more: after a crash, a reboot, on a share."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from m2m import store
from m2m.errors import BusyError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.disk import make_folder
from m2m.formats.journal import Journal
from m2m.store import Owner, run_lock

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX systems")

ME = Owner.this_process()
DEAD = dataclasses.replace(ME, pid=2**22 + 1)  # beyond the largest pid that Linux gives
ELSEWHERE = Owner(4711, "another-laptop", "0c6f0cd6-0000-0000-0000-000000000000", 12345)


def leave_lock(folder: Path, owner: Owner) -> None:
    """What a process that was killed leaves behind."""
    (folder / "lock").write_text(json.dumps(dataclasses.asdict(owner)), encoding="utf-8")


@contextmanager
def somebody() -> Iterator[Owner]:
    """Another process of this machine, alive."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = store._started(other.pid)
        yield dataclasses.replace(ME, pid=other.pid, started=started)
        other.kill()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says that `tmp_path` is a network folder."""
    mounts = tmp_path / "mounts of this test"
    place = str(tmp_path.resolve()).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {place} nfs4 rw 0 0\n", encoding="utf-8")
    monkeypatch.setattr(store, "_MOUNTS", mounts)


def test_a_lock_says_who_holds_it_and_is_empty_after(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        written = json.loads((tmp_path / "run" / "lock").read_text(encoding="utf-8"))
        assert written == dataclasses.asdict(ME)
        assert written["host"] == socket.gethostname()
    assert (tmp_path / "run" / "lock").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("owner", [DEAD, ELSEWHERE, dataclasses.replace(ME, boot="earlier")])
def test_a_lock_file_without_a_lock_counts_for_nothing_on_a_disk_of_ones_own(
    tmp_path: Path, owner: Owner
) -> None:
    leave_lock(tmp_path, owner)
    with run_lock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "pid 12 on old-laptop\n", "{", '{"pid": 1}', "[" * 4096])
def test_torn_and_older_lock_files_count_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text, encoding="utf-8")
    with run_lock(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    "owner",
    [
        DEAD,
        dataclasses.replace(ME, boot="before the reboot"),
        dataclasses.replace(ME, started=ME.started + 1),  # the pid was given again
    ],
    ids=["dead", "rebooted", "pid-again"],
)
def test_without_locks_an_owner_that_is_no_more_is_passed_over(
    tmp_path: Path, owner: Owner
) -> None:
    leave_lock(tmp_path, owner)
    with run_lock(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_living_owner_is_respected(tmp_path: Path) -> None:
    with somebody() as owner:
        leave_lock(tmp_path, owner)
        with pytest.raises(BusyError, match=f"pid {owner.pid} on {owner.host}"), run_lock(tmp_path):
            pass
    with run_lock(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_another_machines_owner_is_respected(tmp_path: Path) -> None:
    leave_lock(tmp_path, ELSEWHERE)
    busy = pytest.raises(BusyError, match="pid 4711 on another-laptop")
    with busy as caught, run_lock(tmp_path):
        pass
    assert f"delete {tmp_path / 'lock'}" in str(caught.value.hint)


@pytest.mark.usefixtures("share")
def test_on_a_share_another_machines_owner_is_respected_and_a_dead_one_of_ours_is_not(
    tmp_path: Path,
) -> None:
    leave_lock(tmp_path, ELSEWHERE)
    with pytest.raises(BusyError, match="another-laptop"), run_lock(tmp_path):
        pass
    leave_lock(tmp_path, DEAD)
    with run_lock(tmp_path):
        pass


def test_a_renamed_machine_knows_its_own_lock(tmp_path: Path) -> None:
    if not ME.boot:
        pytest.skip("the system does not tell one start from another")
    assert dataclasses.replace(ME, host="old-name").is_here()
    assert not ELSEWHERE.is_here()


@pytest.mark.parametrize(
    ("place", "stays"),
    [
        (".", False),
        ("adapters", False),
        ("losses/confirm/12", False),  # the deepest place in which a run writes
        ("shares/1-of-2", True),  # another machine may be writing there
    ],
)
def test_what_a_killed_run_left_half_written_is_cleared_away(
    tmp_path: Path, place: str, stays: bool
) -> None:
    leftover = tmp_path / place / ".m2m-0123456789ab.tmp"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"half")
    with run_lock(tmp_path):
        assert leftover.exists() == stays


def test_a_link_to_a_folder_is_not_cleared(tmp_path: Path) -> None:
    leftover = tmp_path / "other" / ".m2m-0123456789ab.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"somebody else's")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(leftover.parent)
    with run_lock(tmp_path / "run"):
        assert leftover.exists()


def test_a_folder_that_was_deleted_is_not_made_again_without_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with run_lock(folder):
        write_json(folder / "a.json", 1)
        shutil.rmtree(folder)
        for write in (
            lambda: write_json(folder / "b.json", 1),
            lambda: Journal(folder / "study.jsonl").append({}),
            lambda: make_folder(folder / "adapters"),
        ):
            with pytest.raises(ResourceError, match="was deleted or replaced while"):
                write()
        assert not folder.exists()
    write_json(folder / "b.json", 1)  # nobody is at work in it any more


def test_a_folder_that_another_run_took_is_left_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with run_lock(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "lock").write_text(json.dumps(dataclasses.asdict(ELSEWHERE)), encoding="utf-8")
        with pytest.raises(ResourceError, match="another run's"):
            write_json(folder / "a.json", 1)
        assert [each.name for each in folder.iterdir()] == ["lock"]
