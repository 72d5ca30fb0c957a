"""`m2m explain`: the words of reports and of the terminal, in plain sentences."""

from __future__ import annotations

import click

from m2m.cli.console import say
from m2m.cli.options import json_option


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
    from m2m.report.glossary import find, glossary

    known = glossary()
    if not terms:
        show.result(known, as_json, lambda: say(*sorted(known, key=str.casefold)))
        return
    name = find(" ".join(terms))
    entry = {"term": name, **known[name]}
    show.result(entry, as_json, lambda: say(f"{name}: {entry['text']}"))


COMMANDS = [explain]
