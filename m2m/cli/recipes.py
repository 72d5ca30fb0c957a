"""The main job and its steps: `m2m run`, `train`, `search`, `confirm`, `export`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2m.cli.options import recipe_command

if TYPE_CHECKING:
    from m2m.pipeline.run import Run


@click.command("run")
@recipe_command
def run(recipe: Path, as_json: bool, quiet: bool) -> None:
    """Do everything that RECIPE asks for: train, search, confirm, export.

    Stop it at any time, also by pulling the plug: the same command goes on where it was.

    \b
    Example:  m2m run examples/swahili/recipe.toml
    """
    from m2m.cli import show

    with opened(recipe, quiet, "run") as work:
        found = work.run()
        show.result(found.as_json(), as_json, lambda: show.run(found))


@click.command("train")
@recipe_command
def train(recipe: Path, as_json: bool, quiet: bool) -> None:
    """Fine-tune one adapter per dataset of RECIPE; finished ones are kept.

    \b
    Example:  m2m train examples/swahili/recipe.toml
    """
    from m2m.cli import show

    with opened(recipe, quiet, "train") as work:
        found = work.train()
        adapters = {"adapters": [each.as_json() for each in found]}
        show.result(adapters, as_json, lambda: show.adapters(found))


@click.command("search")
@recipe_command
def search(recipe: Path, as_json: bool, quiet: bool) -> None:
    """Score the mixtures of RECIPE's datasets and rank them; scored ones are kept.

    \b
    Example:  m2m search examples/swahili/recipe.toml --json > ranking.json
    """
    from m2m.cli import show

    with opened(recipe, quiet, "search") as work:
        found = work.search()
        show.result(found.as_json(), as_json, lambda: show.ranking(found))


@click.command("confirm")
@recipe_command
def confirm(recipe: Path, as_json: bool, quiet: bool) -> None:
    """Really fine-tune on the best mixtures and the baselines, and score them on the test set.

    \b
    Example:  m2m confirm examples/swahili/recipe.toml
    """
    from m2m.cli import show

    with opened(recipe, quiet, "confirm") as work:
        found = work.confirm()
        show.result(found.as_json(), as_json, lambda: show.confirmed(found))


@click.command("export")
@recipe_command
def export(recipe: Path, as_json: bool, quiet: bool) -> None:
    """Write the winner as a GGUF with an Ollama Modelfile.

    \b
    Example:  m2m export examples/swahili/recipe.toml
    """
    from m2m.cli import show

    with opened(recipe, quiet, "export") as work:
        found = work.export()
        show.result(found.as_json(), as_json, lambda: show.exported(found))


@contextmanager
def opened(
    recipe: Path, quiet: bool, command: str, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Run]:
    """The recipe's run, locked, with progress; an interruption names the line that resumes.

    Args:
        recipe: the file.
        quiet: no progress.
        command: that resumes.
        changes: fields by section that take another value than in the file; None changes nothing.
    """
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.errors import Interrupted
    from m2m.pipeline.run import Run
    from m2m.recipe import changed, load_recipe
    from m2m.store import run_lock

    progress = TerminalProgress(quiet)
    loaded = changed(load_recipe(recipe), changes or {})
    try:
        with run_lock(loaded.folder), stoppable(progress):
            yield Run(loaded, progress)
    except (Interrupted, KeyboardInterrupt) as error:
        reason = error.message if isinstance(error, Interrupted) else "stopped"
        raise Interrupted(
            reason, f"go on with `m2m {command} {shlex.quote(str(recipe))}`"
        ) from error


COMMANDS = [run, train, search, confirm, export]
