"""`m2m plan`: estimate the cost of a run before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from m2m.cli.console import say
from m2m.cli.options import given_recipe, hours_option, recipe_command

if TYPE_CHECKING:
    from m2m.pipeline.inputs import Inputs
    from m2m.planning.hours import Within
    from m2m.planning.plan import Plan


@click.command("plan")
@recipe_command
@hours_option
def plan(recipe: Path, as_json: bool, quiet: bool, hours: float | None) -> None:
    """Estimate a run's time, memory and disk on this machine.

    It measures for some seconds on the recipe's own model and data, and plans the search by its
    strategy. Adapters and scores that exist already cost nothing. The exit code is 1 if the run
    does not fit.

    \b
    Example:  m2m plan examples/swahili/demo.toml
    """
    from m2m.cli import show
    from m2m.errors import ResourceError
    from m2m.pipeline.inputs import read_inputs
    from m2m.pipeline.search import readings
    from m2m.planning.hours import Within

    loaded = given_recipe(recipe)
    inputs = read_inputs(loaded)
    estimate = planned(inputs, quiet, Within(loaded, hours or 0.0))
    read = readings(inputs)
    data = {**estimate.as_json(), "readings": read}
    limit = f" --hours {hours:g}" if hours else ""
    then = f"m2m run RECIPE{limit}" if estimate.fits else ""
    show.result(data, as_json, lambda: show_plan(estimate, read), then)
    if not estimate.fits:
        raise ResourceError("the run does not fit", "; ".join(estimate.advice))


def planned(inputs: Inputs, quiet: bool, within: Within | None = None) -> Plan:
    """Calibrate and plan, with bars."""
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.planning.plan import make_plan

    progress = TerminalProgress(quiet)
    with stoppable(progress):
        return make_plan(inputs, progress, within)


def show_plan(plan: Plan, readings: Sequence[str] = ()) -> None:
    """Print a table of the stages, and how datasets and targets are read."""
    if plan.stages:
        _stages(plan)
    for sentence in [*_hours(plan), *readings]:
        say(sentence)
    if plan.fits:
        say("This computer has enough memory and disk.")
        for advice in plan.advice:
            say(advice)


def _stages(plan: Plan) -> None:
    """Print the stages, with their parts of the hours if the last one has no fixed length."""
    from m2m.cli.console import make_table, print_table
    from m2m.progress import duration

    split = {part.name: part.text for part in plan.parts}
    share = [f"of {plan.hours:g} hours" if plan.hours else "of the time"] if split else []
    numbers = ("time", *share, "peak memory", "disk")
    table = make_table("step", *numbers, "what", right=numbers)
    for stage in plan.stages:
        memory = f"{stage.peak_rss_bytes / 2**30:.2f} GiB"
        disk = f"{stage.disk_bytes / 1e6:,.0f} MB"
        part = [split[stage.name]] if split else []
        table.add_row(stage.name, duration(stage.seconds), *part, memory, disk, stage.what)
    blank = [""] * (2 + len(share))
    total = ("all", duration(plan.total_seconds), *blank, "at the speed measured now")
    table.add_row(*total, apart=True)
    print_table(table)


def _hours(plan: Plan) -> Iterator[str]:
    """Yield sentences on everything that was cut, and on more time."""
    from m2m.progress import duration

    for loss in plan.gave_up:
        yield f"To fit into {plan.hours:g} hours: {loss}."
    if plan.began:
        yield f"{plan.began[:1].upper()}{plan.began[1:]}."
    yield from plan.twice
    if plan.parts and not plan.hours:
        yield "`m2m run RECIPE --hours H` trains for H hours, and `m2m plan` shows their split."
    if plan.validation_seconds:
        yield f"`m2m validate RECIPE` would take {duration(plan.validation_seconds)} more."


COMMANDS = [plan]
