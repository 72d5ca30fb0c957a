"""Say whether m2m can ask a task of lm-evaluation-harness, without its rows; if not, why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.errors import InputError, M2MError
from m2m.evaluate.task_catalogue import Entry
from m2m.evaluate.task_config import Config, read_config
from m2m.evaluate.task_data import LOADERS, TaskData
from m2m.evaluate.task_files import TaskFiles
from m2m.evaluate.task_functions import Known, TaskFunctions
from m2m.evaluate.task_sets import folder_of
from m2m.formats.yaml import Tagged

_MODULES = 8  # a task may have 16


class TaskCheck:
    """Checks tasks of one folder; a function that many tasks name is read once.

    Args:
        roots: folders in which the tasks' files and data may be.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._functions: dict[tuple[Path, str, str], M2MError | None] = {}
        self._folders: dict[str, Path | None] = {}
        self._readers: dict[Path, TaskFunctions] = {}  # of the modules of each folder
        self._known: Known = {}  # many folders have modules of the same text

    def refusal(self, path: Path, keys: Mapping[str, Any]) -> M2MError | None:
        """Return the error that loading a task would end in, whatever its rows are; or None."""
        try:
            files = TaskFiles(path, self._roots)
            config = read_config(path, keys)
            TaskData(files, config.keys, self._roots)
            for key, mark in _marks(config):
                self._read(files, key, mark)
        except M2MError as error:
            return error
        return None

    def _read(self, files: TaskFiles, key: str, mark: Tagged) -> None:
        known = (Path(mark.source).parent, mark.text, key)
        if known not in self._functions:
            readers = self._readers.get(known[0])
            if readers is None or len(readers.marks()) > _MODULES:
                readers = self._readers[known[0]] = TaskFunctions(files, self._known)
            try:
                readers.function(mark, key)
                self._functions[known] = None
            except M2MError as error:
                self._functions[known] = error
        if refused := self._functions[known]:
            raise refused

    def data(self, entry: Entry) -> str:
        """Return whether a task's data is "here" or "missing"; "" if it names none."""
        name = entry.keys.get("dataset_path")
        if not isinstance(name, str) or entry.path is None:
            return ""
        try:
            if name in LOADERS:
                data = TaskData(TaskFiles(entry.path, self._roots), entry.keys, self._roots)
                splits = [entry.keys.get(key) for key in ("test_split", "validation_split")]
                files = data.files(next(str(split) for split in splits if split))
                return "here" if all(file.exists() for file in files) else "missing"
            return "here" if self._folder(entry.path, name) else "missing"
        except (InputError, StopIteration):
            return "missing"

    def fetch(self, entry: Entry) -> str:
        """Return how to get a task's data if it is a set of the hub that is missing, or ""."""
        name = entry.keys.get("dataset_path")
        if entry.path is None or name in LOADERS or self.data(entry) != "missing":
            return ""
        try:
            folder_of(entry.path, str(name), self._roots)
        except InputError as error:
            return error.hint or ""
        return ""

    def _folder(self, path: Path, name: str) -> Path | None:
        if name not in self._folders:
            try:
                self._folders[name] = folder_of(path, name, self._roots) if self._roots else None
            except InputError:
                self._folders[name] = None
        return self._folders[name]


def _marks(config: Config) -> list[tuple[str, Tagged]]:
    """Return the functions that a task needs, with their keys."""
    shown = config.keys.get("fewshot_config") or {}
    marks = [(key, config.keys.get(key)) for key in ("process_docs", "process_results")]
    if config.shots:
        marks.append(("process_docs", shown.get("process_docs")))
    for side in [config.asked, *([config.solved] if config.shots else [])]:
        marks += [("doc_to_text", side.text), ("doc_to_target", side.target)]
        marks += [("doc_to_choice", side.choice)]
    return [(key, mark) for key, mark in marks if isinstance(mark, Tagged)]
