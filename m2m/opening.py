"""Open files that somebody else may have made; no other module does.

Only regular files are opened: a named pipe would wait for ever, a device may have no end. The size
is compared with a limit before anything is read. The limits protect the memory: a file of rows
takes five to ten times its size once it is read; one of very short rows can take 140 times.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

from m2m.errors import InputError

# The largest files that m2m reads, in bytes, by kind.
ROWS = 1 << 30  # datasets, targets, journals: at this size, days of training on a laptop
JSON = 256 << 20  # one JSON object; Gemma's tokenizer.json has 33 MB
SETTINGS = 1 << 20  # recipes, chat templates; task files have less, see m2m.formats.yaml
MODEL = 1 << 38  # weights, which are mapped or streamed and never held in memory

# Of one JSON text; Gemma 3's tokenizer.json has 1.4 and 0.5 million. An empty list takes 64 bytes.
_MOST_ITEMS, _MOST_LISTS = 1 << 22, 1 << 21

_PART = 1 << 20  # bytes that are copied at once
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_BINARY = getattr(os, "O_BINARY", 0)  # Windows changes line ends without it
# If a pipe replaces the file after the check, opening it does not wait for a writer. A terminal
# does not become ours. Windows has neither flag, and no such files in its folders.
_CAREFUL = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _BINARY
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Text:
    """A file that was read once: its text comes from the same bytes as its hash.

    Attributes:
        path: the file.
        text: UTF-8, without a byte order mark.
        sha256: hash of the file's bytes (hex).
        size: size of the file in bytes.
    """

    path: Path
    text: str
    sha256: str
    size: int


def open_file(path: Path, limit: int | None = MODEL) -> FileIO:
    """Open a regular file to read, unbuffered; the caller closes it.

    Args:
        path: the file; a symlink counts as the file that it names.
        limit: the most bytes that it may have.

    Raises:
        InputError: the file is missing, not permitted, not regular, or larger than `limit`.
    """
    try:
        _regular(path, path.stat())  # opening alone can move a device, so check first
        handle = os.open(path, os.O_RDONLY | _CAREFUL)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise unreadable(path, error) from error
    try:
        size = _regular(path, os.fstat(handle))  # size of the file that was really opened
        if limit is not None and size > limit:
            raise InputError(
                f"{path}: has {size:,} bytes, m2m reads at most {limit:,} here",
                "check that it is the right file; if it is, keep a part of it",
            )
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def open_to_append(path: Path, buffering: int = -1) -> IO[bytes]:
    """Open a regular file to read and to write at its end; create it if it is missing.

    No link is followed: in a folder of a stranger's it could name any file of the user.

    Raises:
        InputError: `path` exists and is a link, or not a regular file.
        OSError: the system refuses; disk.refused says it in words.
    """
    with suppress(FileNotFoundError):
        _regular(path, path.lstat())
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _CAREFUL | _NO_LINK, 0o666)
    try:
        _regular(path, os.fstat(handle))
        return os.fdopen(handle, "a+b", buffering=buffering)
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, limit: int = ROWS, *, growing: bool = False) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        growing: another process may be appending: read the bytes that are there now. Without it, a
            file that changes while it is read is refused.

    Raises:
        InputError: see `open_file`, or the file changed.
    """
    with open_file(path, limit) as file:
        before = os.fstat(file.fileno())
        data = _take(file, path, before.st_size + (not growing))
        after = os.fstat(file.fileno())
    if growing:
        return data
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if len(data) != before.st_size or not same:
        raise _changed(path, before.st_size)
    return data


def _changed(path: Path, size: int) -> InputError:
    return InputError(
        f"{path}: changed while it was read (it had {size} bytes)",
        "wait until no other program writes to it, and run the command again",
    )


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a regular file of any size, or all of a smaller one.

    Raises:
        InputError: see `open_file`.
    """
    with open_file(path, None) as file:
        return _take(file, path, count)


class Stream:
    """The bytes of a regular file: read once from the start, in parts, and hashed on the way.

    Attributes:
        path: the file.
        size: its size in bytes when it was opened.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self._file = path, file
        self._before = os.fstat(file.fileno())
        self._hash, self._taken, self._ended = hashlib.sha256(), 0, False
        self.size = self._before.st_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts that were not read yet.

        Raises:
            InputError: the file changed while it was read.
        """
        while not self._ended:
            if part := _take(self._file, self.path, _PART):
                self._hash.update(part)
                self._taken += len(part)
            after = os.fstat(self._file.fileno())
            same = (self.size, self._before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if not same or self._taken > self.size or (not part and self._taken < self.size):
                raise _changed(self.path, self.size)
            self._ended = not part
            if part:
                yield part

    def sha256(self) -> str:
        """Return the hash (hex) of all bytes of the file; reads those that are left."""
        for _ in self:
            pass
        return self._hash.hexdigest()


@contextmanager
def stream(path: Path, limit: int = ROWS) -> Iterator[Stream]:
    """Open a regular file to read it once, in parts.

    Raises:
        InputError: see `open_file`.
    """
    with open_file(path, limit) as file:
        yield Stream(path, file)


def read_once(path: Path, limit: int = ROWS) -> Text:
    """Read a text file once, for its text and its hash.

    Raises:
        InputError: see `read_bytes`, or the file is not UTF-8 (names the line).
    """
    data = read_bytes(path, limit)
    return Text(path, _decoded(path, data), hashlib.sha256(data).hexdigest(), len(data))


def read_text(path: Path, limit: int = ROWS, *, universal: bool = False) -> str:
    r"""Read a text file: UTF-8, a byte order mark is skipped.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        universal: turn the line ends "\r\n" and "\r" into "\n".

    Raises:
        InputError: see `read_bytes`, or the file is not UTF-8 (names the line).
    """
    text = _decoded(path, read_bytes(path, limit))
    return universal_newlines(text) if universal else text


def universal_newlines(text: str) -> str:
    r"""Replace the line ends "\r\n" and "\r" by "\n"."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_many(where: Any, text: str | bytes) -> None:
    """Raise for JSON that would take gigabytes once it is read.

    Raises:
        InputError: `text` of the file `where` has too many values, or lists and objects.
    """
    signs: Any = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    items, lists, objects = map(text.count, signs)
    if items > _MOST_ITEMS or lists + objects > _MOST_LISTS:
        raise InputError(
            f"{where}: has about {items:,} values in {lists + objects:,} lists and objects, m2m "
            f"reads {_MOST_ITEMS:,} in {_MOST_LISTS:,}",
            "get the file again, from its maker",
        )


def refuse_links(folder: Path, *patterns: str) -> None:
    """Raise for files of a stranger's folder that are links to somewhere else.

    m2m copies or shows such files, and a link could name any file of the user. The download folders
    of Hugging Face are made of links (`snapshots/HASH/FILE` to `blobs/HASH`): links that stay in
    one `models--OWNER--NAME` are followed.

    Args:
        folder: the folder that the user named, which may be a link itself.
        patterns: names of the files to check, as `Path.glob` takes them.

    Raises:
        InputError: there are such links; the message names them.
    """
    home = folder.resolve()
    cached = home.parent.name == "snapshots" and home.parents[1].name.startswith("models--")
    inside = home.parents[1] if cached else home
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    away = [file for file in files if not _is_inside(file, inside)]
    if away:
        more = f", and {len(away) - 3} more" if len(away) > 3 else ""
        named = ", ".join(f"{file.relative_to(folder)} -> {_target(file)}" for file in away[:3])
        raise InputError(
            f"{folder}: has links out of the folder: {named}{more}",
            "if you trust them, copy the folder with the files that they name (`cp -rL`), and give "
            "the copy",
        )


def _is_inside(path: Path, home: Path) -> bool:
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links that name each other
        return False


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # a file in a folder that is the link
        return str(path.resolve())


def copy_file(source: Path, target: Path, limit: int = JSON) -> None:
    """Copy the bytes of a regular file, up to its size when opened, into a new file.

    Raises:
        InputError: see `open_file`.
        OSError: `target` cannot be written.
    """
    with open_file(source, limit) as file, target.open("xb") as copy:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (part := _take(file, source, min(left, _PART))):
            copy.write(part)
            left -= len(part)


def refuse_outside(path: Path, home: Path, roots: Sequence[Path] = ()) -> None:
    """Raise if a file names another file outside its own folder and outside `roots`.

    Symlinks are followed first. A name that leads out is refused without any access to the
    file: on Windows, even asking for its size can send a password to another machine.

    Args:
        path: the named file.
        home: the folder of the file that names it.
        roots: other folders that the user named.

    Raises:
        InputError: `path` is not inside any of these folders.
    """
    named = Path(os.path.abspath(path))  # noqa: PTH100 ("..", without symlinks)
    folders, link = [home, *roots], ""
    try:
        real = [folder.resolve() for folder in folders]
        places = [*real, *(Path(os.path.abspath(folder)) for folder in folders)]  # noqa: PTH100
        if any(named.is_relative_to(place) for place in places):
            named = named.resolve()
            if any(named.is_relative_to(place) for place in real):
                return
            link = f" (a link to {named})"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a zero byte
        raise unreadable(path, error) from error
    raise InputError(
        f"{path}{link} is outside {home.absolute()}, the folder of the file that names it",
        f"if m2m may read there, add `--data-root {shlex.quote(str(named.parent))}` to the command",
    )


def unreadable(path: Path, error: Exception) -> InputError:
    """Return an error that says why the system refused to read a file."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot read {str(path)!r:.200}: {reason}", "check the path")


def _regular(path: Path, status: os.stat_result) -> int:
    """Return the size in bytes of a regular file; raise InputError for anything else."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise InputError(f"{path}: is {kind}, expected a file", "give the path of a regular file")
    return status.st_size


def _take(file: FileIO, path: Path, count: int) -> bytes:
    """Read up to `count` bytes; one system read may return fewer than there are."""
    parts = []
    try:
        while count > 0 and (part := file.read(count)):
            parts.append(part)
            count -= len(part)
    except OSError as error:
        raise unreadable(path, error) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith(_UTF16):
        raise InputError(f"{path}: is UTF-16, expected UTF-8", "save it as UTF-8")
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start + len(data) - len(data.removeprefix(_BOM))
        line = data.count(b"\n", 0, offset) + 1
        raise InputError(
            f"{path}:{line}: byte {data[offset]:#04x} is not UTF-8", "save the file as UTF-8"
        ) from error


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes.

    Raises:
        InputError: the file cannot be opened, see `open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
