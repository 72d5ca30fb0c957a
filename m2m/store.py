"""Fingerprints of the inputs of a result, and the lock of a run's folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from m2m.errors import BusyError
from m2m.formats.atomic import remove_leftovers
from m2m.formats.disk import make_folder, refused, unwatch, watch
from m2m.opening import open_to_append

LOCK = "lock"  # names the process that works in the folder
SHARES = "shares"  # a run's folder in which other machines write
_DEEPEST = 3  # levels of folders in a run's folder in which files are written
_MOUNTS = Path("/proc/self/mounts")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# File systems whose locks another machine may not see (mounted `nolock`, `nobrl`, through FUSE).
_SHARED = re.compile(r"nfs\d?|cifs|smb\w*|9p|afs|ceph|davfs|ncpfs|fuse\.(sshfs|glusterfs|rclone)")


def fingerprint(**parts: Any) -> str:
    """Return the sha256 (hex) of everything that can change a result.

    Args:
        parts: JSON values; the names count, their order does not.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


# Windows returns EDEADLK, and some file systems EACCES.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder.

    Attributes:
        pid: its process number.
        host: name of its machine.
        boot: identity of the machine's current start; "" if the system has none.
        started: when the process began, in ticks since then; 0 if the system does not say.
    """

    pid: int
    host: str
    boot: str = ""
    started: int = 0

    @classmethod
    def this_process(cls) -> Owner:
        """Return the owner for the running process."""
        return cls(os.getpid(), socket.gethostname(), _boot(), _started(os.getpid()))

    def is_here(self) -> bool:
        """Return whether it is a process of this machine, dead or alive."""
        return bool(self.boot and self.boot == _boot()) or self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Return whether it may be running; another process with the same number does not count."""
        if self.boot != _boot() or self.started != _started(self.pid):
            return False
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, 0)
                return True
            return self.started != 0
        return True


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and delete half-written files of a killed one.

    The system's own lock ends with its process, also in a power cut. In addition, the file `lock`
    names the owner. It decides if the system has no locks, and in a folder that other machines
    share.

    Raises:
        BusyError: another process holds it; the message names its pid and machine.
        InputError: the folder cannot be written to.
    """
    path = folder / LOCK
    try:
        make_folder(folder)
        file = open_to_append(path, buffering=0)  # closing would flush a buffer again
    except OSError as error:
        raise refused(path, error) from error
    with file:
        locked, owner = _try_lock(file), _read_owner(file)
        if locked is False or (owner and _still_counts(owner, locked is True, folder)):
            raise _busy(folder, owner)
        try:
            try:
                _write_owner(
                    file, line := json.dumps(asdict(Owner.this_process())).encode() + b"\n"
                )
                watch({path: line})
                remove_leftovers(folder, _DEEPEST, without=(SHARES,))
            except OSError as error:
                raise refused(path, error) from error
            yield
        finally:
            unwatch(path)
            with suppress(OSError):  # a dead owner counts as none
                _write_owner(file, b"")


def _still_counts(owner: Owner, locked: bool, folder: Path) -> bool:
    """Return whether the owner in a lock file may still work, though the system let us in."""
    if owner.is_here():
        return not locked and owner.is_alive()
    return not locked or _is_shared(folder)


def _busy(folder: Path, owner: Owner | None) -> BusyError:
    who = f"pid {owner.pid} on {owner.host}" if owner else "another process"
    hint = "wait for it, or stop it and run this again"
    if owner and not owner.is_here():
        hint += f"; if nothing runs there any more, delete {folder / 'lock'}"
    return BusyError(f"{folder} is in use by {who}", hint)


def _read_owner(file: IO[bytes]) -> Owner | None:
    """Return the owner in the lock file; None if it is empty, torn or from an older m2m."""
    try:
        file.seek(0)
        owner = Owner(**json.loads(file.read(4096)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds = [type(value) for value in asdict(owner).values()]
    return owner if kinds == [int, str, str, int] and owner.pid > 0 else None


def _write_owner(file: IO[bytes], line: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(line)


def _is_shared(folder: Path) -> bool:
    """Return whether other machines may see this folder, as far as the system knows."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    best, kind = -1, ""
    for line in mounts:
        _, place, name, *_ = line.split(" ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place)
        if folder.resolve().is_relative_to(place) and len(place) >= best:
            best, kind = len(place), name
    return _SHARED.fullmatch(kind) is not None


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> int:
    """Return field 22 of /proc/PID/stat (proc(5)); a reused pid has a different value."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


if sys.platform == "win32":
    import msvcrt

    # A Windows lock stops others from reading the locked bytes: lock one far behind the text.
    _LOCK_AT = 1 << 20

    def _try_lock(file: IO[bytes]) -> bool | None:
        """Lock the file: True if it is ours now, False if another's, None if there are no locks."""
        file.seek(_LOCK_AT)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return False if error.errno in _HELD else None
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool | None:
        """Lock the file: True if it is ours now, False if another's, None if there are no locks."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return False if error.errno in _HELD else None
        return True
