"""Unattended runs: open one recipe safely, and run several one after another."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m import __version__
from m2m.cli.console import say
from m2m.cli.options import given_recipe
from m2m.counted import counted
from m2m.errors import Interrupted, M2MError
from m2m.formats.json_text import json_text
from m2m.progress import Logged

if TYPE_CHECKING:
    from m2m.pipeline.run import Run


@contextmanager
def opened(
    recipe: Path,
    quiet: bool,
    command: str,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    hours: float | None = None,
    share: tuple[int, int] | None = None,
    **allowed: bool,
) -> Iterator[Run]:
    """Open the recipe's run, locked, with progress; after an interruption, say how to resume.

    Args:
        recipe: the recipe's file.
        quiet: show no progress.
        command: name of the command, for the log.
        changes: other values than in the file for fields, by section; None changes nothing.
        hours: hours that the run may take; it is cut down to them.
        share: (I, N) if only a share of the work is wanted.
        allowed: `allow_leaks`, `anyway` and `rescore`, as `Run` takes them.
    """
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.pipeline.run import Run
    from m2m.pipeline.shares import Share
    from m2m.planning.hours import Within
    from m2m.recipe import changed
    from m2m.results.folder import RunFolder
    from m2m.store import run_lock

    progress = TerminalProgress(quiet)
    original = given_recipe(recipe)
    loaded = changed(original, changes or {})
    part = Share(*share) if share else None
    folder = part.folder(loaded.folder) if part else loaded.folder
    RunFolder(loaded.folder).refuse_links()
    try:
        with run_lock(folder), stoppable(progress):
            log = Logged(progress, RunFolder(folder).log)
            with _logged(log, command):
                yield Run(loaded, log, part, hours=Within(original, hours or 0.0), **allowed)
    except (Interrupted, KeyboardInterrupt) as error:
        reason = error.message if isinstance(error, Interrupted) else "stopped"
        raise Interrupted(reason, f"go on with `{_same_line()}`") from error


@contextmanager
def _logged(log: Logged, command: str) -> Iterator[None]:
    """Log that a command began and how it ended."""
    log.write(f"m2m {__version__} {command} (pid {os.getpid()})")
    try:
        yield
    except M2MError as error:
        log.write(*error.for_user().split("\n"))
        raise
    except BaseException as error:
        log.write(f"ended by {type(error).__name__}: {error}")
        raise
    log.write(f"{command}: done")


def run_batch(
    recipes: Sequence[Path],
    *,
    keep_going: bool,
    hours: float | None,
    as_json: bool,
    quiet: bool,
    **allowed: bool,
) -> None:
    """Run recipes in turn and print the outcome of each.

    Raises:
        Interrupted: the user asked to stop; the same command resumes all of them.
        M2MError: one recipe failed; with `keep_going` all others were tried first.
    """
    failed: list[str] = []
    for number, recipe in enumerate(recipes, start=1):
        if not quiet:
            say(f"[{number}/{len(recipes)}] {recipe}", err=True)
        try:
            with opened(recipe, quiet, "run", None, hours=hours, share=None, **allowed) as work:
                result = work.run()
        except Interrupted:
            raise
        except M2MError as error:
            failed.append(str(recipe))
            if as_json:
                _say(recipe, {"error": error.message, "hint": error.hint}, as_json)
            say(*error.for_user(f"{recipe}: ").split("\n"), err=True)
            if not keep_going:
                break
            continue
        outcome = result.as_json()
        _say(recipe, outcome, as_json)
    if failed:
        raise M2MError(
            f"{len(failed)} of {counted(len(recipes), 'recipe')} failed: {', '.join(failed)}",
            f"correct them and run `{_same_line()}`; finished work is kept",
        )


def _say(recipe: Path, outcome: dict[str, Any], as_json: bool) -> None:
    """Print one line with the outcome of a recipe."""
    if as_json:
        line = {"recipe": str(recipe), **outcome}
        say(json_text(line))
    else:
        verdict = outcome["verdict"]
        file = f"  {outcome['gguf']}" if outcome["gguf"] else ""
        say(f"{recipe}: {verdict['kind']}. {verdict['sentence']}{file}")


def _same_line() -> str:
    """Return the command as the user typed it: every command resumes its own work."""
    return shlex.join(["m2m", *sys.argv[1:]])
