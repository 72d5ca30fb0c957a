"""The main job and its steps: `m2m run`, `train`, `search`, `confirm`, `export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from m2m.cli.batch import opened, run_batch
from m2m.cli.console import say
from m2m.cli.options import (
    RECIPE,
    anyway_option,
    data_root_option,
    hours_option,
    json_option,
    keep_recipes,
    leaks_option,
    quiet_option,
    recipe_command,
    refuse_out,
    rescore_option,
    run_options,
    share_option,
)


@click.command("run")
@click.argument(
    "recipes", nargs=-1, required=True, type=RECIPE, metavar="RECIPE...", callback=keep_recipes
)
@click.option("--keep-going", is_flag=True, help="After a recipe that fails, go on with the next.")
@hours_option
@leaks_option
@anyway_option
@run_options
@data_root_option
@rescore_option
@json_option
@quiet_option
def run(
    recipes: tuple[Path, ...],
    keep_going: bool,
    hours: float | None,
    as_json: bool,
    quiet: bool,
    **allowed: bool,
) -> None:
    """Do everything: train, search, confirm, export, report.

    The answer begins with a verdict. If that is "nothing learned", "keep the base" or "suspect", a
    GGUF is only made with --anyway. You can stop it at any time, and the power may fail: the same
    command continues. --json prints one line for each recipe, also if it fails; docs/reference.md
    has its fields. The exit code is 1 if a recipe failed. With --hours, longer runs are cut down,
    and m2m prints each cut.

    \b
    Example:  m2m run examples/swahili/recipe.toml
              m2m run monday.toml tuesday.toml --keep-going --json > results.jsonl
              m2m run recipe.toml --hours 8
    """
    if len(recipes) > 1:
        refuse_out()
    run_batch(recipes, keep_going=keep_going, hours=hours, as_json=as_json, quiet=quiet, **allowed)


@click.command("train")
@recipe_command
@leaks_option
@share_option
def train(
    recipe: Path, as_json: bool, quiet: bool, allow_leaks: bool, share: tuple[int, int] | None
) -> None:
    """Fine-tune one adapter for each dataset.

    Finished adapters are kept.

    \b
    Example:  m2m train examples/swahili/recipe.toml
              m2m train recipe.toml --share $SLURM_ARRAY_TASK_ID/8
    """
    from m2m.cli import show

    with opened(recipe, quiet, "train", share=share, allow_leaks=allow_leaks) as work:
        trained = work.train()
        none = 'No adapters: [search] strategy = "none" trains on all datasets at once.'
        shown, then = (lambda: show.adapters(trained)), "m2m search RECIPE"
        if not work.recipe.searches:
            shown, then = (lambda: say(none)), "m2m confirm RECIPE"
        show.result({"adapters": [each.as_json() for each in trained]}, as_json, shown, then)


@click.command("search")
@click.argument("recipe", type=RECIPE, required=False, metavar="RECIPE", callback=keep_recipes)
@click.option(
    "--from-csv",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Propose from a folder's ratios.csv and metrics.csv instead; scores nothing.",
)
@click.option("--metric", default="", help="With --from-csv: column of metrics.csv.")
@click.option(
    "--higher-is-better/--lower-is-better",
    "higher",
    default=None,
    help="With --from-csv: the direction of the metric, if m2m does not know it.",
)
@leaks_option
@run_options
@data_root_option
@rescore_option
@json_option
@quiet_option
@share_option
def search(
    recipe: Path | None,
    folder: Path | None,
    as_json: bool,
    quiet: bool,
    share: tuple[int, int] | None,
    **more: Any,
) -> None:
    """Score mixtures of the datasets, and rank them.

    Scored mixtures are kept. With --share they are only scored; a search without --share ranks the
    scores of all shares.

    \b
    Example:  m2m search examples/swahili/recipe.toml --json > ranking.json
              m2m search recipe.toml --share $SLURM_ARRAY_TASK_ID/16
              m2m search --from-csv examples/swahili/m2m-runs/recipe
    """
    from m2m.cli import show
    from m2m.counted import counted

    if folder is not None and recipe is None:
        from m2m.mix.tables import propose_from

        proposed = propose_from(folder, more["metric"], higher=more["higher"])
        show.result(proposed.as_json(), as_json, lambda: show.proposals(proposed))
        return
    if recipe is None or folder is not None:
        raise click.UsageError("give a RECIPE or --from-csv FOLDER")
    allowed = {name: more[name] for name in ("allow_leaks", "rescore")}
    with opened(recipe, quiet, "search", None, hours=None, share=share, **allowed) as work:
        if share:
            count = work.search_share()
            show.result(
                {"scored": count}, as_json, lambda: say(f"{counted(count, 'model')} scored")
            )
            return
        ranking = work.search()
        then = "m2m confirm RECIPE" if ranking.places else ""
        show.result(ranking.as_json(), as_json, lambda: show.ranking(ranking), then)


@click.command("confirm")
@recipe_command
@leaks_option
@rescore_option
@share_option
def confirm(
    recipe: Path,
    as_json: bool,
    quiet: bool,
    share: tuple[int, int] | None,
    allow_leaks: bool,
    rescore: bool,
) -> None:
    """Really fine-tune the best mixtures and the baselines.

    They are scored on the dev and test sets, and the best on dev wins. With --share, only this part
    of the fine-tunes is made; with budget "until", of the present rung, and all shares can be
    started again for the next one. A confirm without --share does the rest.

    \b
    Example:  m2m confirm examples/swahili/recipe.toml
              m2m confirm recipe.toml --share $SLURM_ARRAY_TASK_ID/4
    """
    from m2m.cli import show

    with opened(
        recipe, quiet, "confirm", share=share, allow_leaks=allow_leaks, rescore=rescore
    ) as work:
        if share:
            part = work.confirm_share()
            show.result(part.as_json(), as_json, lambda: show.part(part))
            return
        confirmed = work.confirm()
        show.result(
            confirmed.as_json(),
            as_json,
            lambda: show.confirmed(confirmed, len(work.recipe.datasets)),
            "m2m report RECIPE" if confirmed.verdict.withheld else "m2m export RECIPE",
        )


@click.command("export")
@recipe_command
@leaks_option
@anyway_option
def export(recipe: Path, as_json: bool, quiet: bool, allow_leaks: bool, anyway: bool) -> None:
    """Write the winner as a GGUF file, for llama.cpp and Ollama.

    An Ollama Modelfile, a GGUF LoRA and a model card are written too.

    \b
    Example:  m2m export examples/swahili/recipe.toml
    """
    from m2m.cli import show

    with opened(recipe, quiet, "export", allow_leaks=allow_leaks, anyway=anyway) as work:
        exported = work.export()
        then = f"m2m chat {shlex.quote(str(exported.gguf))}"
        show.result(exported.as_json(), as_json, lambda: show.exported(exported), then)


COMMANDS = [run, train, search, confirm, export]
