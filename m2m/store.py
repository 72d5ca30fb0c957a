"""Results that know what they were made from: fingerprints, finished folders and the run's lock."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from m2m.errors import BusyError


def fingerprint(**parts: Any) -> str:
    """The sha256 (hex) of everything that can change a result.

    Args:
        parts: JSON values; the names count, their order does not.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a lock dies with its process, also after a power cut.

    Raises:
        BusyError: another process holds it; the message has its pid and machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise BusyError(
                f"{folder} is in use by {owner}", "wait for it, or stop it and run this again"
            )
        file.seek(0)
        file.truncate()
        file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


if sys.platform == "win32":
    import msvcrt

    # Windows locks keep others from reading the bytes they cover: lock one far behind the text.
    _LOCK_AT = 1 << 20

    def _try_lock(file: IO[str]) -> bool:
        file.seek(_LOCK_AT)
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        return False

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        with suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False
