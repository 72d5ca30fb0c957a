"""`m2m judge`: let people compare answers without knowing the models."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from m2m.cli.console import say
from m2m.cli.options import json_option, keep_recipes, quiet_option

_MAKING = ("pairs", "seed", "target", "title")


@click.command("judge")
@click.argument(
    "run", type=click.Path(path_type=Path), metavar="RECIPE|RUNDIR", callback=keep_recipes
)
@click.argument(
    "answers",
    nargs=-1,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="[ANSWERS.json]...",
)
@click.option("--pairs", type=click.IntRange(1, 1000), default=40, show_default=True,
              help="How many pairs of answers to draw.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Draws the questions, and shuffles pairs and sides.")  # fmt: skip
@click.option("--target", default="", help="A target of the recipe; else its first.")
@click.option("--ask", "title", default="Which answer is better?", show_default=True,
              help="The question to the judges, in their language.")  # fmt: skip
@json_option
@quiet_option
@click.pass_context
def judge(
    context: click.Context,
    /,
    run: Path,
    answers: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    **making: object,
) -> None:
    """Let native speakers judge the answers of a run.

    Without ANSWERS it writes one HTML page, which works offline and on a phone: pairs of answers by
    the base model, the runner-up and the winner, shuffled, without names. Answers that are the same
    are not asked; they count as ties. Each judge saves a small file and sends it back. With these
    files it says which model people prefer, and how far they agree. Report and card say it too.

    \b
    Example:  m2m judge recipe.toml --pairs 40
              m2m judge recipe.toml answers-*.json
    """
    from m2m.cli import show
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.commands.judge import judge as judged_by
    from m2m.commands.judge import make_page
    from m2m.counted import counted
    from m2m.recipe import run_folder
    from m2m.results.folder import RunFolder
    from m2m.results.judging import judged_table

    folder = run if run.is_dir() else run_folder(run)
    if answers:
        given = [n for n in _MAKING if context.get_parameter_source(n) != ParameterSource.DEFAULT]
        if given:
            raise click.UsageError(f"--{given[0]} is for making a page, without files of answers.")
        judged = judged_by(folder, answers)

        def shown() -> None:
            say(*judged.sentences)
            show.print_result(judged_table(judged))

        show.result(judged.as_json(), as_json, shown)
        return
    progress = TerminalProgress(quiet)
    with stoppable(progress):
        recipe = None if run.is_dir() else run
        key = make_page(folder, progress=progress, recipe=recipe, **making)  # type: ignore[arg-type]
    page, same = RunFolder(folder).judge_page(key.page), len(key.pairs) - key.asked

    def made() -> None:
        say(f"Page     {page}")
        say(f"         {counted(key.asked, 'pair')} to judge; {same} more with the same answers")
        say("Next     send the page to speakers; when their files are back:")
        say(f"         m2m judge {run} answers-*.json", copied=True)

    about = {"page": str(page), "target": key.target, "part": key.part, "models": key.models}
    show.result({**about, "pairs": key.asked, "same": same}, as_json, made)


COMMANDS = [judge]
