"""Data files that a task file's modules read while they are loaded: the parent gives their texts.

Only the child process imports this module. A path is a text in it, and reaches no disk.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from m2m.templates.plain_values import LIBRARY, Module, NotUnderstood, Offering, member


class File(Offering):
    """An open data file."""

    offered = frozenset({"read", "readlines"})

    def __init__(self, text: str) -> None:
        self._text = io.StringIO(text, newline=None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._text)

    def read(self) -> str:
        """Return the rest of the text."""
        return self._text.read()

    def readlines(self) -> list[str]:
        """Return the rest of the lines."""
        return self._text.readlines()


class Place(Offering):
    """A path below the folder that has the module's folder in it.

    Args:
        files: the texts of the data files by path.
        path: in that folder.
    """

    offered = frozenset(
        {"absolute", "joinpath", "name", "open", "parent", "read_text", "resolve", "stem"}
    )

    def __init__(self, files: Mapping[str, str], path: Any) -> None:
        self._files = files
        given = path._path if isinstance(path, Place) else PurePosixPath(_checked(path))
        self._path: PurePosixPath = given
        self.name, self.stem = self._path.name, self._path.stem

    def __truediv__(self, other: Any) -> Place:
        return self.joinpath(other)

    def joinpath(self, *others: Any) -> Place:
        """Return a path below this one."""
        return Place(self._files, str(self._path.joinpath(*map(_checked, others))))

    @property
    def parent(self) -> Place:
        """Return the folder of this path.

        Raises:
            NotUnderstood: it is above the one that has the module's folder in it.
        """
        if not self._path.parts:
            raise NotUnderstood("folders above a task's own")
        return Place(self._files, str(self._path.parent))

    def resolve(self) -> Place:
        """Return the path itself: it has no links."""
        return self

    absolute = resolve

    def open(self, mode: str = "r", encoding: str | None = None) -> File:
        """Return the file, open for reading as UTF-8."""
        if mode not in ("r", "rt"):
            raise NotUnderstood(f"a file that is opened with {mode!r:.10}")
        return File(self.text(encoding))

    def text(self, encoding: str | None = None) -> str:
        """Return the text of the file.

        Raises:
            NotUnderstood: the parent has not given it.
        """
        if (encoding or "utf-8").lower() not in ("utf-8", "utf8"):
            raise NotUnderstood(f"the encoding {encoding!r:.20}")
        if str(self._path) not in self._files:
            raise NotUnderstood(f"the file {str(self._path)!r:.80} is not here")
        return self._files[str(self._path)]

    read_text = text


def _checked(part: Any) -> str:
    if not isinstance(part, str) or part.startswith(("/", "\\")) or ".." in part or ":" in part:
        raise NotUnderstood(f"the path {part!r:.60}")
    return part


def _load(file: Any) -> Any:
    if not isinstance(file, File):
        raise NotUnderstood("`json.load` of other than a file")
    return json.loads(file.read())


def reading(files: Mapping[str, str]) -> dict[str, Any]:
    """Return the parts of the library that read these files, and `open`."""

    def place(path: Any = ".") -> Place:
        return Place(files, path)

    def opened(path: Any, *how: Any, **named: Any) -> Any:
        return member(place(path), "open")(*how, **named)

    known = {"json": Module(**LIBRARY["json"].names, load=_load), "pathlib": Module(Path=place)}
    return {**known, "open": opened}
