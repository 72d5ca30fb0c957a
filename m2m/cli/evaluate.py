"""`m2m eval`: compare models on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from m2m.cli.options import (
    FILE_FIELDS,
    data_root_option,
    data_roots,
    field_options,
    json_option,
    lora_option,
    quiet_option,
)
from m2m.recipe import QUANTIZATIONS, Data, Target

TASKS = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".txt", ".yaml", ".yml"),
    *(".parquet", ".arrow", ".feather", ".xlsx", ".xls", ".ods", ".gz", ".bz2", ".xz", ".zst"),
)
ASKING = [
    *("metric", "prompt", "answer", "answers", "choices", "template", "instruction"),
    *("system", "text", "messages", "labels", "where"),
    *FILE_FIELDS,
    *("shots", "shots_from", "shots_seed", "answer_prefix", "answer_suffix"),
    *("stop", "max_tokens", "window"),
]


@click.command("eval")
@click.argument("named", nargs=-1, required=True, metavar="MODEL... TASK...")
@field_options(Target, ASKING)
@field_options(Data, ["normalise"])
@lora_option
@click.option(
    "--type",
    "kind",
    type=click.Choice(["auto", "stored", *QUANTIZATIONS]),
    default="auto",
    show_default=True,
    help="Type in which models are scored. auto: a GGUF file as it is stored, a model under "
    "models/ in q8_0, as `m2m run` scores it.",
)
@click.option(
    "--log-samples",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write each model's answer to each example, as JSON lines.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write results and answers as lm-evaluation-harness does, in a folder for each model.",
)
@data_root_option
@json_option
@quiet_option
def evaluate(
    named: tuple[str, ...],
    lora: Path | None,
    log_samples: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Score models on tasks, and compare them.

    Every metric that fits is printed. Several models are compared with the first one.

    A MODEL is a GGUF file or a name under models/, also MODEL+LORA.gguf. A TASK is a file of rows,
    in any format that a dataset may have, or a task file (YAML) of lm-evaluation-harness. The
    options are the fields of a recipe's target, and its `normalise`.

    \b
    Example:  m2m eval export/winner.gguf target/test.jsonl
              m2m eval smollm2-135m-instruct export/winner.gguf test.jsonl arc_sw.yaml
    """
    import datetime

    from m2m.cli import show
    from m2m.cli.console import TerminalProgress, stoppable
    from m2m.commands.eval import Reading, compare_models, write_samples
    from m2m.commands.eval_files import write_results

    started = datetime.datetime.now()
    tasks = [Path(name) for name in named if name.lower().endswith(TASKS)]
    models = [name for name in named if not name.lower().endswith(TASKS)]
    if not tasks or not models:
        missing = "TASK, a file such as test.jsonl" if models else "MODEL"
        raise click.UsageError(f"give at least one {missing}.")
    reading = Reading(data_roots(), how.pop("normalise"), how.pop("kind"), bool(out))
    if out:
        out.mkdir(parents=True, exist_ok=True)  # found out before hours of scoring
    target = Target(name="task", dev=tasks[0], **how)
    progress = TerminalProgress(quiet)
    with stoppable(progress):
        comparison = compare_models(models, tasks, target, lora, progress, reading)
    for warning in comparison.warnings:
        progress.warn(warning)
    show.result(comparison.as_json(), as_json, lambda: show.comparison(comparison))
    if log_samples:
        write_samples(comparison, log_samples)
    written = write_results(comparison, out, started) if out else []
    for path in (path for path in written if path.name.startswith("results_")):
        progress.note(f"Results in the form of lm-evaluation-harness: {path}")


COMMANDS = [evaluate]
