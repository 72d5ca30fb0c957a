"""`m2m explain`: the words of reports and of the terminal, in plain sentences."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from m2m.cli.console import say
from m2m.cli.options import json_option
from m2m.errors import InputError

_FILE = Path(__file__).with_name("glossary.toml")


def glossary() -> dict[str, dict[str, Any]]:
    """Return the terms by name: {"text", "also"}; `also` are other names of the term."""
    import tomllib

    with _FILE.open("rb") as file:
        return {name: {"also": [], **entry} for name, entry in tomllib.load(file).items()}


def find(term: str) -> str:
    """Return the name of the term that is meant, whatever its case, brackets and underscores.

    Raises:
        InputError: no term has this name; the hint has the most similar ones.
    """
    known = {
        _plain(spelling): name
        for name, entry in glossary().items()
        for spelling in (name, *entry["also"])
    }
    asked = _plain(term)
    if asked in known:
        return known[asked]
    close = dict.fromkeys(known[name] for name in difflib.get_close_matches(asked, known, 3, 0.6))
    inside = dict.fromkeys(name for key, name in known.items() if asked and asked in key)
    meant = ", ".join([*(close or inside)][:3])
    hint = f"did you mean {meant}?" if meant else "`m2m explain` without a term lists all of them"
    raise InputError(f"m2m has no explanation of {term!r:.60}", hint)


def _plain(term: str) -> str:
    bare = term.partition("(")[0] if not term.startswith("(") else term
    return " ".join((bare.strip() or term).casefold().replace("_", " ").replace("-", " ").split())


@click.command("explain")
@click.argument("terms", nargs=-1, metavar="[TERM]...")
@json_option
def explain(terms: tuple[str, ...], as_json: bool) -> None:
    """Explain a word that a report or the terminal shows.

    Without a TERM it lists all words that it knows.

    \b
    Example:  m2m explain choice_bits
              m2m explain tie inside
    """
    from m2m.cli import show

    known = glossary()
    if not terms:
        show.result(known, as_json, lambda: say(*sorted(known, key=str.casefold)))
        return
    name = find(" ".join(terms))
    entry = {"term": name, **known[name]}
    show.result(entry, as_json, lambda: say(f"{name}: {entry['text']}"))


COMMANDS = [explain]
