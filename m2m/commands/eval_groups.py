"""Groups of tasks in `m2m eval`: load their tasks, and compute their numbers for each model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.errors import InputError, Problems
from m2m.evaluate.harness import SUFFIXES
from m2m.evaluate.score import Score
from m2m.evaluate.task_groups import Group, Member, aggregated, read_group
from m2m.evaluate.tasks import Task

if TYPE_CHECKING:
    from m2m.commands.eval import Evaluated


@dataclass(frozen=True)
class GroupResult:
    """One model's numbers on a group of tasks.

    Attributes:
        model: as the user named it.
        group: the group.
        values: see `aggregated`.
    """

    model: str
    group: Group
    values: Mapping[str, Any]

    @property
    def metrics(self) -> dict[str, Score]:
        """Return the numbers by the harness's names, "acc,none"."""
        made = {}
        for key in self.values.get("sample_count", ()):
            name, _, after = key.rpartition(",")
            error = self.values[f"{name}_stderr,{after}"]
            made[key] = Score(self.values[key], math.nan if error == "N/A" else error)
        return made

    def as_json(self) -> dict[str, Any]:
        """Return one of the `groups` of `m2m eval --json`."""
        return {
            "model": self.model,
            "group": self.group.name,
            "tasks": [task.name for task in self.group.tasks],
            "examples": self.values.get("sample_len"),
            "metrics": {key: score.as_json() for key, score in self.metrics.items()},
        }


def load_with_groups(
    paths: Sequence[Path], roots: Sequence[Path], load: Callable[[Path | Member], Task]
) -> tuple[list[Task], list[Group]]:
    """Load files, and in place of a file that is a group all of its tasks.

    Args:
        paths: files of rows, tasks and groups.
        roots: folders in which the names of a group are looked for.
        load: loads a file, or a task of a group.

    Raises:
        InputError: a task cannot be loaded; of a group all such tasks are named. Or two tasks of
            groups have the same name.
    """
    tasks, groups, known = list[Task](), list[Group](), dict[str, Member]()
    for path in paths:
        group = read_group(path, roots) if path.suffix.lower() in SUFFIXES else None
        if group is None:
            tasks.append(load(path))
            continue
        problems, hints = Problems(), list[str]()
        for member in group.tasks:
            if known.get(member.name) == member:  # a task of two groups is scored once
                continue
            known[member.name] = member
            try:
                tasks.append(load(member))
            except InputError as error:
                problems.add(f"{member.name}: {error.message}")
                hints.append(error.hint or "")
        hint = next(filter(None, hints), "") or "leave these tasks out in a group file of your own"
        problems.raise_if_any(InputError, f"{path}: the group {group.name}", hint)
        groups += group.groups
    if groups:  # whose numbers are computed by name
        refuse_same_names([task for task in tasks if task.harness])
    return tasks, groups


def refuse_same_names(tasks: Sequence[Task]) -> None:
    """Refuse two tasks with one name, before they are scored.

    Raises:
        InputError: names both files.
    """
    paths = dict[str, Path]()
    for task in tasks:
        if task.name in paths:
            raise InputError(
                f"two of the tasks are called {task.name!r:.60}: {paths[task.name]}, {task.path}",
                "leave one out, or give one of the files another name, or another `task:` in it",
            )
        paths[task.name] = task.path


def group_results(groups: Sequence[Group], results: Sequence[Evaluated]) -> list[GroupResult]:
    """Return the numbers of all groups, for each model."""
    made = list[GroupResult]()
    if not groups:  # else errors would be computed for nothing
        return made
    for model in dict.fromkeys(result.model for result in results):
        own = [result for result in results if result.model == model]
        table = {result.task.name: row_of(result) for result in own if result.task.harness}
        made += [GroupResult(model, group, aggregated(group, table)) for group in groups]
    return made


def row_of(result: Evaluated) -> dict[str, Any]:
    """Return a task's numbers as the harness's results have them.

    Its standard errors count equal questions as different ones.
    """
    row: dict[str, Any] = {"sample_len": len(result.scores)}
    for each in result.reported:
        error = each.score.stderr
        if each.scores.same:
            error = each.metric.stderr(replace(each.scores, same=()))
        row[each.key] = each.score.value
        row[f"{each.name}_stderr,{each.filter}"] = error if math.isfinite(error) else "N/A"
    return row
