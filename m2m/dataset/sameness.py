"""Decide when two texts are the same: one rule for answers, choices, questions, rows and leaks.

Texts are compared in a normal form that favours no language: Unicode NFKC, case folded, format
characters dropped, white space and punctuation as single spaces. An apostrophe inside a word
(ng'ombe), the point or comma of a number (3.5), the sign before one (-5) and the operator between
two (6 / 2, 3/4, 6 - 2) stay, because they change the meaning; so do accents, tone marks and
symbols. A text of punctuation only is not changed. Unlike SQuAD's form, this one keeps English
articles, and punctuation separates words that SQuAD's form joins.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_OTHER_APOSTROPHES = "\u2018\u2019\u02bc\u02bb\uff07\u02b9`\u00b4"
# Marks that may be part of a word or number, the sign before a number, operators between numbers.
_KEPT = re.compile(r"['.,]|(?<![\w.,])-(?=\d)|(?<=\d)[*/](?=\d)|(?<=\d )[-*/](?= -?\d)")


class _Table(dict[int, int | str | None]):
    """The replacement of each character, for `str.translate`; filled as characters occur."""

    def __init__(self, spaces: str) -> None:
        self._spaces = spaces  # first letters of the Unicode categories that become a space

    def __missing__(self, code: int) -> int | str | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category == "Cf" else " " if category[0] in self._spaces else code
        return self[code]


_WORDS, _SIGNS = _Table("PZC"), _Table("ZC")


def normalize(text: str) -> str:
    """Return the form in which texts are compared; see the module."""
    return _short(text) if len(text) <= _SHORT else _normal(text)


def _normal(text: str) -> str:
    if not text.isascii() or "`" in text:
        for mark in _OTHER_APOSTROPHES:
            text = text.replace(mark, "'")
    text = text.replace("\u2212", "-")
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.replace("\u2044", "/").split())  # the slash of a fraction such as ½
    parts, done = [], 0
    for match in _KEPT.finditer(text):
        at = match.start()
        if text[at] in "-*/" or _inside(text, at):
            parts += [text[done:at].translate(_WORDS), text[at]]
            done = at + 1
    words = " ".join("".join([*parts, text[done:].translate(_WORDS)]).split())
    return words or " ".join(text.translate(_SIGNS).split())


_SHORT = 100  # characters; choices and labels come again and again
_short = lru_cache(maxsize=1 << 16)(_normal)


def _inside(text: str, at: int) -> bool:
    """Return whether the apostrophe, point or comma at `at` is part of a word or number."""
    if at == 0:
        return False
    before, after = text[at - 1], text[at + 1 : at + 2]
    if text[at] == "'":
        return _in_word(before) and _in_word(after)
    return before.isdigit() and after.isdigit()


def _in_word(char: str) -> bool:
    return bool(char) and unicodedata.category(char)[0] in "LMN"


def repeated_text(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two texts that are the same; None if all differ."""
    seen: dict[str, str] = {}
    for text in texts:
        form = normalize(text)
        if form in seen:
            return seen[form], text
        seen[form] = text
    return None
