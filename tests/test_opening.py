"""One place opens strangers' files: regular files only, of a bounded size, read once."""

from __future__ import annotations

import ast
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import m2m
from m2m import opening
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.formats.journal import Journal
from m2m.formats.records import read_object, read_records
from m2m.formats.safetensors import SafetensorsFile
from m2m.opening import file_sha256
from m2m.recipe import load_recipe
from m2m.store import run_lock
from tests.sources import tree

ROOT = Path(m2m.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and devices in folders")

READERS: dict[str, Callable[[Path], object]] = {
    "open_file": opening.open_file,
    "read_bytes": opening.read_bytes,
    "read_text": opening.read_text,
    "read_once": opening.read_once,
    "first_bytes": lambda path: opening.first_bytes(path, 4),
    "open_to_append": opening.open_to_append,
    "copy_file": lambda path: opening.copy_file(path, path.with_name("copy")),
    "records": read_records,
    "object": read_object,
    "recipe": load_recipe,
    "journal": lambda path: Journal(path).replay(),
    "append": lambda path: Journal(path).append({}),
    "digest": file_sha256,
    "gguf": GGUFFile,
    "safetensors": SafetensorsFile,
}


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket in the file system, by a short relative name: such names are limited."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jsonl")
        yield Path("socket.jsonl")


@posix
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_only_regular_files_are_opened(
    read: Callable[[Path], object], tmp_path: Path, listening: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "tty.jsonl").symlink_to("/dev/tty")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "pipe.jsonl")
    for name, kind in (
        ("pipe.jsonl", "a named pipe"),
        ("link.jsonl", "a (named pipe|link)"),  # nothing is appended through a link
        ("zero.jsonl", "a (device|link)"),
        ("tty.jsonl", "a (device|link)"),
        ("folder.jsonl", "a folder"),
        (listening, "a socket"),
    ):
        with pytest.raises(InputError, match=f"{name}: is {kind}, expected a file"):
            read(tmp_path / name)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_missing_file_and_a_zero_byte_in_a_name_are_refused(
    read: Callable[[Path], object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.id in ("journal", "append", "open_to_append"):
        return  # these may be missing
    for name in ("none.jsonl", "zero\0byte.jsonl"):
        with pytest.raises(InputError, match=r"cannot read '.*\.jsonl'"):
            read(tmp_path / name)


@posix
def test_a_pipe_that_takes_the_files_place_after_the_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    status = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda _self, **_: status)
    with pytest.raises(InputError, match="is a named pipe"):
        opening.open_file(path)


@posix
def test_a_run_folder_with_a_pipe_as_lock_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(InputError, match="lock: is a named pipe"), run_lock(tmp_path):
        pass


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b"{}\n" * 200)
        file.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match=r"has 1,099,511,627,776 bytes, .* at most 1,073,741,824"):
        read_records(path)
    assert opening.first_bytes(path, 3) == b"{}\n"
    with pytest.raises(InputError, match="at most 1,048,576"):
        load_recipe(path.rename(path.with_suffix(".toml")))


@posix
@pytest.mark.parametrize("kind", ["zero", "huge", "endless"])
def test_memory_stays_small_by_the_kernels_word(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    if kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:  # the second has size 0 by stat, and bytes without an end
        path.symlink_to("/dev/zero" if kind == "zero" else f"/proc/{os.getpid()}/pagemap")
    if not path.exists():
        pytest.skip("this system has no such file")
    code = (
        "import resource, sys; from pathlib import Path; from m2m.opening import *\n"
        "from m2m.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (256 << 20,) * 2)\n"
        "try: read_text(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"rows.jsonl" in done.stdout


def test_a_file_that_grows_is_refused_and_a_journal_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    real = opening._take

    def take(file: opening.FileIO, where: Path, count: int) -> bytes:
        with path.open("ab") as other:
            other.write(b'{"b": 2}\n')
        return real(file, where, count)

    monkeypatch.setattr(opening, "_take", take)
    assert Journal(path).replay() == [{"a": 1}]
    with pytest.raises(InputError, match="changed while it was read"):
        opening.read_bytes(path)


def test_the_text_is_that_of_the_bytes_that_were_hashed(tmp_path: Path) -> None:
    """Another thread swaps the file all the time; text and hash never belong to two of them."""
    path, spare = tmp_path / "rows.txt", tmp_path / "spare.txt"
    texts = [f"row {number}\n" * 5000 for number in range(2)]
    path.write_bytes(texts[0].encode())
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            spare.write_bytes(texts[turn % 2].encode())
            spare.replace(path)

    worker = threading.Thread(target=swap)
    worker.start()
    try:
        for _ in range(200):
            try:
                found = opening.read_once(path)
            except InputError:  # Windows: not while it is replaced
                continue
            assert hashlib.sha256(found.text.encode()).hexdigest() == found.sha256
    finally:
        stop.set()
        worker.join()


def test_text_is_utf_8_with_the_line_of_a_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    assert opening.read_text(path) == "one\r\ntwo\rthree"
    assert opening.read_text(path, universal=True) == "one\ntwo\nthree"
    path.write_bytes(b"one\n\xe9")
    with pytest.raises(InputError, match=r"a\.txt:2: byte 0xe9 is not UTF-8"):
        opening.read_text(path)


# What opens files in another way, and why it may.
OTHER_WAYS = {
    "opening.py": "it is the one place",
    "machine.py": "/proc and /sys",
    "store.py": "/proc",
    **dict.fromkeys(
        ("checkpoint/known.py", "report/glossary.py", "report/judge_page.py", "report/parts.py"),
        "a file of this package",
    ),
    "formats/atomic.py": "new files under names of its own",
    "formats/disk.py": "folders, to flush them",
    "dataset/samples.py": "maps a temporary file of its own",
    "formats/mapped.py": "maps what the one place opened",
    "llamacpp/scratch_model.py": "a scratch file of its own",
    "pipeline/merging_runs.py": "copies folders of runs",
}
_CALLS = {
    *("open", "fdopen", "read_text", "read_bytes", "memmap", "fromfile", "load", "loadtxt"),
    *("genfromtxt", "FileIO", "copyfile", "copy", "copy2", "copytree", "open_code", "mmap"),
}
# A model's files are opened by their own readers, and an archive is bytes in memory.
_HARMLESS = {"open": ("BaseModel", "archive")}
_OWNED = {"copy": ("shutil",), "load": ("np", "numpy")}  # common names: only these packages'


def opens(path: Path) -> list[str]:
    """The calls of a module that may open a file, but for those of `m2m.opening`."""
    nodes = [*ast.walk(tree(path))]
    ours = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "m2m.opening"
        for alias in node.names
    }
    found = []
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        call = node.func
        name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        if name not in _CALLS or (isinstance(call, ast.Name) and name in ours):
            continue
        owner = ast.unparse(call.value) if isinstance(call, ast.Attribute) else ""
        if owner in _HARMLESS.get(name, ()) or (name in _OWNED and owner not in _OWNED[name]):
            continue
        found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_nothing_else_opens_files() -> None:
    others = {path.relative_to(ROOT).as_posix(): opens(path) for path in ROOT.rglob("*.py")}
    assert len(others) > 300
    found = {name: calls for name, calls in others.items() if calls and name not in OTHER_WAYS}
    assert not found, "use m2m.opening"
