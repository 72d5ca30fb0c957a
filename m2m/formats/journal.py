"""An append-only file of JSON lines; an appended entry survives a kill directly afterwards.

A kill during an append leaves a last line without its end. After a power cut, some file systems
keep its length but not all its bytes, and zeros are read instead. The next replay drops such a last
line, and the next append cuts it off. Any other malformed line is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.escaping import escape_json
from m2m.formats.disk import make_folder, refused, sync_folder
from m2m.opening import open_to_append, read_bytes, refuse_many


def as_line(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as the bytes of its line."""
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


class Journal:
    """A journal file; it does not have to exist yet.

    Only one process may append at a time (the lock of the run's folder makes sure of this).

    Attributes:
        path: the file's path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = -1  # bytes after this object's last append; if it differs, check the end

    def replay(self) -> list[dict[str, Any]]:
        """Return all entries in order; none if the file does not exist.

        Raises:
            InputError: a finished line is not a JSON object; names the line.
        """
        return [entry for _, entry in self.lines()]

    def lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the entries of `replay`, each with its file and line as "PATH:LINE"."""
        whole, _ = self._split()
        start, number = 0, 0
        while start < len(whole):
            end, number = whole.index(b"\n", start), number + 1
            yield f"{self.path}:{number}", self._entry(whole[start:end], number)
            start = end + 1

    def whole(self) -> bytes:
        """Return the bytes of all finished lines, malformed ones too."""
        return self._split()[0]

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry and wait until it is on the disk.

        Raises:
            InputError: the folder cannot be written to.
            ResourceError: the disk refuses; earlier entries stay readable.
        """
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = escape_json(text).encode("utf-8") + b"\n"
        try:
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            with open_to_append(self.path) as file:
                self._cut_torn_line(file.fileno())
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                self._size = os.fstat(file.fileno()).st_size
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise refused(self.path, error, len(line)) from error

    def _split(self) -> tuple[bytes, bytes]:
        """Return the finished lines, and the rest: an unfinished last line."""
        try:
            data = read_bytes(self.path, growing=True)  # another machine may be appending to it
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return b"", b""
            raise
        end = data.rfind(b"\n") + 1
        last = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
        if b"\0" in data[last:end]:  # JSON holds no zero byte
            end = last
        return data[:end], data[end:]

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        refuse_many(f"{self.path}:{number}", line)
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            fault = "nested too deeply" if isinstance(error, RecursionError) else error
            raise InputError(
                f"{self.path}:{number}: malformed journal line: {fault}",
                "restore the file from a copy, or move it away to start over",
            ) from error
        if not isinstance(entry, dict):
            raise InputError(f"{self.path}:{number}: found {entry!r:.40}, expected a JSON object")
        return entry

    def _cut_torn_line(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size in (0, self._size):
            return
        end = len(self._split()[0])
        if end < size:
            os.ftruncate(descriptor, end)
