"""The scenario that these tests break, how `m2m` is started on it, and what must stay the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.pipeline.scenario import RECIPE, make_scenario

REPOSITORY = Path(__file__).parents[2]
# What a run measures of itself: times, and the memory and speed that they go with; and marks of
# files that hold these, or the folder's own path.
_OWN = ("seconds", "tokens_per_second", "peak_rss_bytes", "resumed", "made_from")
# The diary, and the pages that tell how long everything took.
_DIARY = ("lock", "run.log", "steps.jsonl", "report.html", "report.json", "costs.csv")
_SMALL = {"steps = 12": "steps = 4", "checkpoint_every = 3": "checkpoint_every = 2"}


def small_scenario(folder: Path) -> Path:
    """A scenario whose whole run takes about two seconds; returns the recipe."""
    recipe = make_scenario(folder)
    text = RECIPE
    for before, after in _SMALL.items():
        text = text.replace(before, after)
    recipe.write_text(text, encoding="utf-8")
    return recipe


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment with changes; None takes a variable out."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **changes}
    return {name: value for name, value in env.items() if value is not None}


def m2m(*arguments: object, fault: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run `m2m` in a process of its own, with a fault of tests.field.child where one is given."""
    start = ["-m", "m2m"] if fault is None else ["-m", "tests.field.child", json.dumps(fault)]
    return run([sys.executable, *start, *map(str, arguments)], **options)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    settings |= {"env": environment(), "check": False, "timeout": 300}
    return subprocess.run(command, **{**settings, **options})


def told(found: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that failed as it should: exit 1, a message, no traceback."""
    assert found.returncode == 1, f"exit {found.returncode}\n{found.stdout}\n{found.stderr}"
    assert "Traceback" not in found.stderr, found.stderr
    assert "Error: " in found.stderr
    return found.stderr


def outcome(recipe: Path) -> dict[str, str | bytes]:
    """Every file that a run left, by its path; JSON without what the run measures of itself."""
    folder = recipe.parent / "m2m-runs" / recipe.stem
    here = str(recipe.parent)
    files: dict[str, str | bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in _DIARY or not path.is_file():
            continue
        data: str | bytes = path.read_bytes()
        if path.suffix in (".json", ".jsonl", ".csv", ".md"):
            text = data.decode("utf-8").replace(here, "HERE")
            data = re.sub(rf'"({"|".join(_OWN)})":\s*[^,}}\n]+', r'"\1": 0', text)
        files[str(path.relative_to(folder))] = data
    return files


def assert_same(found: dict[str, str | bytes], expected: dict[str, str | bytes]) -> None:
    """All files are there, no others, and each has the same bytes."""
    assert sorted(found) == sorted(expected), sorted(found.keys() ^ expected.keys())
    for name, content in expected.items():
        if isinstance(content, str):
            lines = zip(found[name].splitlines(), content.splitlines(), strict=False)
            different = [pair for pair in lines if pair[0] != pair[1]]
            assert not different, f"{name}: {different[:3]}"
        assert found[name] == content, name
