"""`m2m init`: write the first recipe, from files or from answers to questions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2m.cli.console import say
from m2m.cli.init_ask import Asking, is_terminal
from m2m.cli.options import MODEL, data_root_option, given_settings, row_options
from m2m.counted import counted

if TYPE_CHECKING:
    from m2m.commands.given import FileSettings
    from m2m.commands.init import Started
    from m2m.commands.init_files import Wanted
    from m2m.recipe import Recipe

FILE = click.Path(path_type=Path)
_FOR = "--for"
_FAULTS = 8  # findings of the check that are shown
_LIMIT = 8  # hours of a run that would take longer than a night


class PerFile(click.Command):
    """A command whose settings after `--for FILE` are for this file alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the groups that begin with --for away, and keep them."""
        args = [part for word in args for part in self._split(word)]
        places = [place for place, word in enumerate(args) if word == _FOR]
        rest = args[: places[0]] if places else args
        ctx.meta[_FOR] = []
        for start, end in pairwise([*places, len(args)]):
            path, settings, others = self._group(ctx, args[start + 1 : end])
            ctx.meta[_FOR].append((path, settings))
            rest = [*rest, *others]
        return super().parse_args(ctx, rest)

    @staticmethod
    def _split(word: str) -> list[str]:
        return [_FOR, word.removeprefix(f"{_FOR}=")] if word.startswith(f"{_FOR}=") else [word]

    @staticmethod
    def _group(ctx: click.Context, words: list[str]) -> tuple[Path, dict[str, Any], list[str]]:
        """Return the file, its settings, and words that are no settings of a file."""
        if not words or words[0].startswith("-"):
            raise click.UsageError("--for needs a file: --for FILE --prompt ...", ctx)
        group: click.Command = row_options(click.Command(_FOR))  # type: ignore[assignment]
        made = group.make_context(
            f"{_FOR} {words[0]}", words[1:], ignore_unknown_options=True, allow_extra_args=True
        )
        return Path(words[0]), made.params, made.args


@click.command("init", cls=PerFile)
@click.option(
    "--model",
    type=MODEL,
    default="",
    help="Base model: a name under models/, or a folder; by default the imported one that fits.",
)
@click.option(
    "--data",
    "first",
    multiple=True,
    type=FILE,
    metavar="FILE...",
    help="Candidate datasets: files, or a folder of files.",
)
@click.argument("more", nargs=-1, type=FILE, metavar="")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=FILE,
    help="A dev file. Without one, dev and test questions are split off a dataset.",
)
@click.option(
    "--test",
    "tests",
    multiple=True,
    type=FILE,
    help="The test file of each target; by default test.jsonl next to dev.jsonl.",
)
@click.option(
    "--split",
    type=FILE,
    help="The dataset that questions are split off, and the control is made of; else the first.",
)
@click.option(
    "--control/--no-control",
    default=None,
    help="Add a dataset with shuffled answers, which must not help.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of split and control."
)
@click.option("--full", is_flag=True, help="Write every field with its default and meaning.")
@click.option(
    "--template",
    type=click.Choice(["auto", "chat", "plain"]),
    default="auto",
    show_default=True,
    help="auto: chat if the model has a chat template.",
)
@click.option(
    "--rows", default=5, show_default=True, type=click.IntRange(0), help="Rows to show of a file."
)
@click.option(
    "--plan/--no-plan",
    "planned",
    default=None,
    help="Check the data and measure how long the run takes; by default only on a terminal.",
)
@row_options
@data_root_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("recipe.toml"), show_default=True
)
@click.pass_context
def init(
    ctx: click.Context,
    /,
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    rows: int,
    planned: bool | None,
    **given: Any,
) -> None:
    """Write a recipe for your files.

    On a terminal it asks for everything that is missing. m2m finds out how the rows of a file are
    meant. If it cannot know, it asks, or prints the lines to choose from: this command with options
    such as --prompt, which are fields of a dataset in the recipe. They hold for all files that have
    the columns; after --for FILE they hold for this file alone. (In a template, \\n breaks a line.)
    New files are written next to the recipe, and yours are not changed.

    \b
    Example:  m2m init
              m2m init --data datasets/*.jsonl --target dev.jsonl --model smollm2-135m-instruct
              m2m init --data words.xlsx radio.csv --control --for radio.csv --text "{line}"
    """
    wanted = _wanted(ctx, (*first, *more), given)
    asking = Asking(wanted) if is_terminal() else None
    if not (asking or wanted.datasets):
        raise click.UsageError("give at least one dataset: --data FILE...")
    from m2m.cli.data_preview import show_previews
    from m2m.commands.data_preview import preview_recipe
    from m2m.commands.init import start_recipe
    from m2m.errors import M2MError
    from m2m.recipe import load_recipe

    try:
        started = start_recipe(*(asking.ask() if asking else (wanted, None)))
    except (M2MError, click.Abort):
        if asking and asking.wanted != wanted:
            line = _again(asking.wanted)
            say("", f"The same again without these questions: {line}", err=True, copied=True)
        raise
    for note in started.notes:
        say(f"Note: {note}", err=True)
    for question in started.questions:
        say(f"Question: {question}", err=True)
    roots = [part for root in started.roots for part in ("--data-root", str(root))]
    if started.questions:
        _open(started, roots)
        return
    recipe = load_recipe(started.recipe, started.roots)
    if rows:
        show_previews(preview_recipe(recipe, rows))
        say("")
    planned = bool(asking) if planned is None else planned
    if planned:
        _check(recipe)
    long = planned and _hours(recipe)
    if asking:
        say(f"The same again without questions: {_again(asking.wanted)}", err=True, copied=True)
    say(f"Wrote {started.recipe}. Add the licences of the data if you know them. Then run:")
    limit = ["--hours", str(_LIMIT)] if long else []
    say(f"  {shlex.join(['m2m', 'run', str(started.recipe), *roots, *limit])}", copied=True)


def _again(wanted: Wanted) -> str:
    """Return the line that writes this recipe without questions; with a name that is free."""
    from m2m.commands.init_data import NewFiles

    out, number = wanted.out, 1
    while out.exists() or NewFiles.beside(out).folder.exists():
        number += 1
        out = wanted.out.with_stem(f"{wanted.out.stem}-{number}")
    return replace(wanted, out=out).command.line()


def _wanted(ctx: click.Context, datasets: Sequence[Path], given: dict[str, Any]) -> Wanted:
    from m2m.commands.init_files import Wanted

    own = tuple((path, replace(given_settings(g), alone=True)) for path, g in ctx.meta[_FOR])
    named = ("out", "targets", "tests", "model", "template", "split", "control", "seed", "full")
    fields = {name: given.pop(name) for name in named}
    fields["model"] = fields["model"] or ""
    files = {*datasets, *fields["targets"], *fields["tests"]}
    folders = {path for path in files if path.is_dir()}
    for path, _ in own:
        if path not in files and not folders & {*path.parents}:
            raise click.UsageError(f"--for {path}: is not one of the files", ctx)
    settings: FileSettings = given_settings(given)
    return Wanted(datasets=(*datasets,), given=settings, own=own, **fields)


def _open(started: Started, roots: Sequence[str]) -> None:
    """Say how to answer the questions of a recipe."""
    say(f"Wrote {started.recipe}, but m2m refuses it until you have replaced each ?:")
    for line in started.open_lines:
        say(f"  {line}", copied=True)
    if started.lines:
        one = "this line, with your words in place of those with ?"
        which = one if len(started.lines) == 1 else "one of these lines"
        say(f"Or delete {started.recipe} and type {which}:")
    for line in started.lines:
        say(f"  {line}", copied=True)
    say("If you write into it, add the licences, too, then run:")
    say(f"  {shlex.join(['m2m', 'data', 'preview', str(started.recipe), *roots])}", copied=True)


def _check(recipe: Recipe) -> None:
    """Print the findings of `m2m data check`, a line for each."""
    from m2m.commands.data_check import FIRST, check_recipe

    found = check_recipe(recipe, FIRST)
    faults = [(each.name or each.file.name, one) for each in found for one in each.problems]
    for name, one in faults[:_FAULTS]:
        say(f"Check: {name}: {one.message}", err=True)
    if faults:
        most = f" ({_FAULTS} are shown above)" if len(faults) > _FAULTS else ""
        say(
            f"{counted(len(faults), 'thing')} to look at{most}: `m2m data check {recipe.path}` "
            "shows all with their lines",
            err=True,
        )


def _hours(recipe: Recipe) -> bool:
    """Print how long the run will take here, as `m2m plan` does; return whether that is long."""
    from m2m.cli.plan import planned
    from m2m.errors import M2MError
    from m2m.pipeline.inputs import read_inputs
    from m2m.progress import duration

    try:
        plan = planned(read_inputs(recipe), quiet=False)
    except M2MError as error:
        say(f"Note: no time can be given: {error.message}", err=True)
        return False
    for advice in plan.advice:
        say(f"Note: {advice}", err=True)
    if not plan.stages:
        return False
    longest = "; the last training goes on for as long as it pays" if plan.parts else ""
    say(f"The run takes about {duration(plan.total_seconds)} at the speed measured now{longest}.")
    return plan.total_seconds > _LIMIT * 3600


COMMANDS = [init]
