"""Groups of tasks of lm-evaluation-harness: their members, and the numbers of a whole group.

See lm_eval/tasks/_factory.py for the members, and lm_eval/api/group.py and lm_eval/api/metrics.py
for the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.task_catalogue import Catalogue, Entry
from m2m.evaluate.task_files import TaskFiles, names

# The keys of a group itself; all others are keys of its tasks.
_OWN = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
_AGGREGATE = {"metric", "filter_list", "aggregation", "weight_by_size"}
_MOST_TASKS = 5000  # afrobench_lite has more than 1000
_DEEPEST = 16  # groups in groups


@dataclass(frozen=True)
class Member:
    """A task of a group.

    Attributes:
        name: of the task, as in results.
        path: the file that defines it.
        changes: keys that the group sets, over those of the file.
        alone: the changes are all keys of the task, and the file is the group's.
    """

    name: str
    path: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


@dataclass(frozen=True)
class Aggregate:
    """One of a group's numbers.

    Attributes:
        metric: of its tasks.
        filters: names of the lists of filters that count; None: all that there are.
        by_size: a task counts by its number of examples, not once.
    """

    metric: str
    filters: tuple[str, ...] | None = None
    by_size: bool = True


@dataclass(frozen=True)
class Group:
    """Tasks that are reported together.

    Attributes:
        name: of the group.
        alias: its name in tables.
        members: tasks and groups, in order.
        aggregates: its numbers.
        version: of its metadata, as a text; "N/A" if it has none.
    """

    name: str
    alias: str
    members: tuple[Member | Group, ...]
    aggregates: tuple[Aggregate, ...] = ()
    version: str = "N/A"

    @property
    def tasks(self) -> list[Member]:
        """Return all tasks in it and in its groups."""
        inner = ([m] if isinstance(m, Member) else m.tasks for m in self.members)
        return [task for tasks in inner for task in tasks]

    @property
    def groups(self) -> list[Group]:
        """Return the group itself and all groups in it."""
        inner = (m.groups for m in self.members if isinstance(m, Group))
        return [self, *(group for groups in inner for group in groups)]


def read_group(
    path: Path, roots: Sequence[Path] = (), known: Sequence[Catalogue] = ()
) -> Group | None:
    """Return the group that a task file defines; None if the file defines a task.

    Args:
        path: the file.
        roots: folders in which names are looked for, after the file's own folder.
        known: folders that were read already; their names go first.

    Raises:
        InputError: the file cannot be read, or a name of it is not found.
    """
    keys = TaskFiles(path, roots).config()
    if "group" not in keys or "class" in keys:
        return None
    if not isinstance(keys["group"], str):
        raise InputError(f"{path}: group is {keys['group']!r:.60}, expected a name", "correct it")
    group = _Builder(path, roots, known).group(keys["group"], path, keys, {}, 0)
    if not group.tasks:
        raise InputError(f"{path}: the group {group.name!r:.60} has no tasks", "name some: `task:`")
    return group


class _Builder:
    """Builds a group; reads the names of a folder if a member needs them."""

    def __init__(self, path: Path, roots: Sequence[Path], known: Sequence[Catalogue]) -> None:
        self._path, self._roots, self._known = path, roots, list(known)
        read = [catalogue.folder for catalogue in known]
        folders = dict.fromkeys([path.parent, *roots])
        self._unread = [f for f in folders if not any(f.is_relative_to(k) for k in read)]
        self._tasks = 0

    def group(
        self, name: str, path: Path, keys: Mapping[str, Any], changes: Mapping[str, Any], depth: int
    ) -> Group:
        """Return a group (`_build_group`).

        Args:
            name: of the group.
            path: of its file.
            keys: of the file, or of the group in another group.
            changes: keys that the groups around it set for its tasks.
            depth: number of groups around it.
        """
        if depth > _DEEPEST:
            raise InputError(
                f"{path}: groups are in groups more than {_DEEPEST} deep", "correct `task`"
            )
        own = {key: value for key, value in keys.items() if key not in _OWN}
        given = keys.get("task")
        members: dict[str, Member | Group] = {}  # of two with one name the last one counts
        for item in given if isinstance(given, list) else ():
            for member in self._members(name, path, item, {**own, **changes}, depth):
                members[member.name] = member
        alias = keys.get("group_alias")
        aggregates = tuple(aggregates_of(path, keys.get("aggregate_metric_list")))
        about = keys.get("metadata")
        version = str(about.get("version", "N/A")) if isinstance(about, Mapping) else "N/A"
        return Group(name, str(alias or name), tuple(members.values()), aggregates, version)

    def _members(
        self, group: str, path: Path, item: Any, changes: Mapping[str, Any], depth: int
    ) -> Iterator[Member | Group]:
        """Yield the members that an item of `task` means (`_build_group_members`)."""
        if isinstance(item, str):
            name, own = item, dict(changes)
        elif isinstance(item, Mapping) and isinstance(item.get("group"), str):
            yield self._inner_group(group, path, item, changes, depth)
            return
        elif isinstance(item, Mapping) and isinstance(item.get("task"), str):
            name, own = item["task"], {**changes, **item}
        else:
            raise InputError(
                f"{path}: the group {group!r:.60} has {item!r:.60}, which names no task",
                "write `task: NAME` in it",
            )
        entry = self._entry(name)
        if entry is None:
            yield self._inline(group, path, name, own)
        elif entry.kind == "group" and entry.path:
            yield self.group(entry.name, entry.path, self._keys(entry.path), own, depth + 1)
        else:
            for inner in entry.members or (name,):
                yield self._task(inner, own)

    def _inner_group(
        self,
        group: str,
        path: Path,
        item: Mapping[str, Any],
        changes: Mapping[str, Any],
        depth: int,
    ) -> Group:
        entry = self._entry(item["group"])
        if entry is None or entry.path is None:
            return self.group(f"{group}::{item['group']}", path, item, changes, depth + 1)
        if "task" in item:
            raise InputError(
                f"{path}: {item['group']!r:.60} is a group of {entry.path}, and `task` is set here",
                "leave `task` out, or give the group another name",
            )
        own = {**changes, **{key: value for key, value in item.items() if key != "group"}}
        return self.group(entry.name, entry.path, self._keys(entry.path), own, depth + 1)

    def _inline(self, group: str, path: Path, name: str, own: Mapping[str, Any]) -> Member:
        """Return a task that a group itself defines."""
        if "dataset_path" in own:
            own = {**own, "task": f"{group}::{name}"}
            return self._counted(Member(own["task"], path, own, alone=True))
        places = ", ".join(str(catalogue.folder) for catalogue in self._known)
        raise InputError(
            f"{self._path}: there is no task, group or tag called {name!r:.80} in {places}",
            "give the folder with its file: `--data-root FOLDER`",
        )

    def _task(self, name: str, own: Mapping[str, Any]) -> Member:
        entry = self._entry(name)
        if entry is None or entry.path is None:
            raise InputError(f"{self._path}: there is no task called {name!r:.80}", "correct it")
        return self._counted(Member(name, entry.path, {**own, "task": name}))

    def _counted(self, member: Member) -> Member:
        self._tasks += 1
        if self._tasks > _MOST_TASKS:
            raise InputError(
                f"{self._path}: the group has more than {_MOST_TASKS} tasks",
                "give the groups in it one by one",
            )
        return member

    def _keys(self, path: Path) -> dict[str, Any]:
        return TaskFiles(path, self._roots).config()

    def _entry(self, name: str) -> Entry | None:
        """Return the entry of a name; a folder is read only if those before do not have it."""
        for catalogue in self._known:
            if entry := catalogue.get(name):
                return entry
        while self._unread:
            self._known.append(Catalogue(self._unread.pop(0), self._roots, empty=True))
            if entry := self._known[-1].get(name):
                return entry
        return None


def aggregates_of(path: Path, given: Any) -> Iterator[Aggregate]:
    """Yield a group's numbers (`AggMetricConfig`)."""
    for item in given if isinstance(given, list) else [given] if given else ():
        if not isinstance(item, Mapping) or not isinstance(item.get("metric"), str):
            raise InputError(f"{path}: aggregate_metric_list has {item!r:.60}", "name a `metric`")
        others = sorted(str(key) for key in item.keys() - _AGGREGATE)
        if others or item.get("aggregation", "mean") != "mean":
            wrong = others or [f"aggregation: {item['aggregation']!s:.40}"]
            raise InputError(
                f"{path}: aggregate_metric_list has {', '.join(wrong)}",
                "the harness knows metric, filter_list, weight_by_size and `aggregation: mean`",
            )
        filters = item.get("filter_list")
        chosen = None if filters is None else tuple(names(filters, "filter_list", path))
        yield Aggregate(item["metric"], chosen, bool(item.get("weight_by_size", True)))


def aggregated(group: Group, table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a group's numbers from its tasks' (`Group.aggregate`).

    Args:
        group: the group.
        table: by task, "METRIC,FILTER", "METRIC_stderr,FILTER" and "sample_len", as in the
            harness's results. A task may be missing.

    Returns:
        The same keys for the group, with "alias" and "name", and "sample_count" for each metric.
    """
    made: dict[str, Any] = {"alias": group.alias, "name": group.name}
    if not group.aggregates:
        return made
    rows = [table[task.name] for task in group.tasks if task.name in table]
    made["sample_len"] = sum(row.get("sample_len", 0) for row in rows)
    counts: dict[str, int] = {}
    for asked in group.aggregates:
        for name in _filters(asked, rows):
            key, error = f"{asked.metric},{name}", f"{asked.metric}_stderr,{name}"
            having = [row for row in rows if key in row]
            if not having:
                continue
            sizes = [row.get("sample_len", 0) for row in having]
            weights = sizes if asked.by_size else [1] * len(having)
            values = [row[key] for row in having]
            made[key] = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
            made[error] = _error([row.get(error) for row in having], sizes, by_size=asked.by_size)
            counts[key] = sum(sizes)
    return made | ({"sample_count": counts} if counts else {})


def _filters(asked: Aggregate, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    if asked.filters is not None:
        return asked.filters
    start = f"{asked.metric},"
    return sorted({key.removeprefix(start) for row in rows for key in row if key.startswith(start)})


def _error(errors: Sequence[Any], sizes: Sequence[int], *, by_size: bool) -> Any:
    """Return the standard error of a mean over tasks; "N/A" if a task has none.

    By size it is that of all examples together (`pooled_sample_stderr`), otherwise that of the mean
    of independent means (`unweighted_mean_stderr`).
    """
    if not all(isinstance(error, int | float) for error in errors):
        return "N/A"
    if not by_size:
        return math.sqrt(sum(error**2 for error in errors)) / len(errors)
    free = sum(sizes) - len(sizes)
    if free <= 0:
        return "N/A"
    pairs = zip(sizes, errors, strict=True)
    return math.sqrt(sum((n - 1) * error**2 * n for n, error in pairs) / free / sum(sizes))
