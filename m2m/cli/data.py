"""`m2m data`: check data before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2m.cli.console import say
from m2m.cli.data_clean import clean
from m2m.cli.data_preview import preview
from m2m.cli.options import (
    MODEL,
    data_root_option,
    data_roots,
    given_settings,
    json_option,
    keep_if_recipe,
    model_words,
    row_options,
)
from m2m.counted import counted

if TYPE_CHECKING:
    from m2m.dataset.checked import Checked

FILE = click.Path(path_type=Path)
_SHOWN = 8  # labels in a line
_MUCH_SHARED = 0.02  # of a file's rows; `--json` has all
# Heads of the tables of counts of rows and of costs in tokens.
COUNTS = ("rows", "same", "near", "leaks")
COSTS = ("tokens", "longest", "letters/token", "tokens/word")
_BLOCKS = " ▁▂▃▄▅▆▇█"


@click.group("data")
def data() -> None:
    """Look at datasets before they are trained on."""


@data.command("check")
@click.argument(
    "files", nargs=-1, required=True, type=FILE, metavar="FILE...", callback=keep_if_recipe
)
@click.option("--model", type=MODEL, help="Count its tokens: a name under models/, or a folder.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=FILE,
    help="Questions that no row may contain. Repeatable.",
)
@row_options
@click.option("--template", type=click.Choice(["chat", "plain"]), default="chat", show_default=True)
@click.option("--all", "whole", is_flag=True, help="Compare all rows of large files.")
@data_root_option
@json_option
def check(
    files: tuple[Path, ...],
    model: str | None,
    targets: tuple[Path, ...],
    template: str,
    whole: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Find faults in datasets, before they are trained on.

    FILE... are datasets, or one recipe, which names them. A file is read as `m2m init` reads it,
    unless an option says how, as in `m2m data preview`. It finds duplicate, contradicting and
    leaked rows, within and between files; wrong encodings and Unicode forms; and rows in another
    language. It counts the tokens that the model needs for a word. Of a large file it compares the
    first 100,000 rows, unless you give --all. The exit code is 1 if `m2m run` would refuse a file.

    \b
    Example:  m2m data check examples/swahili/recipe.toml
              m2m data check a.jsonl b.csv --model smollm2-135m-instruct --target dev.jsonl
    """
    from m2m.cli import show
    from m2m.commands.bare import command_of
    from m2m.commands.data_check import DEFAULT, FIRST, check_files, check_recipe, open_model
    from m2m.commands.init_files import Wanted
    from m2m.errors import InputError
    from m2m.recipe import load_recipe

    first = 0 if whole else FIRST
    if files[0].suffix == ".toml":
        if len(files) > 1 or model or targets:
            raise click.UsageError("a recipe names its own datasets, model and targets")
        results = check_recipe(load_recipe(files[0], data_roots()), first)
    else:
        formatter, limit = open_model(model, template) if model else (None, DEFAULT)
        rest, given = model_words(model, template), given_settings(reading)
        rest = [*(["--all"] if whole else []), *rest]
        command = command_of(("m2m", "data", "check"), files, targets, rest, given)
        results = check_files(command, formatter, limit, first)
    counted = results[0].tokens is not None
    then = "m2m run RECIPE"
    if files[0].suffix != ".toml":
        form = "auto" if template == "chat" else template  # which init takes by itself
        wanted = Wanted(Path("recipe.toml"), files, targets, (), model or "", form, given)
        then = wanted.command.line()
    if any(result.refused for result in results):
        then = ""
    show.result(
        [e.as_json() for e in results], as_json, lambda: show_checked(results, counted), then
    )
    if bad := [str(result.file) for result in results if result.refused]:
        raise InputError(
            f"`m2m run` would refuse {', '.join(bad)}",
            "do what the lines marked ! say, and run this again",
        )


def show_checked(results: Sequence[Checked], tokens: bool = True) -> None:
    """Print tables of all files, and below them everything that a person should check."""
    from m2m.dataset.checked import short_names

    _show_tables(results, tokens)
    names = short_names([result.file for result in results])
    for name, result in zip(names, results, strict=True):
        if result.reading:
            say(f"{name}: {result.reading}")
        if result.labels:
            say(f"{name}: labels {_listed(result.labels)}")
        if part := _shared(result):
            say(f"{name}: of its {counted(result.rows, 'row')}, {part}")
        if result.problems:
            say(f"{result.file}")
        for problem in result.problems:
            word = "line" if len(problem.lines) == 1 else "lines"
            where = f" ({word} {', '.join(map(str, problem.lines))})" if problem.lines else ""
            first, *more = f"{problem.message}{where}".splitlines()
            say(f"  {'!' if problem.refused else '-'} {first}", *(f"    {line}" for line in more))
            say(*(f"    {line}" for line in problem.hint.splitlines()))
    if not any(result.problems for result in results):
        has_targets = any(result.format.startswith("target") for result in results)
        checked = [
            "encoding and characters",
            "number of rows",
            "duplicates",
            "contradictions",
            "languages",
            "noise",
            *(["rows in two files"] if len(results) > 1 + has_targets else []),
            *(
                ["rows in dev or test questions", "repeated questions", "number of questions"]
                if has_targets
                else []
            ),
            *(["length in tokens"] if tokens else []),
        ]
        say(f"No problems found (checked: {', '.join(checked)}).")
        if not has_targets:
            say("Name your questions with `--target` to check that no row contains them.")


def _show_tables(results: Sequence[Checked], tokens: bool) -> None:
    """Print the counts of rows of all files, then their costs in tokens if these were counted."""
    from m2m.cli.console import make_table, print_table
    from m2m.dataset.checked import short_names

    table = make_table("file", "format", *COUNTS, right=COUNTS, fold=True)
    spent = make_table("file", *COSTS, "lengths", right=COSTS, fold=True)
    names = short_names([result.file for result in results])
    for name, result in zip(names, results, strict=True):
        numbers = (result.rows, result.duplicates, result.near_duplicates, result.overlap)
        kind = result.format.removeprefix("target: ")
        table.add_row(name, kind, *(f"{number:,}" for number in numbers))
        if result.tokens is not None:
            spent.add_row(name, *_costs(result))
    print_table(table)
    if tokens:
        print_table(spent)


def _costs(result: Checked) -> tuple[str, ...]:
    """Return the cells of a file's tokens; "-" if none were counted."""
    return (
        *("-" if number is None else f"{number:,}" for number in (result.tokens, result.longest)),
        f"{result.cost.characters_per_token:.2f}" if result.cost else "-",
        f"{result.cost.tokens_per_word:.2f}" if result.cost else "-",
        _bars(result.lengths),
    )


def _listed(counts: dict[str, int]) -> str:
    """Return the largest counts in words: "good 120, bad 80"."""
    shown = [f"{name} {count:,}" for name, count in [*counts.items()][:_SHOWN]]
    return ", ".join([*shown, *(["..."] if len(counts) > _SHOWN else [])])


def _shared(result: Checked) -> str:
    """Return how much of a file other files also have, if it is no problem already."""
    if not result.shared or any(p.kind in ("shared", "dev_and_test") for p in result.problems):
        return ""
    parts = [
        f"{count:,} ({count / result.rows:.0%}) are also in {other}"
        for other, count in result.shared.items()
        if count >= _MUCH_SHARED * result.rows
    ]
    return ", ".join(parts)


def _bars(lengths: dict[int, int]) -> str:
    """Draw a histogram as a line of blocks, from the first edge with rows to the last."""
    used = [edge for edge, count in lengths.items() if count]
    if not used:
        return "-"
    counts = [lengths[edge] for edge in lengths if used[0] <= edge <= used[-1]]
    blocks = (_BLOCKS[max(bool(n), round(n / max(counts) * (len(_BLOCKS) - 1)))] for n in counts)
    return f"{''.join(blocks)} {used[0] // 2 if used[0] > 16 else 0} to {used[-1]}"


data.add_command(clean)
data.add_command(preview)
COMMANDS = [data]
