"""The line to type next, with the recipe and the options that the user gave."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from m2m.cli.options import OUT, OVERRIDES, RECIPES, ROOTS, given_recipe

_LINE = re.compile(r"\b(m2m (?:data )?([a-z-]+)) RECIPE\b")
_TAKES_OUT = {"run", "train", "search", "confirm", "plan", "validate", "report", "export",
              "more-rows"}  # fmt: skip
_TAKES_ROOTS = {*_TAKES_OUT, "check", "clean", "preview"} - {"report"}
_TAKES_FOLDERS = {"judge", "compare"}


def named(text: str) -> str:
    """Return a text with the user's recipe and options in each `m2m COMMAND RECIPE`."""
    context = click.get_current_context(silent=True)
    recipes: Sequence[Path] = context.meta.get(RECIPES, ()) if context else ()
    if context is None or len(recipes) != 1:
        return text
    path, meta = recipes[0], context.meta

    def line(match: re.Match[str]) -> str:
        return f"{match[1]} {shlex.join(_words(match[2], path, meta))}"

    return _LINE.sub(line, text)


def _words(command: str, path: Path, meta: dict[str, Any]) -> list[str]:
    """Return the words after a command that name the same run."""
    out, texts = meta.get(OUT), meta.get(OVERRIDES) or {}
    if command in _TAKES_FOLDERS and (out or texts):
        return [str(out or given_recipe(path).folder)]
    words = [str(path)]
    if command in _TAKES_OUT:
        words += [part for key, text in texts.items() for part in ("--set", f"{key}={text}")]
        words += ["--out", str(out)] if out else []
    if command in _TAKES_ROOTS:
        words += [part for root in meta.get(ROOTS) or () for part in ("--data-root", str(root))]
    return words
