"""The parts on their own: `m2m merge`, `quantize`, `eval`, `chat`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from m2m.cli.options import json_option

PATH = click.Path(path_type=Path)
TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")


@click.command("merge")
@click.option("--model", required=True, help="Base model: a name under models/, or a folder.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    required=True,
    metavar="DIR[=WEIGHT]",
    help="PEFT folder; equal weights where none is given. Repeatable.",
)
@click.option("--method", default="linear", show_default=True, help="Merge method.")
@click.option("--type", "kind", type=click.Choice(TYPES), default="q8_0", show_default=True)
@click.option("--out", type=PATH, required=True, help="NAME.gguf, or a folder in HF format.")
@json_option
def merge(
    model: str, adapters: tuple[str, ...], method: str, kind: str, out: Path, as_json: bool
) -> None:
    """Merge adapters' deltas into a base model; write a GGUF or an HF folder.

    \b
    Example:  m2m merge --model smollm2-135m-instruct --adapter a --adapter b --out merged.gguf
    """
    from m2m.cli import show
    from m2m.pipeline.tools import merge_adapters

    found = merge_adapters(model, adapters, method, kind, out)
    show.result(found.as_json(), as_json, lambda: show.merged(found))


@click.command("quantize")
@click.argument("source", type=PATH, metavar="IN.gguf")
@click.argument("out", type=PATH, metavar="OUT.gguf")
@click.option("--type", "kind", type=click.Choice(TYPES), required=True)
def quantize(source: Path, out: Path, kind: str) -> None:
    """Write a GGUF in another type, with metadata and vocabulary as they were.

    \b
    Example:  m2m quantize base.gguf small.gguf --type q4_0
    """
    from m2m.export.gguf import requantize

    written = requantize(source, out, kind)
    click.echo(f"{out}: " + ", ".join(f"{count} {name}" for name, count in written.items()))


@click.command("eval")
@click.argument("model")
@click.argument("task", type=PATH, metavar="TASK.jsonl")
@click.option("--template", type=click.Choice(["chat", "plain"]), default="chat")
@json_option
def evaluate(model: str, task: Path, template: str, as_json: bool) -> None:
    """Score MODEL (a GGUF file, or a name under models/) on TASK.jsonl, every metric that fits.

    \b
    Example:  m2m eval export/winner.gguf target/test.jsonl
    """
    from m2m.cli import show
    from m2m.pipeline.tools import evaluate_model

    found = evaluate_model(model, task, template)
    show.result(found, as_json, lambda: show.evaluation(**found))


@click.command("chat")
@click.argument("model")
@click.option("--temperature", default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--tokens", default=256, show_default=True, help="Longest answer.")
@click.option("--seed", default=0, show_default=True)
def chat(model: str, temperature: float, tokens: int, seed: int) -> None:
    """Talk to MODEL (a GGUF file, or a name under models/); a line a turn, end with Ctrl-D.

    \b
    Example:  m2m chat export/winner.gguf
              echo "Translate from Swahili to English: shule" | m2m chat export/winner.gguf
    """
    from m2m.pipeline.tools import Chat

    with Chat(model, temperature, tokens, seed) as talk:
        while True:
            if sys.stdin.isatty():
                click.echo("> ", nl=False, err=True)
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip():
                for piece in talk.answer(line.strip()):
                    click.echo(piece, nl=False)
                click.echo()


COMMANDS = [merge, quantize, evaluate, chat]
