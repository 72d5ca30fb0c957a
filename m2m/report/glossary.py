"""The words of reports and of the terminal, in plain sentences: the only list of them."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

from m2m.errors import InputError

_FILE = Path(__file__).with_name("glossary.toml")
_SPLIT = re.compile(r"^(?:dev|test) |, (?:dev|test)$")  # of a table's head "dev choice_bits"


@functools.cache
def glossary() -> dict[str, dict[str, Any]]:
    """Return the terms by name: {"text", "also"}; `also` are other names of the term."""
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: {"also": [], **entry} for name, entry in entries.items()}


def find(term: str) -> str:
    """Return the name of the term that is meant, whatever its case, brackets and underscores.

    Raises:
        InputError: no term has this name; the hint has the most similar ones.
    """
    known, asked = _spellings(), _plain(term)
    if asked in known:
        return known[asked]
    close = dict.fromkeys(known[name] for name in difflib.get_close_matches(asked, known, 3, 0.6))
    inside = dict.fromkeys(name for key, name in known.items() if asked and asked in key)
    meant = ", ".join([*(close or inside)][:3])
    hint = f"did you mean {meant}?" if meant else "`m2m explain` without a term lists all of them"
    raise InputError(f"m2m has no explanation of {term!r:.60}", hint)


def explanation(head: str) -> str | None:
    """Return the text about a table's head, such as "dev choice_bits"; None if there is none."""
    name = _spellings().get(_plain(_SPLIT.sub("", head)))
    return None if name is None else str(glossary()[name]["text"])


@functools.cache
def _spellings() -> dict[str, str]:
    return {
        _plain(spelling): name
        for name, entry in glossary().items()
        for spelling in (name, *entry["also"])
    }


def _plain(term: str) -> str:
    bare = term.partition("(")[0] if not term.startswith("(") else term
    return " ".join((bare.strip() or term).casefold().replace("_", " ").replace("-", " ").split())
