"""`m2m tasks`: list the tasks of lm-evaluation-harness in a folder, and explain one of them."""

from __future__ import annotations

import difflib
import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import InputError, M2MError
from m2m.evaluate.task_catalogue import Catalogue, Entry, Filter, folder_of_tasks
from m2m.evaluate.task_check import TaskCheck
from m2m.progress import Progress

_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
_PARTS = re.compile(r"'[^']*'|\"[^\"]*\"|!function [\w./]+|\b\d+")
_COUNT = re.compile(r".*: \d+ problems$")


@dataclass(frozen=True)
class Listed:
    """An entry of a catalogue with m2m's answer to it.

    Attributes:
        entry: a task, group, tag or program.
        check: says whether m2m can ask it.
    """

    entry: Entry
    check: TaskCheck

    @functools.cached_property
    def refusal(self) -> M2MError | None:
        """Return why m2m cannot ask a task; None if it can, and for groups and tags."""
        entry = self.entry
        if entry.kind == "program":
            return InputError("this task is a Python class, which m2m never runs", "choose another")
        if entry.kind != "task" or entry.path is None:
            return None
        return self.check.refusal(entry.path, entry.keys)

    @functools.cached_property
    def reason(self) -> str:
        """Return the refusal in one line, without the file's name; "" if there is none."""
        if self.refusal is None:
            return ""
        lines = self.refusal.message.split("\n")
        lines = [line.strip(" -") for line in lines if not _COUNT.fullmatch(line)]
        text = "; ".join(line for line in lines if line)
        return re.sub(r"^\S*?yaml(:\d+)?:? ", "", text)

    @property
    def remedy(self) -> str:
        """Return what the user can write to go on."""
        return (self.refusal.hint or "") if self.refusal else ""

    def in_full(self) -> dict[str, Any]:
        """Return the fields of `m2m tasks show --json`: with how to get data that is missing."""
        how = self.check.fetch(self.entry)
        return {**self.as_json(), **({"fetch": how} if how else {})}

    @property
    def members(self) -> list[str]:
        """Return the names in a group or a tag."""
        given = self.entry.keys.get("task")
        if self.entry.kind != "group" or not isinstance(given, list):
            return list(self.entry.members)
        inner = (m.get("group", m.get("task")) if isinstance(m, Mapping) else m for m in given)
        return [name if isinstance(name, str) else "(tasks of its own)" for name in inner]

    @property
    def metrics(self) -> list[str]:
        """Return the names in `metric_list`, or in a group's `aggregate_metric_list`."""
        given = self.entry.keys.get("aggregate_metric_list") or self.entry.keys.get("metric_list")
        items = given if isinstance(given, list) else [given]
        return [str(i["metric"]) for i in items if isinstance(i, Mapping) and "metric" in i]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m tasks list --json`."""
        entry, keys = self.entry, self.entry.keys
        about: dict[str, Any] = {"name": entry.name, "kind": entry.kind}
        about["file"] = str(entry.path) if entry.path else None
        if entry.kind in ("group", "tag"):
            return {**about, "members": self.members, "metrics": self.metrics}
        about |= {
            "output_type": keys.get("output_type") or "generate_until",
            "dataset_path": _text(keys.get("dataset_path")),
            "dataset_name": _text(keys.get("dataset_name")),
            "data": self.check.data(entry),
            "splits": {key: _text(keys[key]) for key in _SPLITS if keys.get(key) is not None},
            "num_fewshot": keys.get("num_fewshot"),
            "metrics": self.metrics,
            "tags": list(entry.tags),
            "loads": self.refusal is None,
        }
        return about | ({"reason": self.reason, "remedy": self.remedy} if self.refusal else {})


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True)
class Listing:
    """The entries of a folder that the user asked for.

    Attributes:
        folder: of the task files.
        rows: the entries.
        names: how many there are in all, by kind.
        unreadable: files that are no YAML, with the reasons.
    """

    folder: Path
    rows: Sequence[Listed]
    names: Mapping[str, int]
    unreadable: Mapping[Path, InputError]

    def reasons(self) -> list[tuple[str, int, Listed]]:
        """Return the reasons of the refused tasks, each with its count and first task."""
        first: dict[str, Listed] = {}
        counts: Counter[str] = Counter()
        for row in self.rows:
            if row.refusal:
                reason = _PARTS.sub("…", row.reason)
                first.setdefault(reason, row)
                counts[reason] += 1
        return [(reason, count, first[reason]) for reason, count in counts.most_common()]

    def as_json(self) -> dict[str, Any]:
        """Return the output of `m2m tasks list --json`."""
        return {
            "folder": str(self.folder),
            "names": dict(self.names),
            "tasks": [row.as_json() for row in self.rows],
            "unreadable": {str(path): e.message for path, e in self.unreadable.items()},
        }


def list_tasks(
    folder: Path | None, asked: Filter, roots: Sequence[Path] = (), progress: Progress | None = None
) -> Listing:
    """Return the names in a folder of task files.

    Args:
        folder: see `folder_of_tasks`.
        asked: which of them.
        roots: folders in which the data may be.
        progress: shows a bar.

    Raises:
        InputError: there is no such folder, or it has no task files.
    """
    home = folder_of_tasks(folder)
    catalogue = Catalogue(home, roots, progress)
    check = TaskCheck([*roots, home])
    entries = list(catalogue)
    rows = [Listed(entry, check) for entry in entries if asked.fits(entry)]
    return Listing(home, rows, Counter(entry.kind for entry in entries), catalogue.unreadable)


def show_task(
    name: str, folder: Path | None, roots: Sequence[Path] = (), progress: Progress | None = None
) -> Listed:
    """Return the task, group or tag of a name.

    Raises:
        InputError: there is none; the message has names that are near.
    """
    home = folder_of_tasks(folder)
    catalogue = Catalogue(home, roots, progress)
    entry = catalogue.get(name)
    if entry is None:
        names = [e.name for e in catalogue]
        near = [known for known in names if name.lower() in known.lower()]
        near = near or difflib.get_close_matches(name, names, 5, 0.7)
        hint = f"near are {', '.join(near[:5])}" if near else "`m2m tasks list` shows all names"
        raise InputError(f"{home}: has no task, group or tag called {name!r:.80}", hint)
    return Listed(entry, TaskCheck([*roots, home]))
