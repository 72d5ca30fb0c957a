"""`m2m report`: write the findings of a run as one HTML page, as tables, CSV and JSON."""

from __future__ import annotations

from pathlib import Path

import click

from m2m.cli.options import (
    Real,
    json_option,
    keep_recipes,
    quiet_option,
    run_folder_of,
    run_options,
)


@click.command("report")
@click.argument(
    "run", type=click.Path(path_type=Path), metavar="RECIPE|RUNDIR", callback=keep_recipes
)
@click.option(
    "--watts",
    type=Real(min=0),
    help="Power of this machine while it works, for the energy estimate; else the recipe's.",
)
@run_options
@json_option
@quiet_option
def report(run: Path, watts: float | None, as_json: bool, quiet: bool) -> None:
    """Write the report of a run again, from its folder.

    Nothing is computed again. The report is report.html (one page that opens offline), report.json
    and report/*.csv. The report of an unfinished run shows the steps that are done.

    \b
    Example:  m2m report examples/swahili/recipe.toml
              m2m report examples/swahili/m2m-runs/recipe --watts 12 --json
    """
    from m2m.cli import show
    from m2m.report import write_report
    from m2m.results.facts import read_facts

    folder = run_folder_of(run)
    facts = read_facts(folder, watts)
    written = write_report(facts, folder)
    if as_json or not quiet:
        data = {**facts.as_json(), "report": written.as_json()}
        show.result(data, as_json, lambda: show.report(facts, written))


COMMANDS = [report]
