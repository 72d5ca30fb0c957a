"""Single parts of a run as commands: `m2m merge`, `quantize`, `chat`."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from m2m.cli.console import say, say_next, say_on, warn
from m2m.cli.options import field_options, json_option, lora_option
from m2m.recipe import QUANTIZATIONS, Merge

PATH = click.Path(path_type=Path)
TYPES = click.Choice(QUANTIZATIONS)


@click.command("merge")
@click.option("--model", required=True, help="Base model: a name under models/, or a folder.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    required=True,
    metavar="DIR[=WEIGHT]",
    help="PEFT folder; equal weights if you give none. Repeatable.",
)
@field_options(Merge, [spec.name for spec in dataclasses.fields(Merge) if spec.name != "growth"])
@click.option(
    "--type",
    "kind",
    type=TYPES,
    help="Type of the weights; else q8_0 for a GGUF, and the base's own for a folder.",
)
@click.option(
    "--rank", type=click.IntRange(1, 1 << 16), help="Write an adapter of this rank, not a model."
)
@click.option(
    "--out",
    type=PATH,
    required=True,
    help="NAME.gguf, or a folder (a model in HF format, or PEFT).",
)
@json_option
def merge(
    model: str,
    adapters: tuple[str, ...],
    kind: str | None,
    rank: int | None,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Merge adapters into a base model, or into one adapter.

    The deltas are merged as `--method` says. With --rank the result is one LoRA adapter of that
    rank.

    \b
    Example:  m2m merge --model smollm2-135m-instruct --adapter a --adapter b --out merged.gguf
              m2m merge --model smollm2-135m-instruct --adapter a=1 --rank 16 --out a-lora.gguf
    """
    from m2m.cli import show
    from m2m.commands.merge import merge_adapters

    merged = merge_adapters(model, adapters, Merge(**options), kind, rank, out)
    words = [model, "--lora", str(out)] if rank else [str(out)]
    then = shlex.join(["m2m", "chat", *words]) if out.suffix == ".gguf" else ""
    if not then and not rank:
        then = shlex.join(["m2m", "models", "add", str(out)])
    show.result(merged.as_json(), as_json, lambda: show.merged(merged), then)


@click.command("quantize")
@click.argument("source", type=PATH, metavar="IN.gguf")
@click.argument("out", type=PATH, metavar="OUT.gguf")
@click.option("--type", "kind", type=TYPES, required=True)
def quantize(source: Path, out: Path, kind: str) -> None:
    """Write a GGUF file in another type.

    Metadata and vocabulary stay as they were.

    \b
    Example:  m2m quantize base.gguf small.gguf --type q4_0
    """
    from m2m.export.merged_gguf import requantize

    written = requantize(source, out, kind)
    say(f"{out}: " + ", ".join(f"{count} {name}" for name, count in written.items()))
    say_next(shlex.join(["m2m", "chat", str(out)]))


@click.command("chat")
@click.argument("model")
@click.option("--temperature", default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--tokens", default=256, show_default=True, help="Longest answer.")
@click.option("--seed", default=0, show_default=True)
@click.option("--system", help="System message.")
@lora_option
def chat(
    model: str, temperature: float, tokens: int, seed: int, system: str | None, lora: Path | None
) -> None:
    """Talk to a model.

    MODEL is a GGUF file, or a name under models/. Each line that you type is one turn, and the
    model remembers the conversation. /new starts a new one, Ctrl-C stops an answer, and exit, quit
    or Ctrl-D ends the chat.

    \b
    Example:  m2m chat export/winner.gguf
              echo "Translate from Swahili to English: shule" | m2m chat export/winner.gguf
    """
    from m2m.commands.chat import Chat, questions_of
    from m2m.llamacpp.generate import Sampling

    sampling = Sampling(temperature=temperature, max_tokens=tokens)
    with Chat(model, sampling, seed, system=system, lora=lora) as talk:
        warn(talk.warnings)
        if sys.stdin.isatty():
            say(f"You talk to {Path(model).name}. Type a message. /new forgets it all, exit ends.")
            for question in questions_of(model):
                say(f"  a question to try: {question}")
        for line in _lines():
            if line == "/new":
                talk.forget()
                continue
            try:
                for piece in talk.answer(line):
                    say_on(piece)
            except KeyboardInterrupt:
                if not sys.stdin.isatty():
                    raise
            say("")


_ENDS = ("exit", "quit", "/exit", "/quit", "/bye")


def _lines() -> Iterator[str]:
    """Yield the lines that the user types, without empty ones; on a terminal with arrow keys."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (input() takes line editing and history from it)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line.lower() in _ENDS:
            return
        if line:
            yield line


COMMANDS = [merge, quantize, chat]
