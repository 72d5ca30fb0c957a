"""`m2m init`: write the first recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from m2m.cli.console import say
from m2m.cli.options import MODEL, data_root_option, given_settings, row_options

FILE = click.Path(path_type=Path)


@click.command("init")
@click.option(
    "--model", type=MODEL, required=True, help="Base model: a name under models/, or a folder."
)
@click.option(
    "--data", "first", multiple=True, type=FILE, metavar="FILE...", help="Candidate datasets."
)
@click.argument("more", nargs=-1, type=FILE, metavar="")
@click.option("--target", "targets", multiple=True, required=True, type=FILE, help="A dev file.")
@click.option(
    "--test",
    "tests",
    multiple=True,
    type=FILE,
    help="The test file of each target; by default test.jsonl next to dev.jsonl.",
)
@click.option("--template", type=click.Choice(["chat", "plain"]), default="chat", show_default=True)
@row_options
@data_root_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("recipe.toml"), show_default=True
)
def init(
    model: str,
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    targets: tuple[Path, ...],
    tests: tuple[Path, ...],
    template: str,
    out: Path,
    **reading: Any,
) -> None:
    """Write a recipe for your files, with every field explained.

    m2m finds out how the rows of a file are meant. If it cannot know, it prints the lines to
    choose from: this command with options such as --prompt, which are fields of a dataset in the
    recipe. They hold for all files that have the columns (in a template, \\n is a line break).

    \b
    Example:  m2m init --model smollm2-135m-instruct --data datasets/*.jsonl --target dev.jsonl
    """
    from m2m.commands.init import start_recipe

    if not (first or more):
        raise click.UsageError("give at least one dataset: --data FILE...")
    given = given_settings(reading)
    started = start_recipe(out, model, template, [*first, *more], targets, tests, given)
    for note in started.notes:
        say(f"Note: {note}", err=True)
    roots = [part for root in started.roots for part in ("--data-root", str(root))]
    for question in started.questions:
        say(f"Question: {question}", err=True)
    if started.questions:
        say(f"Wrote {started.recipe}, but m2m refuses it until you have replaced each ?:")
        for line in started.open_lines:
            say(f"  {line}")
        if started.lines:
            one = "this line, with your words in place of those with ?"
            which = one if len(started.lines) == 1 else "one of these lines"
            say(f"Or delete {started.recipe} and type {which}:")
        for line in started.lines:
            say(f"  {line}")
        say("If you write into it, add the licences, too, then run:")
    else:
        say(f"Wrote {started.recipe}. Add the licences, then run:")
    for command in ("data check", "plan", "run"):
        parts = ["m2m", *command.split(), str(started.recipe), *roots]
        say(f"  {shlex.join(parts)}")


COMMANDS = [init]
