#!/usr/bin/env python3
"""Write the generated parts of the docs, each from its one home: fields, --help, families, words.

`scripts/docs.py` rewrites the text between the markers of docs/reference.md and docs/glossary.md;
`--check` fails if something is stale.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from m2m.cli.main import CONTEXT, cli
from m2m.families import FAMILIES
from m2m.recipe import LISTS, SECTIONS
from m2m.report.glossary import glossary
from m2m.results.outcome import FIELDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "docs" / "reference.md", ROOT / "docs" / "glossary.md")
WIDTH = 100
PART = re.compile(
    r"(<!-- (\w+): scripts/docs\.py writes this -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL
)


def default(spec: dataclasses.Field[Any]) -> str:
    """How a field's default is written in TOML."""
    if spec.default is dataclasses.MISSING:
        return "needed"
    value = spec.default
    if isinstance(value, tuple) and value:
        return "all of them" if value == tuple(spec.metadata.get("choices", ())) else repr(value)
    return (
        "none"
        if value in ("", None, ())
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def meaning(spec: dataclasses.Field[Any]) -> str:
    """A field's help with the values it takes."""
    choices = ", ".join(f"`{choice}`" for choice in spec.metadata.get("choices", ()))
    text = str(spec.metadata["help"])
    return f"{text} ({choices})" if choices else text


def fields() -> str:
    """The table of all sections."""
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    sections = {"[base]": SECTIONS["base"], **{f"[[{name}]]": kind for name, kind in LISTS.items()}}
    sections |= {f"[{name}]": kind for name, kind in SECTIONS.items() if name != "base"}
    for name, kind in sections.items():
        lines.append(f"| **`{name}`** | | |")
        specs = [spec for spec in dataclasses.fields(kind) if "hidden" not in spec.metadata]
        lines += [f"| `{spec.name}` | {default(spec)} | {meaning(spec)} |" for spec in specs]
    return "\n".join(lines) + "\n"


def lines() -> str:
    """The table of the fields of a line of `m2m run --json`."""
    rows = [f"| `{name}` | {text} |" for name, text in FIELDS.items()]
    return "\n".join(["| field | content |", "| --- | --- |", *rows]) + "\n"


def families() -> str:
    """The table of the model families."""
    lines = [
        "| models | `model_type` of config.json | architecture of GGUF |",
        "| --- | --- | --- |",
    ]
    for family in FAMILIES.values():
        kinds = ", ".join(f"`{kind}`" for kind in family.model_types)
        lines.append(f"| {family.title} | {kinds} | `{family.architecture}` |")
    return "\n".join(lines) + "\n"


def terms() -> str:
    """The table of the words that `m2m explain` knows."""
    rows = [
        f"| {', '.join([f'**{name}**', *entry['also']])} | {entry['text']} |"
        for name, entry in sorted(glossary().items(), key=lambda item: item[0].casefold())
    ]
    return "\n".join(["| word | meaning |", "| --- | --- |", *rows]) + "\n"


def commands() -> str:
    """The help of every command, in the order of the command line."""
    settings: dict[str, Any] = {**CONTEXT, "terminal_width": WIDTH}
    root = click.Context(cli, info_name="m2m", **settings)
    return "\n".join(
        f"### `{context.command_path}`\n\n```text\n{context.get_help()}\n```\n"
        for context in contexts(root)
    )


def contexts(context: click.Context) -> Iterator[click.Context]:
    """A command's context, then those of the commands in it."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            yield from contexts(click.Context(command, parent=context, info_name=name))


def current(text: str) -> str:
    """A page with its generated parts as they should be."""
    parts = {"fields": fields, "commands": commands, "families": families, "glossary": terms}
    parts["lines"] = lines
    return PART.sub(lambda match: match[1] + parts[match[2]]() + match[3], text)


def main() -> None:
    """Check or rewrite."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if "--check" not in sys.argv:
            path.write_text(current(text), encoding="utf-8", newline="\n")
        elif text != current(text):
            sys.exit(f"docs: {path.relative_to(ROOT)} is stale: run scripts/docs.py")


if __name__ == "__main__":
    main()
