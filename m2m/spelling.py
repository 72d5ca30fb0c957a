"""Find the name that was probably meant by one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def close(name: str, known: Iterable[str]) -> list[str]:
    """Return the likely word, if any: spelt nearly the same, or the only one with this start."""
    words = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), words, 1, 0.6)
    begin = [word for word in words if word.startswith(name.lower()) and len(name) > 2]
    return [words[word] for word in near or begin[: len(begin) == 1]]


def likely(name: str, known: Iterable[str]) -> str:
    """Suggest the word that was probably meant, or list all known ones."""
    known = [*known]
    words = close(name, known)
    return f"did you mean {words[0]}?" if words else f"known are {', '.join(known)}"
