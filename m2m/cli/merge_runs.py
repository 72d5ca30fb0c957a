"""`m2m merge-runs`: bring together parts of a run from several machines."""

from __future__ import annotations

from pathlib import Path

import click

from m2m.cli.console import say, warn
from m2m.cli.options import json_option

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("merge-runs")
@click.argument("folders", nargs=-1, required=True, type=FOLDER, metavar="DIR...")
@click.option(
    "--into",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The run's folder that gets everything.",
)
@json_option
def merge_runs(folders: tuple[Path, ...], into: Path, as_json: bool) -> None:
    """Bring together a run's parts from several machines.

    It copies the adapters, states of trainings and scores that this copy of the run's folder does
    not have.

    \b
    Example:  m2m merge-runs /media/usb/*/m2m-runs/recipe --into m2m-runs/recipe
    """
    from m2m.cli import show
    from m2m.counted import counted
    from m2m.pipeline.merge_runs import merge_runs as merge

    merged = merge(into, folders)
    warn(merged.warnings)
    summary = f"{into}: {counted(len(merged.adapters), 'adapter')}, "
    summary += f"{counted(merged.states, 'state')} of trainings, "
    summary += f"{counted(merged.mixtures, 'scored mixture')} and "
    summary += f"{counted(merged.confirmed, 'confirmed model')} new"
    show.result(merged.as_json(), as_json, lambda: say(summary))


COMMANDS = [merge_runs]
