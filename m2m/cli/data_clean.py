"""`m2m data clean`: copies of datasets without repeated, leaked and noisy rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from m2m.cli.console import say
from m2m.cli.options import data_root_option, data_roots, json_option, recipe_argument

if TYPE_CHECKING:
    from m2m.commands.data_clean import Cleaned

_REMOVE = ("email", "phone", "url", "user", "html", "escape", "invisible", "control")
_DROP = (
    "near", "refusal", "cut", "lopsided", "echo", "mojibake", "lost", "mixed_alphabets",
    "end_written", *_REMOVE,
)  # fmt: skip


@click.command("clean")
@recipe_argument
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Their folder."
)
@click.option(
    "--remove", multiple=True, type=click.Choice(_REMOVE), help="Noise to take out. Repeatable."
)
@click.option(
    "--drop", multiple=True, type=click.Choice(_DROP), help="Rows to leave out. Repeatable."
)
@click.option(
    "--normalise",
    type=click.Choice(["as is", "NFC", "NFD"]),
    default="as is",
    show_default=True,
    help="Unicode normal form of all texts, also of the targets.",
)
@click.option("--force", is_flag=True, help="Overwrite earlier copies.")
@data_root_option
@json_option
def clean(
    recipe: Path,
    out: Path,
    remove: tuple[str, ...],
    drop: tuple[str, ...],
    normalise: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write copies of datasets without repeated and leaked rows.

    Duplicates and rows that are also dev or test questions are always left out, other rows only
    with `--drop`. The copies are JSONL with the columns of the originals, which never change;
    `_changes.jsonl` lists every row that was dropped or changed. Targets are copied only with
    `--normalise`, and only their normal form changes.

    \b
    Example:  m2m data clean examples/swahili/recipe.toml --out clean --remove url --drop near
    """
    from m2m.cli import show
    from m2m.commands.data_clean import CHANGES, Cleaning, recipe_lines
    from m2m.commands.data_clean import clean as clean_recipe
    from m2m.recipe import load_recipe

    loaded = load_recipe(recipe, data_roots())
    results = clean_recipe(loaded, out, Cleaning(remove, drop, normalise), force=force)
    lines = recipe_lines(results, loaded)
    as_data = {"files": [result.as_json() for result in results], "changes": str(out / CHANGES)}
    show.result(as_data, as_json, lambda: show_cleaned(results, lines, out / CHANGES))


def show_cleaned(
    results: Sequence[Cleaned], lines: Sequence[tuple[str, str]], changes: Path
) -> None:
    """Print a table of the copies, and the lines of the recipe that name them."""
    from m2m.cli.console import make_table, print_table

    counts = ("rows", "kept")
    table = make_table("file", *counts, "dropped", "changed", right=counts, fold=True)
    for result in results:
        table.add_row(
            result.name,
            f"{result.rows:,}" if result.out else "-",
            f"{result.kept:,}" if result.out else "-",
            _listed(result.dropped),
            _listed(result.changed),
        )
    print_table(table)
    for result in results:
        if result.note:
            say(f"{result.name}: {result.note}")
    say(f"Every change, with its line and reason: {changes}")
    say("To train on the copies, write in the recipe:")
    for name, line in lines:
        say(f"  {name}: {line}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"
