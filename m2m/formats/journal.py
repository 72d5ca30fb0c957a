"""An append-only file of JSON lines: what was appended survives a kill right after.

A kill during an append leaves a last line without its end. It is dropped at the next replay and
cut off before the next append; any other malformed line is an error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from m2m.errors import InputError, ResourceError


class Journal:
    """A journal file, which need not exist yet.

    Only one process may append at a time (the run's folder lock sees to that).

    Attributes:
        path: where it lies.
        torn: whether the last replay dropped an unfinished last line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = False

    def replay(self) -> list[dict[str, Any]]:
        """All entries in order; none where the file does not exist.

        Raises:
            InputError: a finished line is no JSON object; names the line.
        """
        whole, rest = self._split()
        self.torn = bool(rest)
        lines = whole.split(b"\n")[:-1]
        return [self._entry(line, number) for number, line in enumerate(lines, 1)]

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry and wait until it is on the disk.

        Raises:
            ResourceError: the disk refuses; what was there before stays readable.
        """
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("a+b") as file:
                self._cut_torn_line(file.fileno())
                file.write(text.encode("utf-8") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceError(
                f"cannot append to {self.path}: {error.strerror or error}",
                f"make room under `{self.path.parent}` and run the same command again",
            ) from error

    def _split(self) -> tuple[bytes, bytes]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return b"", b""
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        end = data.rfind(b"\n") + 1
        return data[:end], data[end:]

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path}:{number}: malformed journal line: {error}",
                "restore the file from a copy, or move it away to start over",
            ) from error
        if not isinstance(entry, dict):
            raise InputError(f"{self.path}:{number}: found {entry!r:.40}, expected a JSON object")
        return entry

    def _cut_torn_line(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size == 0 or _last_byte(self.path) == b"\n":
            return
        os.ftruncate(descriptor, len(self._split()[0]))


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
