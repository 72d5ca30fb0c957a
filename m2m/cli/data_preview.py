"""`m2m data preview`: look at rows as the model will see them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2m.cli.console import say
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
    from m2m.commands.data_preview import Preview, ShownRow

FILE = click.Path(path_type=Path)
_BEGIN, _END = ">>>", "<<<"  # round the part that is trained on or scored
_LONGEST = 1200  # characters of a piece
_HEAD = 3  # lines that are not repeated
_MOST = 20  # problems of a file


@click.command("preview")
@click.argument("files", nargs=-1, type=FILE, metavar="FILE|RECIPE...", callback=keep_if_recipe)
@click.option("--target", "targets", multiple=True, type=FILE, help="A target's file. Repeatable.")
@row_options
@click.option("--rows", default=5, show_default=True, type=click.IntRange(1), help="Rows to show.")
@click.option(
    "--all", "whole", is_flag=True, help="Read the whole file, not only the first 10,000 rows."
)
@click.option("--model", type=MODEL, help="Use its chat template and tokens.")
@click.option("--template", type=click.Choice(["chat", "plain"]), default="chat", show_default=True)
@data_root_option
@json_option
def preview(
    files: tuple[Path, ...],
    targets: tuple[Path, ...],
    rows: int,
    whole: bool,
    model: str | None,
    template: str,
    as_json: bool,
    **reading: Any,
) -> None:
    """Show the first rows as the model will see them.

    The part that is trained on (of a target: the right answer, which is scored) stands between >>>
    and <<<. FILE... are datasets; two text files whose names differ in their language are read
    together. A recipe names its own files. The options are the fields of a recipe's dataset; in a
    template, \\n is a line break.

    \b
    Example:  m2m data preview examples/swahili/recipe.toml
              m2m data preview news.tsv --prompt "{headline}" --completion "{category}"
    """
    from m2m.cli import show
    from m2m.commands.bare import command_of
    from m2m.commands.data_check import open_model
    from m2m.commands.data_preview import ROWS, preview_files, preview_recipe
    from m2m.recipe import load_recipe

    bad = None
    if not (files or targets):
        raise click.UsageError("give a file: FILE, RECIPE or --target FILE")
    if files and files[0].suffix == ".toml":
        if len(files) > 1 or model or targets:
            raise click.UsageError("a recipe names its own datasets, model and targets")
        found = preview_recipe(load_recipe(files[0], data_roots()), rows, whole=whole)
    else:
        formatter = open_model(model, template)[0] if model else None
        rest = ["--rows", str(rows)] if rows != ROWS else []
        rest += [*(["--all"] if whole else []), *model_words(model, template)]
        words = ("m2m", "data", "preview")
        command = command_of(words, files, targets, rest, given_settings(reading))
        found, bad = preview_files(command, formatter, rows, whole=whole)
    then = "m2m data check RECIPE" if files and files[0].suffix == ".toml" else ""
    show.result([each.as_json() for each in found], as_json, lambda: show_previews(found), then)
    if bad:
        raise bad


def show_previews(found: list[Preview]) -> None:
    """Print the rows of each file, with marks round the part that is trained on."""
    is_cut = False
    for number, each in enumerate(found):
        if number:
            say("")
        say(f"{each.file}: {each.part}, {each.format}, {counted(each.rows, 'row')}")
        for line in filter(None, (each.mapping, each.reading)):
            say(f"  {line}")
        before = ""  # the row above begins so: a file shows its system prompt once
        for shown in each.shown:
            say(f"line {shown.line}")
            first = shown.pieces[0].text if shown.pieces else ""
            head, before = _head(first, before), first
            is_cut = is_cut or bool(head)
            _show_row(shown, each.part, head)
        for problem in each.problems[:_MOST]:
            say(f"! {problem}")
        if (more := len(each.problems) - _MOST) > 0:
            say(f"! and {more:,} more")
        say_questions(each.questions, each.lines)
    if is_cut:
        say("", "[...]: begins as the row above")
    word = {"dataset": "trained on", "target": "the right answer, which is scored"}
    parts = dict.fromkeys(each.part for each in found)
    say("")
    say(f"{_BEGIN} {_END}: " + "; ".join(f"of a {part} {word[part]}" for part in parts))


def _head(text: str, before: str) -> str:
    """Return the lines with which a text begins as the one above, if they are many; else ""."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(text, before, strict=False))
    shared = text[: sum(1 for _ in same)]
    head = shared[: shared.rfind("\n") + 1]
    return head if head.count("\n") >= _HEAD else ""


def say_questions(questions: Sequence[str], lines: Sequence[str]) -> None:
    """Print questions for the user, and the commands that answer them."""
    for question in questions:
        say(f"Question: {question}")
    if questions and lines:
        one = "this line, with your words in place of those with ?"
        say(f"To answer, type {one if len(lines) == 1 else 'one of these lines'}:")
        for line in lines:
            say(f"  {line}", copied=True)


def _show_row(shown: ShownRow, part: str, head: str) -> None:
    from m2m.cli.console import say_pieces

    if shown.problem:
        say(f"  ! {shown.problem}")
        return
    pieces: list[tuple[str, bool]] = []
    for number, piece in enumerate(shown.pieces):
        body = piece.text if number or not head else f"[...]\n{piece.text[len(head) :]}"
        if len(body) > _LONGEST:
            body = f"{body[:_LONGEST]}... ({counted(len(body) - _LONGEST, 'more character')})"
        marked = [(_BEGIN, False), (body, True), (_END, False)]
        pieces += marked if piece.trained else [(body, False)]
    say_pieces(pieces, "  ")
    for choice in shown.choices:
        say(f"  other: {choice:.200}")
