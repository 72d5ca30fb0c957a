"""Disks that are full, read-only, somebody else's or gone: told once, and resumable after."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import atomic_file, write_text
from m2m.formats.disk import in_words, refused
from tests.field.places import assert_same, m2m, outcome, run, told

NO_ROOT_RIGHTS = "-dac_override,-dac_read_search"


def plain_user() -> list[str]:
    """A command's beginning under which file permissions count for root too."""
    if os.name != "posix" or not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv to be refused anything")
    return ["setpriv", f"--bounding-set={NO_ROOT_RIGHTS}", f"--inh-caps={NO_ROOT_RIGHTS}"]


def in_own_namespace() -> list[str]:
    """A command's beginning in which file systems may be mounted, for it alone."""
    for start in (["unshare", "-m"], ["unshare", "-rm"]):
        probe = [*start, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/tmp"]
        if shutil.which("unshare") and run(probe).returncode == 0:
            return start
    pytest.skip("may not mount a file system here")


@pytest.mark.parametrize(
    ("how", "step", "words"),
    [
        pytest.param("ENOSPC", 3, "the disk is full", marks=pytest.mark.slow),
        pytest.param("EDQUOT", 45, "the disk quota is used up", marks=pytest.mark.slow),
        pytest.param("EROFS", 20, "Read-only file system", marks=pytest.mark.soak),
        pytest.param("EIO", 33, "Input/output error", marks=pytest.mark.soak),
    ],
)
def test_a_disk_that_refuses_is_told_and_the_run_goes_on_later(
    recipe: Path, expected: dict[str, str | bytes], how: str, step: int, words: str
) -> None:
    fault = {"root": str(recipe.parent / "m2m-runs"), "at": step, "how": how}
    message = told(m2m("run", recipe, "--quiet", fault=fault))
    assert words in message
    assert "free" in message if how in ("ENOSPC", "EDQUOT") else True
    if how == "EDQUOT":
        assert m2m("run", recipe).returncode == 0
        assert_same(outcome(recipe), expected)


_FILLED = """
set -e
mount -t tmpfs -o size=4m tmpfs "$1"
cp -r "$2" "$1/scenario"
cd "$1/scenario"
for free in $3; do
    dd if=/dev/zero of=../filler bs=1k count=4096 2>/dev/null || true
    have=$(df -k --output=avail .. | tail -1)
    truncate -s $(( $(stat -c %s ../filler) - (free - have) * 1024 )) ../filler
    set +e
    "$4" -m m2m run recipe.toml --quiet > /dev/null 2>> "$5"
    echo "$free $?" >> "$5"
    set -e
done
rm ../filler
"$4" -m m2m run recipe.toml --quiet > /dev/null 2>> "$5"
cp -r . "$6"
"""


@pytest.mark.soak
def test_a_small_disk_that_fills_at_every_stage(
    recipe: Path, expected: dict[str, str | bytes], tmp_path: Path
) -> None:
    """A real, small file system with ever more room: each run gets a little further."""
    start, log = in_own_namespace(), tmp_path / "log"
    (tmp_path / "disk").mkdir()
    rooms = " ".join(map(str, [0, 4, *range(8, 248, 24)]))
    parts = [tmp_path / "disk", recipe.parent, rooms, sys.executable, log, tmp_path / "saved"]
    done = run([*start, "sh", "-c", _FILLED, "sh", *map(str, parts)], timeout=600)
    assert done.returncode == 0, done.stderr + log.read_text()
    said = log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    codes = [line.split()[1] for line in said.splitlines() if line.replace(" ", "").isdigit()]
    assert set(codes) <= {"0", "1"}
    assert codes.count("1") >= 6
    told_so = [line for line in said.splitlines() if line.startswith("Error")]
    assert len(told_so) == codes.count("1")
    assert all("free" in line or "scratch" in line or "cannot write" in line for line in told_so)
    found = outcome(tmp_path / "saved" / "recipe.toml")
    away = str(tmp_path / "disk" / "scenario")
    for name, data in found.items():
        found[name] = data.replace(away, "HERE") if isinstance(data, str) else data
    assert_same(found, expected)


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_named(recipe: Path, tmp_path: Path) -> None:
    start = [*plain_user(), sys.executable, "-m", "m2m"]
    recipe.parent.chmod(0o555)
    try:
        message = told(run([*start, "run", str(recipe)]))
    finally:
        recipe.parent.chmod(0o755)
    assert "cannot write" in message
    assert "m2m-runs" in message
    assert "Permission denied" in message


def test_files_that_may_not_be_read_are_named(recipe: Path) -> None:
    start = [*plain_user(), sys.executable, "-m", "m2m"]
    names = ("copy.jsonl", "dev.jsonl", "models/pico/base.gguf")
    for name in names:
        (recipe.parent / name).chmod(0)
    message = told(run([*start, "run", str(recipe), "--quiet"]))
    assert message.count("Permission denied") == len(names)
    assert all(str(recipe.parent / name) in message for name in names)


def test_a_size_that_cannot_fit_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    refused_at_once = pytest.raises(ResourceError, match="the disk is full")
    with refused_at_once as caught, atomic_file(tmp_path / "x", free + (1 << 40)):
        raise AssertionError("nothing may be written")
    assert in_words(free + (1 << 40)) in caught.value.message
    assert "are free" in caught.value.message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs POSIX limits")
def test_a_limit_on_file_sizes_is_told(recipe: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    message = told(m2m("train", recipe, "--quiet", preexec_fn=limit))
    assert "too large a file" in message
    assert "ulimit -f" in message
    assert not [p for p in (recipe.parent / "m2m-runs").rglob("*") if ".m2m-" in p.name]


def test_every_kind_of_refusal_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "x"
    for number in (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS, errno.ENODEV):
        error = refused(path, OSError(number, os.strerror(number)), 5_000_000)
        assert str(path) in error.message
        assert error.hint
        assert isinstance(error, InputError if number in (errno.EACCES, errno.EROFS) else object)
    assert "needs 5.0 MB" in refused(path, OSError(errno.ENOSPC, ""), 5_000_000).message


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_fsync_reaches_the_kernel(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from m2m.formats.atomic import write_text\nfrom m2m.formats.journal import Journal\n"
        f"write_text(Path({str(tmp_path / 'f')!r}), 'x'); Journal(Path({str(tmp_path / 'j')!r}))"
        ".append({})"
    )
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", code]
    done = run(command)
    if "ptrace" in done.stderr.lower():
        pytest.skip("may not trace here")
    assert done.returncode == 0, done.stderr
    mine = [line for line in trace.read_text().splitlines() if str(tmp_path) in line]
    kinds = [("rename" if "rename" in line else "fsync", f"{tmp_path}>" in line) for line in mine]
    whole = [("fsync", False), ("rename", False), ("fsync", True)]
    assert kinds == [*whole, ("fsync", False), ("fsync", True)]


def test_a_write_that_fails_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    write_text(tmp_path / "x", "old")
    code = "open('/dev/full', 'wb', 0).write(b'x')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
    with pytest.raises(ResourceError, match="the disk is full"), atomic_file(tmp_path / "x") as f:
        f.write(b"new")
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"
