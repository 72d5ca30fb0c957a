"""`m2m tasks`: the tasks of lm-evaluation-harness in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from m2m.cli.options import data_root_option, data_roots, json_option, quiet_option

if TYPE_CHECKING:
    from m2m.commands.task_list import Listed, Listing

_SHOWN = 100  # rows of a table
KINDS = ("task", "group", "tag", "program")
folder_argument = click.argument(
    "folder", required=False, type=click.Path(file_okay=False, path_type=Path)
)


@click.group("tasks")
def tasks() -> None:
    """Find tasks of lm-evaluation-harness."""


@tasks.command("list")
@folder_argument
@click.option("--name", "patterns", multiple=True, help="Only names like this: afrixnli*.")
@click.option("--tag", "tags", multiple=True, help="Only tasks with this tag.")
@click.option("--language", "languages", multiple=True, help="Only names with this code: swa.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this kind.")
@click.option("--reasons", is_flag=True, help="Count why m2m cannot ask tasks, in place of a list.")
@click.option("--files", is_flag=True, help="Print the files alone, one in a line.")
@data_root_option
@json_option
@quiet_option
def list_command(
    folder: Path | None,
    reasons: bool,
    files: bool,
    as_json: bool,
    quiet: bool,
    **chosen: tuple[str, ...],
) -> None:
    """List tasks, groups and tags, and say which of them m2m can ask.

    FOLDER has task files (YAML) in it and below it; without it, the tasks of lm-eval are listed if
    lm-eval is installed. No code of a task is run. `data` says whether the rows are on this
    machine, in a folder of --data-root.

    \b
    Example:  m2m tasks list my-tasks
              m2m tasks list my-tasks --language swa --kind task --data-root sets
              m2m tasks list my-tasks --name "afrixnli*" --files
    """
    from m2m.cli import show
    from m2m.cli.console import TerminalProgress, say
    from m2m.commands.task_list import list_tasks
    from m2m.evaluate.task_catalogue import Filter

    asked = Filter(**chosen)
    listing = list_tasks(folder, asked, data_roots(), TerminalProgress(quiet))
    if files:
        for row in listing.rows:
            if row.entry.path:
                say(str(row.entry.path), copied=True)
        return
    show.result(
        listing.as_json(), as_json, lambda: _reasons(listing) if reasons else _table(listing)
    )


@tasks.command("show")
@click.argument("name")
@folder_argument
@data_root_option
@json_option
@quiet_option
def show_command(name: str, folder: Path | None, as_json: bool, quiet: bool) -> None:
    """Explain one task, group or tag.

    It prints the data, splits and metrics, and whether m2m can ask the task.

    \b
    Example:  m2m tasks show afrixnli_en_direct_swa my-tasks
    """
    from m2m.cli import show
    from m2m.cli.console import TerminalProgress
    from m2m.commands.task_list import show_task

    row = show_task(name, folder, data_roots(), TerminalProgress(quiet))
    show.result(row.in_full(), as_json, lambda: _one(row))


def _table(listing: Listing) -> None:
    from m2m.cli.console import make_table, print_table, say

    table = make_table("name", "kind", "type", "data", "is here", "metrics", "m2m")
    for row in listing.rows[:_SHOWN]:
        about = row.as_json()
        data = "/".join(filter(None, [about.get("dataset_path"), about.get("dataset_name")]))
        if row.entry.kind in ("group", "tag"):
            data = f"{len(row.members)} names"
        says = {"task": "yes", "program": "no"}.get(row.entry.kind, "")
        table.add_row(
            row.entry.name,
            row.entry.kind,
            about.get("output_type", ""),
            data,
            {"here": "yes", "missing": "no"}.get(about.get("data", ""), ""),
            ", ".join(row.metrics),
            f"no: {row.reason:.80}" if row.reason else says,
        )
    print_table(table)
    if len(listing.rows) > _SHOWN:
        more = len(listing.rows) - _SHOWN
        say(f"and {more:,} more: choose with `--name`, `--tag`, `--language`; `--json` has all")
    for path, error in listing.unreadable.items():
        say(f"{path}: not read: {error.message}")


def _reasons(listing: Listing) -> None:
    from m2m.cli.console import make_table, print_table, say

    tasks = [row for row in listing.rows if row.entry.kind in ("task", "program")]
    refused = listing.reasons()
    table = make_table("tasks", "reason", "first of them", "write")
    for reason, count, first in refused:
        table.add_row(f"{count:,}", reason[:120], first.entry.name, first.remedy)
    print_table(table)
    kept = len(tasks) - sum(count for _, count, _ in refused)
    say(f"m2m can ask {kept:,} of {len(tasks):,} tasks if their data is here")


def _one(row: Listed) -> None:
    from m2m.cli.console import say

    for key, value in row.in_full().items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {text}" for name, text in value.items())
        if isinstance(value, list):
            value = ", ".join(value)
        if value not in (None, "") and key not in ("loads", "reason", "remedy"):
            say(f"{key}: {value}")
    if row.reason:
        say(f"m2m cannot ask it: {row.reason}", f"to go on: {row.remedy}")
    elif row.entry.kind == "task":
        say("m2m can ask it")


COMMANDS = [tasks]
