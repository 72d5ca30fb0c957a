"""Every command that docs/field.md shows is one."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from m2m.cli.main import CONTEXT, cli
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "field.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ {4}(m2m [^#>\n]+)", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    command: click.Command = cli
    # click remembers a command's help option, and its names are those of the first context.
    parent = click.Context(cli, info_name="m2m", **CONTEXT)  # type: ignore[arg-type]
    arguments = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(command.name, arguments, parent=parent)


def test_the_files_that_it_names_exist() -> None:
    assert len(COMMANDS) >= 5
    for name in set(re.findall(r"(?:scripts|examples)/[\w./-]+\w", TEXT)):
        assert (REPOSITORY / name).exists(), name
