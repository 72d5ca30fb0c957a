"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

RECIPE = click.Path(dir_okay=False, path_type=Path)
recipe_argument = click.argument("recipe", type=RECIPE, metavar="RECIPE")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors.")


def recipe_command(command: Command) -> Command:
    """RECIPE, --json and --quiet."""
    return recipe_argument(json_option(quiet_option(command)))
