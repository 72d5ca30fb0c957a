"""`m2m validate` and `m2m more-rows`: how far to trust a ranking, and more rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from m2m.cli.options import leaks_option, recipe_command, share_option


class Budget(click.ParamType[Any]):
    """A regime by name, or a number of steps."""

    name = "fixed|proportional|STEPS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int:
        """Return the word or the number."""
        if value in ("fixed", "proportional"):
            return str(value)
        return int(click.IntRange(1).convert(value, param, ctx))


@click.command("validate")
@recipe_command
@leaks_option
@share_option
@click.option("--mixtures", type=click.IntRange(1), help="How many; default: [validate] mixtures.")
@click.option("--budget", type=Budget(), help="Their steps; default: [confirm] budget.")
def validate(
    recipe: Path,
    as_json: bool,
    quiet: bool,
    allow_leaks: bool,
    share: tuple[int, int] | None,
    mixtures: int | None,
    budget: str | int | None,
) -> None:
    """Measure how well the ranking predicts real fine-tunes.

    It really fine-tunes a sample of the mixtures, and takes as long as that many fine-tunes.
    Finished ones are kept: a larger --mixtures continues from them. With --share, only this part of
    the fine-tunes is made; a validate without --share does the rest.

    \b
    Example:  m2m validate examples/swahili/recipe.toml --mixtures 12
              m2m validate examples/swahili/recipe.toml --budget proportional
    """
    from m2m.cli import show
    from m2m.cli.batch import opened

    changes: dict[str, dict[str, Any]] = {
        "validate": {"mixtures": mixtures},
        "confirm": {"budget": budget},
    }
    with opened(recipe, quiet, "validate", changes, share=share, allow_leaks=allow_leaks) as work:
        if share:
            part = work.validate_share()
            show.result(part.as_json(), as_json, lambda: show.part(part))
            return
        validation = work.validate()
        show.result(
            validation.as_json(), as_json, lambda: show.validation(validation), "m2m report RECIPE"
        )


@click.command("more-rows")
@recipe_command
@leaks_option
@click.option("--dataset", "datasets", multiple=True, help="Only this one; can be repeated.")
def more_rows(
    recipe: Path, as_json: bool, quiet: bool, allow_leaks: bool, datasets: tuple[str, ...]
) -> None:
    """Measure how much more rows of each dataset would help.

    It trains two more adapters for each dataset, on the two halves of its rows, for as many steps
    as the one on all rows, and compares them on the dev questions. That takes about twice as long
    as `m2m train`.

    \b
    Example:  m2m more-rows examples/swahili/recipe.toml --dataset sw_school
    """
    from m2m.cli import show
    from m2m.cli.batch import opened

    with opened(recipe, quiet, "more-rows", allow_leaks=allow_leaks) as work:
        found = work.more_rows(datasets)
        show.result(found.as_json(), as_json, lambda: show.more_rows(found), "m2m report RECIPE")


COMMANDS = [validate, more_rows]
