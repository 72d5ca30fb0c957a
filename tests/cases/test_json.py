"""NaN and Infinity in JSON: no other program reads them (RFC 8259), and Python writes them unasked.

Every command that takes --json runs on the smallest inputs that have no standard error, no
correlation and no delta; every file that it writes is read again by a strict reader.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.cli.main import cli
from m2m.formats.json_text import finite, json_text
from tests.conftest import REPOSITORY
from tests.pipeline.scenario import make_scenario
from tests.tiny import choice_rows, write_jsonl

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def _refuse(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def strict(text: str) -> object:
    return json.loads(text, parse_constant=_refuse)


@settings(max_examples=15)  # large values
@given(st.recursive(PLAIN, lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_what_is_not_finite_is_null_and_all_else_stays(value: object) -> None:
    text = json_text(value)
    assert strict(text) == finite(value) == strict(json_text(value, indent=2))
    assert "\n" not in text


def test_numpy_numbers_and_tuples_are_plain_values() -> None:
    assert json_text({"a": (np.float64("nan"), 1.5, -math.inf)}) == '{"a":[null,1.5,null]}'


def with_json(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from with_json(command, (*path, name))
        elif any("--json" in each.opts for each in command.params):
            yield (*path, name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with one question a target and experts that learn nothing."""
    recipe = make_scenario(tmp_path_factory.mktemp("json"))
    text = recipe.read_text(encoding="utf-8").replace("5e-3", "0.0").replace("12", "2")
    recipe.write_text(text, encoding="utf-8")
    for name in ("dev", "test"):
        write_jsonl(recipe.parent / f"{name}.jsonl", choice_rows("copy", 1, seed=len(name)))
    return recipe.parent


TASKS = REPOSITORY / "tests" / "golden" / "harness"
# All models write the same answers here, so there is nothing to judge: tests/cli/test_judge.py.
ELSEWHERE = {("judge",)}
ARGUMENTS = {
    "eval": ["models/pico", "models/pico/base.gguf", "dev.jsonl"],
    "models add": ["models/pico-source.gguf", "--name", "again"],
    "models list": [],
    "models known": [],
    "compare": ["m2m-runs/recipe", "other"],
    "explain": ["rank"],
    "tasks list": [str(TASKS)],
    "tasks show": ["m2m_choices", str(TASKS)],
    "merge": [
        *("--model", "models/pico", "--adapter", "m2m-runs/recipe/adapters/copy"),
        *("--out", "merged.gguf"),
    ],
    "merge-runs": ["m2m-runs/recipe", "--into", "elsewhere"],
    "report": ["m2m-runs/recipe"],
    "data check": ["copy.jsonl"],
    "data clean": ["recipe.toml", "--out", "cleaned"],
    "doctor": [],
}


# `run` comes first: what the others look at is there then.
@pytest.mark.parametrize(
    "path",
    sorted({*with_json(cli)} - ELSEWHERE, key=lambda path: (path != ("run",), path)),
    ids=" ".join,
)
def test_no_command_prints_or_writes_what_is_no_json(
    place: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.chdir(place)
    if path == ("compare",):
        shutil.copytree("m2m-runs/recipe", "other")
    arguments = ARGUMENTS.get(" ".join(path), ["recipe.toml"])
    found = CliRunner().invoke(cli, [*path, *arguments, "--json"], catch_exceptions=False)
    assert found.stdout, found.stderr
    strict(found.stdout)
    for file in place.rglob("*.json"):
        strict(file.read_text(encoding="utf-8"))
    for file in place.rglob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            strict(line)
