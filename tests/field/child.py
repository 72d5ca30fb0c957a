"""`m2m` in a process of its own, in which one step of writing goes wrong.

A step is what changes the disk under one folder: opening a file to write, fsync, rename, delete,
making a folder, cutting a file. Steps are counted from 1 by an audit hook, so that the program
itself knows nothing of it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")


class Steps:
    """Counts the steps under `root` and does `action` at step `at` and all later ones."""

    def __init__(self, root: str, at: int, action: Callable[[str, str], None]) -> None:
        self.root, self.at, self.action = root, at, action
        self.seen: list[str] = []
        self.done = False

    def step(self, kind: str, path: str) -> None:
        if path.startswith(self.root):
            self.seen.append(f"{kind} {path[len(self.root) :]}")
            if 0 < self.at <= len(self.seen):
                self.action(kind, path)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            # A number is a file that is open already: Python makes an object for it.
            if args[2] & _WRITES and not isinstance(args[0], int):
                self.step("open", _text(args[0]))
        elif event in _CHANGES:
            self.step(event.removeprefix("os."), _text(args[0]))


def _text(path: Any) -> str:
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink()) if sys.platform == "linux" else ""
    return os.fsdecode(path)


def kill(kind: str, path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int, kinds: tuple[str, ...]) -> Callable[[str, str], None]:
    """The system refuses with this error number from now on; deleting goes on working."""

    def fail(kind: str, path: str) -> None:
        if kind in kinds:
            raise OSError(number, os.strerror(number), *([] if kind == "fsync" else [path]))

    return fail


def install(spec: dict[str, Any]) -> Steps:
    """Set the fault: {"root", "at", "how": "kill" or an errno's name}."""
    how = spec["how"]
    full = ("open", "fsync", "mkdir")
    kinds = full if how in ("ENOSPC", "EDQUOT") else (*full, "rename", "truncate")
    action = kill if how == "kill" else failing(getattr(errno, how), kinds)
    steps = Steps(spec["root"], spec["at"], action)
    real = os.fsync

    def fsync(handle: Any) -> None:
        steps.step("fsync", _text(handle if isinstance(handle, int) else handle.fileno()))
        real(handle)

    os.fsync = fsync
    sys.addaudithook(steps.hook)
    return steps


def main() -> None:
    from m2m.cli.main import main as m2m

    spec = json.loads(sys.argv.pop(1))
    steps = install(spec)
    try:
        m2m()
    finally:
        if "log" in spec:
            steps.at = 0
            Path(spec["log"]).write_text("\n".join(steps.seen), encoding="utf-8")


if __name__ == "__main__":
    main()
