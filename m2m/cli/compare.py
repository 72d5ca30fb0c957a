"""`m2m compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from m2m.cli.console import say, warn
from m2m.cli.options import json_option


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path),
                metavar="RECIPE|RUNDIR...")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for a page, and for the tables as CSV, Markdown and LaTeX.")  # fmt: skip
@json_option
def compare(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare the scores and the recipes of finished runs.

    Scores are compared only on the same questions, asked in the same way, by the same metric; other
    runs get a table of their own. Runs that differ only in their seeds share a row. Each row is
    compared with the first: how far it is ahead, and on which part of the questions it is better.

    \b
    Example:  m2m compare monday.toml tuesday.toml
              m2m compare m2m-runs/* --out comparison
    """
    from m2m.cli import show
    from m2m.commands.compare import compare as compared_runs
    from m2m.recipe import run_folder
    from m2m.report.write import write_comparison

    if len(runs) < 2:
        raise click.UsageError("give two runs or more.")
    compared = compared_runs([run if run.is_dir() else run_folder(run) for run in runs])
    written = write_comparison(compared, out) if out else []

    def shown() -> None:
        for table in compared.tables:
            show.print_result(table)
        for path in written[:1]:
            say(f"Page     {path}")

    warn(compared.warnings)
    show.result(compared.as_json(), as_json, shown)


COMMANDS = [compare]
