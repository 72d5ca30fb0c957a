"""The lines of a recipe for the tasks of a group, since a target is one task."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from m2m.counted import counted
from m2m.errors import InputError
from m2m.evaluate.harness import Side, load_harness
from m2m.evaluate.task_groups import Group, Member, read_group
from m2m.recipe import Target
from m2m.recipe.new_recipe import toml_value

_MOST = 12  # tasks whose lines are shown
_NAMED = ("name", "dev", "test", "weight", "dev_aligned")


def group_refused(target: Target, path: Path, part: Side, roots: Sequence[Path]) -> InputError:
    """Return the error for a group that is given as a target, with the lines to write for it.

    The mean over several targets is weighted, so it can be the group's own number.

    Args:
        target: all that it sets is set for each task.
        path: the group's file.
        part: whose examples are counted.
        roots: folders in which the names of the group are looked for.

    Raises:
        InputError: a name of the group is not found.
    """
    group = read_group(path, roots)
    if group is None:
        raise ValueError(f"{path} is no group")
    tasks = group.tasks
    by_size = bool(group.aggregates) and all(number.by_size for number in group.aggregates)
    own = _own_lines(target)
    shown = []
    for member in tasks[:_MOST]:
        lines = [*_lines(member, both=target.test is not None), *own]
        shown += [*lines, *(_weight(member, part, roots) if by_size else [])]
    if more := len(tasks) - len(shown):
        shown.append(f"# and so on for {more} more: {', '.join(t.name for t in tasks[_MOST:])}")
    return InputError(
        f"{path}: is the group {group.name!r:.60} of {counted(len(tasks), 'task')}, and a target "
        "is one task",
        "write these lines in its place, with paths from the recipe's folder"
        f"{_weights(group, by_size=by_size)}:\n" + "\n".join(shown),
    )


def _weights(group: Group, *, by_size: bool) -> str:
    if not group.aggregates:
        return ""
    how = "each task counts by its examples" if by_size else "each task counts once"
    return f" (as in the group, {how})"


def _lines(member: Member, *, both: bool) -> list[str]:
    """Return the lines that name one task: as `dev`, and as `test` if both are asked for."""
    name = re.sub(r"[^\w.-]", "-", member.name)
    file, about = os.path.relpath(member.path), ""
    changed = [key for key in member.changes if key != "task"]
    if member.alone or changed:
        file = f"own-{name}.yaml"
        about = f"  # a file of yours with the keys of the group: {', '.join(changed)}"
        if not member.alone:
            about += f", and `include: {member.path.name}`"
    lines = ["[[targets]]", f'name = "{name}"', f"dev = {toml_value(file)}{about}"]
    return [*lines, *([f"test = {toml_value(file)}"] if both else [])]


def _own_lines(target: Target) -> list[str]:
    """Return the lines of all other fields that the recipe sets."""
    lines = []
    for field in dataclasses.fields(target):
        value = getattr(target, field.name)
        if field.name in _NAMED or value == field.default:
            continue
        value = Path(os.path.relpath(value)) if isinstance(value, Path) else value
        lines.append(f"{field.name} = {toml_value(value)}")
    return lines


def _weight(member: Member, part: Side, roots: Sequence[Path]) -> list[str]:
    with suppress(InputError):  # its data is not here
        return [f"weight = {len(load_harness(member, part, 0, roots).examples)}"]
    return []
