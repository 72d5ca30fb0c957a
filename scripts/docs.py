#!/usr/bin/env python3
"""Write the recipe's fields into README.md from their one home, m2m/recipe/fields.py.

`scripts/docs.py` rewrites the part between the two markers; `--check` fails where it is stale.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from m2m.recipe import LISTS, SECTIONS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- fields: scripts/docs.py writes this -->\n", "<!-- end of fields -->\n"


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
    return spec.metadata["help"] + (f" ({choices})" if choices else "")


def fields() -> str:
    """The table of all sections."""
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    sections = {"[base]": SECTIONS["base"], **{f"[[{name}]]": kind for name, kind in LISTS.items()}}
    sections |= {f"[{name}]": kind for name, kind in SECTIONS.items() if name != "base"}
    for name, kind in sections.items():
        lines.append(f"| **`{name}`** | | |")
        specs = dataclasses.fields(kind)
        lines += [f"| `{spec.name}` | {default(spec)} | {meaning(spec)} |" for spec in specs]
    return "\n".join(lines) + "\n"


def current(text: str) -> str:
    """README with the table as it should be."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + fields() + END + rest.split(END)[1]


def main() -> None:
    """Check or rewrite."""
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(None if text == current(text) else "docs: README.md is stale: run scripts/docs.py")
    README.write_text(current(text), encoding="utf-8")


if __name__ == "__main__":
    main()
