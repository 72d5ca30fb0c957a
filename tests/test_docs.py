"""What README.md says is true: its commands parse, its files exist, its table is current."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

from m2m.cli.main import cli
from m2m.recipe import load_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (m2m [^#\n]+?)\s*(?:#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_readme_parses(line: str) -> None:
    command: click.Command = cli
    arguments = shlex.split(line)[1:]
    context = click.Context(cli, info_name="m2m")
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"no command {arguments[0]!r}"
        command, arguments = found, arguments[1:]
    command.make_context(command.name, arguments)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("name", sorted(set(re.findall(r"scripts/[\w.-]+", README))))
def test_every_script_in_the_readme_exists(name: str) -> None:
    assert (ROOT / name.rstrip(".")).is_file()


def test_the_table_of_fields_is_current() -> None:
    docs = runpy.run_path(str(ROOT / "scripts" / "docs.py"))
    assert docs["current"](README) == README


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda p: p.name)
def test_every_example_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).datasets
