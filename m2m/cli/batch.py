"""Unattended runs: open one recipe safely, and run several one after another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m import __version__
from m2m.cli.console import as_stopped, same_line, say
from m2m.cli.options import given_overrides, given_recipe
from m2m.counted import counted
from m2m.errors import Interrupted, M2MError
from m2m.formats.json_text import json_text
from m2m.progress import Logged

if TYPE_CHECKING:
    from m2m.pipeline.run import Run
    from m2m.recipe import Recipe
    from m2m.results.outcome import RunResult


@contextmanager
def opened(
    recipe: Path | Recipe,
    quiet: bool,
    command: str,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    hours: float | None = None,
    share: tuple[int, int] | None = None,
    warned: list[str] | None = None,
    **allowed: bool,
) -> Iterator[Run]:
    """Open the recipe's run, locked, with progress.

    Args:
        recipe: the recipe or its file.
        quiet: show no progress.
        command: name of the command, for the log.
        changes: other values than in the file for fields, by section; None changes nothing.
        hours: hours that the run may take; it is cut down to them.
        share: (I, N) if only a share of the work is wanted.
        warned: gets all warnings.
        allowed: `allow_leaks`, `anyway` and `rescore`, as `Run` takes them.
    """
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.cli.time_left import HoursLeft, expect
    from m2m.pipeline.run import Run
    from m2m.pipeline.shares import Share
    from m2m.planning.hours import Within
    from m2m.recipe import changed
    from m2m.results.folder import RunFolder
    from m2m.store import run_lock

    progress = TerminalProgress(quiet)
    original = given_recipe(recipe) if isinstance(recipe, Path) else recipe
    loaded = changed(original, changes or {})
    part = Share(*share) if share else None
    folder = part.folder(loaded.folder) if part else loaded.folder
    RunFolder(loaded.folder).refuse_links()
    with run_lock(folder), stoppable(progress):
        log = Logged(progress, RunFolder(folder).log, warned)
        with _logged(log, command):
            progress.expected = HoursLeft(hours) if hours else None
            work = Run(loaded, log, part, hours=Within(original, hours or 0.0), **allowed)
            if not (hours or part):
                expect(work, progress, command)
            yield work


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
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run recipes in turn and print the outcome of each: a line of JSON, or words.

    Args:
        recipes: one recipe or more.
        keep_going: go on after a recipe that fails.
        as_json: print lines of JSON; see `m2m.results.outcome`.
        quiet: show no progress.
        options: `hours`, and what else `opened` takes.

    Raises:
        Interrupted: the user asked to stop; the same command resumes all of them.
        M2MError: one recipe failed; with `keep_going` all others were tried first.
    """
    from m2m.cli import show

    failed: list[str] = []
    for number, recipe in enumerate(recipes, start=1):
        if not quiet and len(recipes) > 1:
            say(f"[{number}/{len(recipes)}] {recipe}", err=True)
        try:
            result, datasets = _run_one(recipe, as_json, quiet, **options)
        except Interrupted:
            raise
        except M2MError as error:
            if len(recipes) == 1:
                raise
            failed.append(str(recipe))
            say(*error.for_user(f"{recipe}: ").split("\n"), err=True)
            if not keep_going:
                break
            continue
        if as_json:
            continue
        if len(recipes) == 1:
            show.run(result, datasets)
        else:
            file = f"  {result.exported.gguf}" if result.exported else ""
            verdict = result.confirmation.verdict
            say(f"{recipe}: {verdict.kind}. {verdict.sentence}{file}")
    if failed:
        raise M2MError(
            f"{len(failed)} of {counted(len(recipes), 'recipe')} failed: {', '.join(failed)}",
            f"correct them and run `{same_line()}`; finished work is kept",
        )


def _run_one(recipe: Path, as_json: bool, quiet: bool, **options: Any) -> tuple[RunResult, int]:
    """Run a recipe; return its result and the number of its datasets. Print its line of JSON."""
    from m2m.pipeline.resolved import versions
    from m2m.results.outcome import DONE, FAILED, STOPPED, Ending, line

    loaded: Recipe | None = None
    result: RunResult | None = None
    warned: list[str] = []
    status, error, hint = DONE, None, None
    try:
        loaded = given_recipe(recipe)
        with opened(loaded, quiet, "run", warned=warned, **options) as work:
            loaded = work.recipe  # as --hours cut it
            result = work.run()
    except (Interrupted, KeyboardInterrupt) as wrong:
        ended = as_stopped(wrong)
        status, error, hint = STOPPED, ended.message, ended.hint
        raise
    except M2MError as wrong:
        status, error, hint = FAILED, wrong.message, wrong.hint
        raise
    except BaseException as wrong:
        status, error = FAILED, f"{type(wrong).__name__}: {wrong}"
        raise
    finally:
        if as_json:
            ending = Ending(datetime.now(UTC).isoformat(timespec="seconds"), status, error, hint)
            given = given_overrides() | dict(loaded.overrides if loaded else {})
            say(json_text(line(recipe, loaded, result, warned, versions(), ending, given)))
    return result, len(loaded.datasets)
