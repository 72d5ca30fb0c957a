"""`m2m doctor`: check whether this machine is ready."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from m2m.cli.console import say
from m2m.cli.options import json_option

MARKS = {"ok": " ", "note": "-", "problem": "!"}
PARTS = {"machine": "This machine", "models": "Base models", "folder": "This folder"}


@click.command("doctor")
@json_option
def doctor(as_json: bool) -> None:
    """Check this machine, the models and this folder.

    The exit code is 1 if something marked ! keeps m2m from working.

    \b
    Example:  m2m doctor
    """
    from m2m.cli import show
    from m2m.commands.doctor import diagnose, next_line
    from m2m.errors import ResourceError

    findings = diagnose(Path.cwd())
    bad = [finding.name for finding in findings if finding.state == "problem"]

    def table() -> None:
        part = ""
        for finding in findings:
            if finding.part != part:
                part = finding.part
                say(PARTS[part])
            say(f"{MARKS[finding.state]} {finding.name:20} {finding.value}")
            if finding.remedy:
                say(f"{'':23}{finding.remedy}")

    as_data = {"ok": not bad, "checks": [dataclasses.asdict(finding) for finding in findings]}
    show.result(as_data, as_json, table, "" if bad else next_line(findings))
    if bad:
        here = [one.name for one in findings if one.state == "problem" and one.part == "folder"]
        rest = [name for name in bad if name not in here]
        faults = [f"this machine is not ready: {', '.join(rest)}"] if rest else []
        faults += [f"m2m cannot work in this folder: {', '.join(here)}"] if here else []
        raise ResourceError("; ".join(faults), "follow the advice below each line marked !")


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
