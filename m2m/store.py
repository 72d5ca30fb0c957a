"""Results that know what they were made from: fingerprints, and the lock of a run's folder."""

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

_MOUNTS = Path("/proc/self/mounts")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# File systems whose locks another machine may not see (mounted `nolock`, `nobrl`, through FUSE).
_SHARED = re.compile(r"nfs\d?|cifs|smb\w*|9p|afs|ceph|davfs|ncpfs|fuse\.(sshfs|glusterfs|rclone)")


def fingerprint(**parts: Any) -> str:
    """The sha256 (hex) of everything that can change a result.

    Args:
        parts: JSON values; the names count, their order does not.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


# EDEADLOCK is what Windows says, EACCES what some file systems do.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@dataclass(frozen=True)
class Owner:
    """Who holds a folder.

    Attributes:
        pid: its process.
        host: name of its machine.
        boot: identity of the machine's current start; "" where the system has none.
        started: when the process began, in ticks since then; 0 where the system does not say.
    """

    pid: int
    host: str
    boot: str = ""
    started: int = 0

    @classmethod
    def this_process(cls) -> Owner:
        """The one that is running."""
        return cls(os.getpid(), socket.gethostname(), _boot(), _started(os.getpid()))

    def is_here(self) -> bool:
        """Whether it is a process of this machine, dead or alive."""
        return bool(self.boot and self.boot == _boot()) or self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether it may be running; a number that another process has taken over is not it."""
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
    """Hold `folder` for this process, and clear away what a killed one left half-written in it.

    The system's own lock dies with its process, also in a power cut. Beside it the file `lock` says
    who holds the folder: that decides where the system has no locks, and in a folder that other
    machines share.

    Raises:
        BusyError: another process holds it; the message has its pid and machine.
        InputError: the folder cannot be written to.
    """
    path = folder / "lock"
    try:
        make_folder(folder)
        file = open_to_append(path, buffering=0)  # a buffer would be flushed again at its end
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
                for place in (folder, *folder.iterdir()):
                    remove_leftovers(place)
            except OSError as error:
                raise refused(path, error) from error
            yield
        finally:
            unwatch(path)
            with suppress(OSError):  # an owner that is dead counts as none
                _write_owner(file, b"")


def _still_counts(owner: Owner, locked: bool, folder: Path) -> bool:
    """Whether the owner that a lock file names may be at work, though the system let us in."""
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
    """Who the lock file names; None where it is empty, torn or from an older m2m."""
    try:
        file.seek(0)
        found = Owner(**json.loads(file.read(4096)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds = [type(value) for value in asdict(found).values()]
    return found if kinds == [int, str, str, int] and found.pid > 0 else None


def _write_owner(file: IO[bytes], line: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(line)


def _is_shared(folder: Path) -> bool:
    """Whether other machines may see this folder, as far as the system tells."""
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
    """Field 22 of /proc/PID/stat (proc(5)): a number with which a pid is never given again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


if sys.platform == "win32":
    import msvcrt

    # Windows locks keep others from reading the bytes they cover: lock one far behind the text.
    _LOCK_AT = 1 << 20

    def _try_lock(file: IO[bytes]) -> bool | None:
        """True: ours now; False: another's; None: there are no locks here."""
        file.seek(_LOCK_AT)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return False if error.errno in _HELD else None
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool | None:
        """True: ours now; False: another's; None: there are no locks here."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return False if error.errno in _HELD else None
        return True
