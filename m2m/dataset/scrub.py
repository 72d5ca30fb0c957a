"""Take noise out of texts: for each kind that can be removed, the text without it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

from m2m.dataset.characters import CONTROL, INVISIBLE
from m2m.dataset.extra_columns import is_about
from m2m.dataset.noise import EMAIL, ESCAPE, HTML, PHONE, URL, USER, is_phone

_ESCAPES = {"n": "\n", "r": "\n", "t": "\t", '"': '"', "'": "'"}
_BREAKS = re.compile(r"<br\s*/?>|</(?:p|div|li|tr|h[1-6])\s*>", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]{2,}")
_BEFORE_SIGN = re.compile(r"(?<![ \t])[ \t]++(?=[.,;:!?]|$|\n)", re.MULTILINE)


def _without(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """Return a function that deletes a pattern and the space that it leaves."""

    def scrub(text: str) -> str:
        shorter = pattern.sub("", text)
        if shorter == text:
            return text
        return _BEFORE_SIGN.sub("", _BLANKS.sub(" ", shorter)).strip()

    return scrub


def _without_phones(text: str) -> str:
    shorter = PHONE.sub(lambda match: "" if is_phone(match.group()) else match.group(), text)
    return text if shorter == text else _BLANKS.sub(" ", shorter).strip()


def _without_html(text: str) -> str:
    plain = HTML.sub(_line_break, text)
    return text if plain == text else _BLANKS.sub(" ", plain).strip()


def _line_break(match: re.Match[str]) -> str:
    if match.group()[0] == "&":
        return html.unescape(match.group())
    return "\n" if _BREAKS.fullmatch(match.group()) else " "


def _unescaped(text: str) -> str:
    plain = ESCAPE.sub(_one_character, text)
    # Characters beyond U+FFFF are written as two escapes, which belong together.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _one_character(match: re.Match[str]) -> str:
    mark = match.group()
    if mark.startswith("\\u"):
        return chr(int(mark[2:], 16))
    return _ESCAPES[mark[-1]]


# By kind, in the order in which they are taken out: an e-mail address is no name of a user.
SCRUBBERS: dict[str, Callable[[str], str]] = {
    "escape": _unescaped,
    "html": _without_html,
    "email": _without(EMAIL),
    "url": _without(URL),
    "user": _without(USER),
    "phone": _without_phones,
    "invisible": lambda text: INVISIBLE.sub("", text),
    "control": lambda text: CONTROL.sub("", text),
}


def scrubbed(fields: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a row's fields with all texts changed, but not columns such as id, url, source."""
    return {
        key: value if is_about(key) else _changed(value, change) for key, value in fields.items()
    }


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    return value
