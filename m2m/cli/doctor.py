"""`m2m doctor`: check whether this machine is ready."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from m2m.cli.console import say
from m2m.cli.options import json_option

MARKS = {"ok": " ", "note": "-", "problem": "!"}


@click.command("doctor")
@json_option
def doctor(as_json: bool) -> None:
    """Check this machine: missing or slow parts, and the remedy.

    The exit code is 1 if something marked ! keeps m2m from working.

    \b
    Example:  m2m doctor
    """
    from m2m.cli import show
    from m2m.commands.doctor import diagnose
    from m2m.errors import ResourceError

    findings = diagnose(Path.cwd())
    bad = [finding.name for finding in findings if finding.state == "problem"]

    def table() -> None:
        for finding in findings:
            say(f"{MARKS[finding.state]} {finding.name:20} {finding.value}")
            if finding.remedy:
                say(f"{'':23}{finding.remedy}")

    as_data = {"ok": not bad, "checks": [dataclasses.asdict(finding) for finding in findings]}
    show.result(as_data, as_json, table)
    if bad:
        raise ResourceError(
            f"not ready: {', '.join(bad)}", "follow the advice below each line marked !"
        )


def show_versions(context: click.Context, option: click.Parameter, requested: bool) -> None:
    """Print the versions of m2m and of everything that it runs with."""
    if not requested or context.resilient_parsing:
        return
    import platform

    from m2m import __version__
    from m2m.machine import versions

    say(f"m2m {__version__}")
    say(f"Python {platform.python_version()} ({platform.system()} {platform.machine()})")
    for name, version in versions().items():
        say(f"{name} {version or 'is missing'}")
    context.exit()


version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_versions,
    help="Show all versions and exit.",
)

COMMANDS = [doctor]
