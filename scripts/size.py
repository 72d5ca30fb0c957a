#!/usr/bin/env python3
"""Print the lines of code of each room of m2m and of scripts, and fail over their budgets.

Small on purpose: raise a budget only in a commit that says why.
"""

from __future__ import annotations

import sys
from pathlib import Path

BUDGETS = {"m2m": 73_800, "scripts": 9_000}
MODULE = 400


def problems(root: Path, budget: int) -> list[str]:
    """Print the sizes of one folder's rooms; return sentences about what is too long."""
    lines = {
        path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(root.rglob("*.py"))
    }
    rooms: dict[str, int] = {}
    for path, count in lines.items():
        rooms[path.parts[0]] = rooms.get(path.parts[0], 0) + count
    for room, count in rooms.items():
        print(f"{count:6} {root.name}/{room}")
    total = sum(lines.values())
    print(f"{total:6} of {budget} lines in all of {root.name}")
    long = [
        f"{root.name}/{path}: {n} lines, at most {MODULE}"
        for path, n in lines.items()
        if n > MODULE
    ]
    return [*long, *([f"{root.name} is over its budget"] if total > budget else [])]


if __name__ == "__main__":
    top = Path(__file__).resolve().parent.parent
    if wrong := [line for name, most in BUDGETS.items() for line in problems(top / name, most)]:
        sys.exit("\n".join(["size:", *wrong]))
