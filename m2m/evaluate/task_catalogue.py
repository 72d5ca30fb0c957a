"""Index a folder of task files of lm-evaluation-harness: its tasks, groups and tags by name.

See lm_eval/tasks/_index.py: the first file, in the order of paths, has a name; `class` marks a
program, then `group` a group, then `task` a task; a tag is the set of its tasks.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m2m.errors import InputError
from m2m.evaluate.task_files import names
from m2m.formats.yaml import LARGEST, parse_yaml_quickly
from m2m.opening import read_once, refuse_outside
from m2m.progress import Progress, Silent

Kind = Literal["task", "group", "tag", "program"]
_OTHERS = {"__pycache__", ".ipynb_checkpoints"}
_MOST_FILES = 100_000
_INSTALLED = 'python -c "import lm_eval; print(lm_eval.__path__[0])"'


@dataclass(frozen=True)
class Entry:
    """A name that task files give.

    Attributes:
        name: of the task, group or tag.
        kind: of the name.
        path: the file that gives it; None for a tag.
        keys: of the file, after its includes; null counts as a value.
        tags: of a task or group.
        members: the tasks of a tag, by name.
    """

    name: str
    kind: Kind
    path: Path | None
    keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tags: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


def folder_of_tasks(given: Path | None) -> Path:
    """Return the folder of task files that a user means.

    Args:
        given: the folder, or one in which lm-eval is installed; None: that of this Python.

    Raises:
        InputError: there is none.
    """
    if given is None:
        spec = importlib.util.find_spec("lm_eval")
        places = spec.submodule_search_locations if spec else None
        if not places:
            raise InputError(
                "lm-evaluation-harness is not installed for this Python, so a folder is needed",
                f"give a folder of task files; `{_INSTALLED}` prints that of an installed one",
            )
        given = Path(next(iter(places)))
    for inner in ("lm_eval/tasks", "tasks"):
        if (given / inner / "__init__.py").is_file():
            return given / inner
    if not given.is_dir():
        raise InputError(f"{given}: is no folder", "give a folder of task files (.yaml)")
    return given


class Catalogue:
    """The names in a folder of task files.

    Args:
        folder: with task files in it and below it.
        roots: other folders that the files may include from.
        progress: shows a bar, since a folder may have thousands of files.
        empty: whether the folder may be without task files.

    Raises:
        InputError: the folder has none, or too many.
    """

    def __init__(
        self,
        folder: Path,
        roots: Sequence[Path] = (),
        progress: Progress | None = None,
        *,
        empty: bool = False,
    ) -> None:
        self.folder = folder
        self._roots = roots
        self._read: dict[str, dict[str, Any] | None] = {}  # None: it is being read
        self._entries: dict[str, Entry] = {}
        self.unreadable: dict[Path, InputError] = {}
        progress = progress or Silent()
        files = sorted(_task_files(folder), key=Path.as_posix)
        self._listed = set(map(_place, files))
        if not files and not empty:
            raise InputError(f"{folder}: has no task files (.yaml)", "give another folder")
        progress.start("reading", max(len(files), 1), "task files")
        for number, path in enumerate(files, start=1):
            try:
                self._add(path, self._keys(path))
            except InputError as error:
                self.unreadable[path] = error
            if number % 100 == 0:
                progress.advance(100)
        progress.finish()

    def __iter__(self) -> Iterator[Entry]:
        """Yield all entries, by name."""
        return iter(entry for _, entry in sorted(self._entries.items()))

    def get(self, name: str) -> Entry | None:
        """Return the entry of a name."""
        return self._entries.get(name)

    def _add(self, path: Path, keys: Mapping[str, Any]) -> None:
        kind = next((k for k in ("class", "group", "task") if k in keys), None)
        if kind is None:  # a part that other files include
            return
        name = keys["group"] if kind == "group" else keys.get("task")
        if not isinstance(name, str) or name in self._entries:
            return
        given = keys.get("tag") or []
        tags = tuple(names(given, "tag", path)) if kind != "class" or given else ()
        meant: Kind = "program" if kind == "class" else "group" if kind == "group" else "task"
        self._entries[name] = Entry(name, meant, path, keys, tags)
        for tag in tags if kind != "group" else ():
            known = self._entries.get(tag) or Entry(tag, "tag", None)
            if known.kind == "tag":
                members = tuple(sorted({*known.members, name}))
                self._entries[tag] = Entry(tag, "tag", None, members=members)

    def _keys(self, path: Path) -> dict[str, Any]:
        """Return a file's keys over those of the files that it includes (`load_yaml`)."""
        place = _place(path)
        if place in self._read:
            if (known := self._read[place]) is None:
                raise InputError(f"{path}: includes itself", "leave one `include` out")
            return known
        if place not in self._listed or path.is_symlink():
            refuse_outside(path, self.folder, self._roots)  # slow, so not for files of the folder
        self._read[place] = None
        try:
            self._read[place] = merged = self._merged(path)
        except InputError:
            del self._read[place]
            raise
        return merged

    def _merged(self, path: Path) -> dict[str, Any]:
        keys = parse_yaml_quickly(read_once(path, LARGEST).text, str(path))
        if not isinstance(keys, dict):
            raise InputError(f"{path}: has no keys and values", "correct the file")
        merged: dict[str, Any] = {}
        for name in names(keys.pop("include", None) or [], "include", path):
            merged |= self._keys(path.parent / name)
        merged.pop("task_list", None)
        return merged | keys


def _place(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 ("..", without symlinks: `resolve` is slow)


def _task_files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for place, folders, found in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHERS]
        files += [Path(place, name) for name in found if name.endswith(".yaml")]
        if len(files) > _MOST_FILES:
            raise InputError(f"{folder}: has more than {_MOST_FILES:,} task files", "give a part")
    return files


@dataclass(frozen=True)
class Filter:
    """Which entries of a catalogue a user wants to see.

    Attributes:
        patterns: of names, as a shell has them: `afrixnli*`; any one fits.
        tags: that a task has, or of groups that name it; any one fits.
        languages: codes that are words of a task's name or of its configuration's name.
        kinds: of entries.
    """

    patterns: Sequence[str] = ()
    tags: Sequence[str] = ()
    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()

    def fits(self, entry: Entry) -> bool:
        """Return whether an entry is one of these."""
        about = f"{entry.name} {entry.keys.get('dataset_name') or ''}".lower()
        words = set(re.split(r"[^a-z0-9]+", about))
        return (
            (not self.kinds or entry.kind in self.kinds)
            and (not self.tags or any(tag in (entry.name, *entry.tags) for tag in self.tags))
            and (not self.languages or any(code.lower() in words for code in self.languages))
            and (
                not self.patterns
                or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in self.patterns)
            )
        )
