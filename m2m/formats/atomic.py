"""Files and folders that are whole or absent, whatever happens to their writer.

Everything is built beside its target under a temporary name, flushed to the disk and renamed last.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from m2m.errors import InputError, ResourceError

_PREFIX = ".m2m-"
_TEMPORARY = ".tmp"
# A folder cannot be replaced in one step: the old one waits under this prefix + its own name.
_REPLACED = ".m2m-old-"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write `path` through the yielded binary file; after an exception nothing has changed.

    Missing parent folders are made. An existing file is replaced in one step, at the end.

    Raises:
        InputError: the folder cannot be written to.
        ResourceError: the disk is full.
    """
    temporary = _temporary_beside(path)
    with _named_errors(path):
        opened = _opened(temporary, path)
        try:
            with opened as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 (the name that tests interrupt)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill the yielded empty folder; it becomes `path` at the end, and not at all on an exception.

    An existing folder of that name is swapped out as a whole and then deleted.

    Raises:
        InputError: the parent folder cannot be written to.
        ResourceError: the disk is full.
    """
    temporary = _temporary_beside(path)
    with _named_errors(path):
        _make(temporary, path)
        try:
            yield temporary
            _sync_tree(temporary)
            _swap_in(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented UTF-8 JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_folder(path: Path) -> None:
    """Delete a folder; a kill on the way leaves a leftover, never half of it under its name."""
    temporary = _temporary_beside(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left in `folder`, and put back what it was about to replace.

    Only for a folder in which nobody else is writing now.
    """
    if not folder.is_dir():
        return
    for old in sorted(folder.glob(f"{_REPLACED}*")):
        _restore_or_delete(old, folder / old.name.removeprefix(_REPLACED))
    for temporary in folder.glob(f"{_PREFIX}*{_TEMPORARY}"):
        _delete(temporary)


def _temporary_beside(path: Path) -> Path:
    return path.parent / f"{_PREFIX}{secrets.token_hex(6)}{_TEMPORARY}"


def _opened(temporary: Path, path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return temporary.open("xb")
    except OSError as error:
        raise _unwritable(path, error) from error


def _make(temporary: Path, path: Path) -> None:
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError | OSError:
    if _is_full(error):
        return error  # named by `_named_errors`
    reason = error.strerror or str(error)
    return InputError(
        f"cannot write {path}: {reason}", "choose a folder that you may write to, with room on it"
    )


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not _is_full(error):
            raise
        raise ResourceError(
            f"the disk is full: {path} was not written",
            f"free some space under `{path.parent}` and run the same command again",
        ) from error


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


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
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    # A rename is durable once its folder is; Windows cannot open folders and needs no such call.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
