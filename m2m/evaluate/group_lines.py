"""The lines of a recipe for the tasks of a group, since a target is one task."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from m2m.counted import counted
from m2m.errors import InputError
from m2m.evaluate.harness import Part, load_harness
from m2m.evaluate.task_groups import Group, Member, read_group

_MOST = 12  # tasks whose lines are shown


def group_refused(path: Path, part: Part, roots: Sequence[Path]) -> InputError:
    """Return the error for a group that is given as a target, with the lines to write for it.

    The mean over several targets is weighted, so it can be the group's own number.

    Args:
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
    shown = [_lines(member, part, roots, by_size=by_size) for member in tasks[:_MOST]]
    if more := len(tasks) - len(shown):
        shown.append(f"# and so on for {more} more: {', '.join(t.name for t in tasks[_MOST:])}")
    return InputError(
        f"{path}: is the group {group.name!r:.60} of {counted(len(tasks), 'task')}, and a target "
        "is one task",
        f"write these lines in its place{_weights(group, by_size=by_size)}:\n" + "\n".join(shown),
    )


def _weights(group: Group, *, by_size: bool) -> str:
    if not group.aggregates:
        return ""
    how = "each task counts by its examples" if by_size else "each task counts once"
    return f" (as in the group, {how})"


def _lines(member: Member, part: Part, roots: Sequence[Path], *, by_size: bool) -> str:
    """Return the lines of one task."""
    name = re.sub(r"[^\w.-]", "-", member.name)
    lines = ["[[targets]]", f'name = "{name}"', f'dev = "{os.path.relpath(member.path)}"']
    own = {key: value for key, value in member.changes.items() if key != "task"}
    if member.alone or own:
        given = ", ".join(own)
        lines[2] = f'dev = "own-{name}.yaml"  # a file of yours with the keys of the group: {given}'
        if not member.alone:
            lines[2] += f", and `include: {member.path.name}`"
    if by_size:
        with suppress(InputError):  # its data is not here
            lines.append(f"weight = {len(load_harness(member, part, 0, roots).examples)}")
    return "\n".join(lines)
