"""Files and folders that are whole or absent, whatever happens to their writer.

Each is built next to its target under a temporary name, flushed to the disk, and renamed last.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from m2m.formats.disk import check_room, make_folder, refused, sync_folder
from m2m.formats.json_text import json_text

_PREFIX = ".m2m-"
_TEMPORARY = ".tmp"
# A folder cannot be replaced in one step: the old one has this prefix + its own name meanwhile.
_REPLACED = ".m2m-old-"


@contextmanager
def atomic_file(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """Write `path` through the yielded binary file; after an exception nothing has changed.

    Missing parent folders are made. An existing file is replaced in one step, at the end.

    Args:
        path: the file to make.
        size: bytes that will be written, if known; if there is no room for them, none is written.

    Raises:
        InputError: the folder cannot be written to.
        ResourceError: the disk is full or does not answer; names the bytes needed and free.
    """
    temporary = _temporary_beside(path)
    with _named_errors(path, temporary, size):
        make_folder(path.parent)
        check_room(path, size)
        opened = temporary.open("xb")
        try:
            with opened as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 (the name that tests interrupt)
        except BaseException:
            with suppress(OSError):  # if the disk is gone, the first error is the one to show
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill the yielded empty folder; it becomes `path` at the end, but not after an exception.

    An existing folder of that name is swapped out as a whole and then deleted.

    Raises:
        InputError: the parent folder cannot be written to.
        ResourceError: the disk is full or does not answer.
    """
    temporary = _temporary_beside(path)
    with _named_errors(path, temporary):
        make_folder(path.parent)
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            _swap_in(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(path.parent)


@contextmanager
def staged(folder: Path) -> Iterator[tuple[Path, dict[Path, Path]]]:
    """Make several files and folders and put all of them in their places at the end.

    Yields an empty temporary folder in `folder`, and a dict to fill: place -> the file or folder
    for it in the temporary folder. They are moved in the order of the dict. A folder's place must
    be free; a file is replaced. An exception before the end changes nothing. After a kill during
    the last renames, some places have the new version and the others the old, each of them whole.

    Raises:
        InputError: `folder` cannot be written to.
        ResourceError: the disk is full or does not answer.
    """
    moves: dict[Path, Path] = {}
    temporary = _temporary_beside(folder / "x")
    try:
        make_folder(folder)
        temporary.mkdir()
        try:
            yield temporary, moves
            _sync_tree(temporary)
            for place, staged in moves.items():
                make_folder(place.parent)
                os.replace(staged, place)  # noqa: PTH105 (the name that tests interrupt)
                sync_folder(place.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise refused(folder, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path, len(data)) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8, with its own line ends."""
    # A file name in another encoding is read as lone surrogates, one for each byte.
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented UTF-8 JSON; see `json_text`."""
    write_bytes(path, (json_text(value, indent=2) + "\n").encode("utf-8"))


def remove_folder(path: Path) -> None:
    """Delete a folder; after a kill no half of it has its name, only a leftover may be there."""
    temporary = _temporary_beside(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path, depth: int = 0, without: Container[str] = ()) -> None:
    """Delete the leftovers of a killed writer in `folder`; restore folders that it was replacing.

    Call this only if no other process is writing in the folder now.

    Args:
        folder: the folder; if it does not exist, nothing happens.
        depth: how many levels of folders below it are looked into as well, but no links.
        without: names of folders that are not looked into.
    """
    if not folder.is_dir():
        return
    for old in sorted(folder.glob(f"{_REPLACED}*")):
        _restore_or_delete(old, folder / old.name.removeprefix(_REPLACED))
    for temporary in folder.glob(f"{_PREFIX}*{_TEMPORARY}"):
        _delete(temporary)
    for below in folder.iterdir() if depth else ():
        if below.name not in without and not below.is_symlink():
            remove_leftovers(below, depth - 1, without)


def _temporary_beside(path: Path) -> Path:
    return path.parent / f"{_PREFIX}{secrets.token_hex(6)}{_TEMPORARY}"


@contextmanager
def _named_errors(path: Path, temporary: Path, size: int = 0) -> Iterator[None]:
    """Turn the system's refusals to write into m2m's errors; errors about other files pass."""
    try:
        yield
    except OSError as error:
        if not _is_ours(error, path, temporary):
            raise
        raise refused(path, error, size) from error


def _is_ours(error: OSError, path: Path, temporary: Path) -> bool:
    """Return whether an error came from this writing: it names no file, or one written here."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    old = path.parent / f"{_REPLACED}{path.name}"
    return named in (path, *path.parents) or any(
        x in (named, *named.parents) for x in (temporary, old)
    )


def _swap_in(temporary: Path, path: Path) -> None:
    old = path.parent / f"{_REPLACED}{path.name}"
    if old.exists():
        _restore_or_delete(old, path)
    if not path.exists():
        os.rename(temporary, path)  # noqa: PTH104 (the name that tests interrupt)
        return
    path.rename(old)
    try:
        os.rename(temporary, path)  # noqa: PTH104
    except BaseException:
        old.rename(path)
        raise
    _delete(old)


def _restore_or_delete(old: Path, path: Path) -> None:
    if path.exists():
        _delete(old)
    else:
        old.rename(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
