"""Real disks: full, read-only, gone, or slow to store data."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from m2m.errors import InputError, M2MError, ResourceError
from m2m.opening import first_bytes

_WATCHED: dict[Path, bytes] = {}  # lock file -> content, for the runs of this process
_QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
# Errors of file systems that have no fsync for folders (shares, FAT through FUSE) or that do not
# let m2m open this folder. m2m cannot make renames more durable there.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


def refused(path: Path, error: OSError, needed: int = 0) -> M2MError:
    """Return the error for a user if the operating system did not write `path`.

    Args:
        path: the file or folder that m2m wanted to write.
        error: the system's error.
        needed: the bytes that it needs, 0 if that is not known.
    """
    folder = existing(path)
    again = f"make room under `{folder}` and run the same command again"
    if error.errno in (errno.ENOSPC, _QUOTA):
        full = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        return ResourceError(f"{full}: {path} was not written ({_room(folder, needed)})", again)
    if error.errno == errno.EFBIG:
        size = f"{path} of {in_words(needed)}" if needed else f"{path}"
        return ResourceError(
            f"{size}: too large a file for this disk, or for the limit of this account",
            "a FAT disk ends at 4 GiB; choose another disk, or raise `ulimit -f`",
        )
    reason = error.strerror or str(error)
    if error.errno in _FORBIDDEN:
        return InputError(f"cannot write {path}: {reason}", "choose a folder that you may write to")
    return ResourceError(
        f"cannot write {path}: {reason}",
        f"see that `{folder}` is still there and whole, then run the same command again",
    )


def check_room(path: Path, needed: int) -> None:
    """Raise ResourceError if `path` of `needed` bytes does not fit on its disk."""
    folder = existing(path)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # then the write itself raises
        return
    if needed > free:
        raise refused(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), needed)


def make_folder(folder: Path) -> None:
    """Make a folder and all folders above it, durably.

    Raises:
        OSError: the folder cannot be made.
        ResourceError: the folder of a run of this process was deleted or replaced.
    """
    _refuse_without_lock()
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def watch(locks: Mapping[Path, bytes]) -> None:
    """From now on, write only if these lock files are there and hold these bytes."""
    _WATCHED.update(locks)


def unwatch(lock: Path) -> None:
    """Stop watching a lock file."""
    _WATCHED.pop(lock, None)


def watched() -> dict[Path, bytes]:
    """Return the lock files of this process, so that its child processes can watch them too."""
    return dict(_WATCHED)


def _refuse_without_lock() -> None:
    """Raise if the folder of a run was deleted: a new folder would not have its lock."""
    for lock, words in _WATCHED.items():
        try:
            same = first_bytes(lock, len(words) + 1) == words
        except InputError:
            same = False
        if not same:
            raise ResourceError(
                f"{lock} is gone or another run's: {lock.parent} was deleted or replaced while "
                "this run was at work in it",
                "nothing more was written; run the same command again",
            )


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, after a new file or a rename."""
    if os.name != "posix":  # Windows cannot open folders and needs no such call
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def existing(path: Path) -> Path:
    """Return the nearest folder above `path` that exists."""
    for folder in path.absolute().parents:
        with suppress(OSError):
            if folder.is_dir():
                return folder
    return path.absolute().parent


def in_words(count: int) -> str:
    """Return a number of bytes for people: "640 bytes", "95.2 kB", "12.5 MB", "3.20 GB"."""
    if count < 10_000:
        return f"{count} bytes"
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def _room(folder: Path, needed: int) -> str:
    need = f"it needs {in_words(needed)}, " if needed else ""
    try:
        return f"{need}{in_words(shutil.disk_usage(folder).free)} are free"
    except OSError:
        return f"{need}the free space is unknown"
