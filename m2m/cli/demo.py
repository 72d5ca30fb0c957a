"""`m2m demo`: show all steps on one recipe, with explanations."""

from __future__ import annotations

from pathlib import Path

import click

from m2m.cli.batch import opened
from m2m.cli.console import say
from m2m.cli.options import RECIPE, data_root_option, data_roots, quiet_option

EXAMPLE = Path("examples", "swahili", "demo.toml")
ASKED = 3


@click.command("demo")
@click.argument("recipe", type=RECIPE, required=False, metavar="[RECIPE]")
@data_root_option
@quiet_option
def demo(recipe: Path | None, quiet: bool) -> None:
    """Show every step on a small example, in about ten minutes.

    The steps: look at the data, plan, run, and ask the model before and after. Without a RECIPE it
    uses the Swahili example. The time is for two cores.

    \b
    Example:  m2m demo
    """
    from m2m.cli import data, plan, show
    from m2m.commands.chat import ask
    from m2m.commands.data_check import check_recipe
    from m2m.pipeline.inputs import read_inputs
    from m2m.recipe import load_recipe

    recipe = recipe or example_recipe()
    loaded = load_recipe(recipe, data_roots())
    inputs = read_inputs(loaded)
    say(
        f"A lab has {len(loaded.datasets)} datasets, {', '.join(inputs.corpora)}, and a task, "
        f"{loaded.targets[0].name}. Which of them should {inputs.base.name} be fine-tuned on?",
        "",
    )
    say("1. Look at the data (m2m data check). Files may disagree about the answers.")
    data.show_checked(check_recipe(loaded))
    say("", "2. Estimate time and memory (m2m plan): a few real steps, timed.")
    plan.show_plan(plan.planned(inputs, quiet))
    say("", "3. One adapter per dataset; every mixture of them merged and scored; the best and")
    say("   the baselines really fine-tuned (m2m run). Stop it at any time.")
    with opened(recipe, quiet, "demo") as work:
        outcome = work.run()
    show.run(outcome, len(loaded.datasets))
    if outcome.exported is None:
        return
    say("", "4. Ask the model before and after (m2m chat).")
    task = next(iter((inputs.test or inputs.dev).values()))
    examples = task.examples[:ASKED]
    questions = [example.prompt or example.choices[0] for example in examples]
    before = ask(str(inputs.base.gguf.path), questions)
    after = ask(str(outcome.exported.gguf), questions)
    for example, question, old, new in zip(examples, questions, before, after, strict=True):
        say("", f"   {question}", f"      before  {old}", f"      after   {new}")
        if example.prompt:
            say(f"      right   {example.choices[example.gold]}")


def example_recipe() -> Path:
    """Find the example recipe: in this folder, or next to m2m's own source."""
    from m2m.errors import InputError

    for root in (Path(), Path(__file__).parents[2]):
        if (root / EXAMPLE).is_file():
            return root / EXAMPLE
    raise InputError(
        f"there is no {EXAMPLE} here", "run this in m2m's own folder, or name a recipe"
    )


COMMANDS = [demo]
