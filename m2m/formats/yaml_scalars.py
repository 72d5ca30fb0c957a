"""YAML values that are no blocks: plain and quoted scalars, and flow collections in brackets.

Plain scalars become what PyYAML's safe loader makes of them (YAML 1.1): null, booleans, numbers,
texts. What is rare and surprising (dates, base-60 numbers, tags, anchors) is refused by name.
"""

from __future__ import annotations

import re
from typing import Any

_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = ("yes", "true", "on"), ("no", "false", "off")
_BOOLEANS = {
    form: word in _TRUE
    for word in (*_TRUE, *_FALSE)
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_OTHER_BASE = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+)")
_REAL = re.compile(r"([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
_SPECIAL_REAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_SURPRISING = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|\d{4}-\d\d?-\d\d?.*")
_REFUSED = {
    "!": "a tag such as {!r}: m2m runs no code from a file and knows no types but YAML's own",
    "&": "an anchor, {!r}: write the value out where it is used",
    "*": "an alias, {!r}: write the value out",
    "%": "a text that begins with a per cent sign, {!r}: put it in quotes",
    "@": "a text that begins with @, {!r}: put it in quotes",
    "`": "a text that begins with a backtick, {!r}: put it in quotes",
    "]": "a closing bracket, {!r}",
    "}": "a closing brace, {!r}",
    ",": "a comma, {!r}",
    "?": "a complex key, {!r}",
}
_ESCAPES = {
    **{"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"},
    **{"e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\"},
    **{"N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"},
}
_FOLD = re.compile(r"(?a)[ \t]*\n\s*")  # a line's end in quotes or brackets, and empty lines after
_ESCAPED_END = re.compile(r"(?a)\n\s*")
_HEX = {"x": 2, "u": 4, "U": 8}
DEEPEST = 32  # levels of brackets, and of blocks


class Unfinished(ValueError):
    """A bracket or quote that the text does not close; it may go on in the next line."""


def plain(text: str) -> Any:
    """A plain scalar as null, boolean, number or text.

    Raises:
        ValueError: it would be something else, which is not supported.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _OTHER_BASE.fullmatch(text):
        digits = text.replace("_", "").lower()
        octal = "x" not in digits and "b" not in digits
        return int(digits, 8 if octal else 0)
    if _REAL.fullmatch(text):
        return float(text.replace("_", ""))
    if special := _SPECIAL_REAL.fullmatch(text):
        return float("".join(special.groups()))
    if text in ("=", "<<"):
        raise ValueError(f"{text!r} has a meaning of its own (a merge key); put it in quotes")
    if _SURPRISING.fullmatch(text):
        raise ValueError(f"{text!r} would be a date or a number to base 60; put it in quotes")
    return text


class Flow:
    """Reads values from one text, left to right.

    Args:
        text: a line's value, or several lines of it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Any:
        """The one value that the text holds, a comment after it apart.

        Raises:
            Unfinished: a bracket or quote is not closed.
            ValueError: it is no such value; the message says why.
        """
        value = self._value(depth=0)
        rest = self._text[self._at :]
        if rest.strip(" \t\n") and not re.match(r"(?a)\s+#", rest):
            raise ValueError(f"found {rest!r:.40} after the value")
        return value

    def key(self) -> str | None:
        """A key and its colon; None where the text begins with none."""
        quoted = self._text[:1] in ("'", '"')
        if quoted:
            try:
                name = self._quoted()
            except Unfinished:  # keys stay on their line
                return None
        elif match := re.match(
            r"(?a)([^\s#,\[\]{}&*!|>'\"%@`?:-][^#]*?|[-?:](?=[^\s#])[^#]*?)\s*(?=:(\s|$))",
            self._text,
        ):
            name, self._at = match.group(1), match.end()
        else:
            return None
        if not re.match(r"(?a)\s*:(\s|$)", self._text[self._at :]):
            return None
        self._at = self._text.index(":", self._at) + 1
        return name if quoted else _text_key(plain(name))

    def rest(self) -> str:
        """What has not been read."""
        return self._text[self._at :]

    def _value(self, depth: int) -> Any:
        self._skip()
        first = self._text[self._at : self._at + 1]
        if first in ("'", '"'):
            return self._quoted()
        if first == "[":
            return self._list(depth + 1)
        if first == "{":
            return self._map(depth + 1)
        if first in _REFUSED and first:
            raise ValueError("found " + _REFUSED[first].format(self._text[self._at :][:40]))
        return plain(self._plain_text(inside=depth > 0))

    def _plain_text(self, inside: bool) -> str:
        end = re.compile(
            r"(?a)\s*([,\[\]{}]|:(\s|$|[,\[\]{}])|\s#|$)" if inside else r"(?a)\s*(\s#|$)"
        )
        start = self._at
        while not end.match(self._text, self._at):
            self._at += 1
        text = self._text[start : self._at].strip(" \t\n")
        if inside:
            text = _FOLD.sub(lambda fold: "\n" * (fold.group().count("\n") - 1) or " ", text)
        if not inside and re.search(r"(?a):(\s|$)", text):
            raise ValueError(f"a colon in {text!r:.40}; put the text in quotes")
        if re.match(r"(?a)[-?:](\s|$)|[|>]", text) or (inside and text[:1] == ":"):
            raise ValueError(f"found {text!r:.40} where a value is expected")
        return text

    def _quoted(self) -> str:
        quote = self._text[self._at]
        self._at += 1
        parts = []
        while self._at < len(self._text):
            if fold := _FOLD.match(self._text, self._at):
                parts.append("\n" * (fold.group().count("\n") - 1) or " ")
                self._at = fold.end()
                continue
            char = self._text[self._at]
            self._at += 1
            if char != quote and not (char == "\\" and quote == '"'):
                parts.append(char)
            elif char == "\\":
                parts.append(self._escape())
            elif quote == "'" and self._text[self._at : self._at + 1] == "'":
                parts.append("'")
                self._at += 1
            else:
                return "".join(parts)
        raise Unfinished(f"the quote {quote} is not closed")

    def _escape(self) -> str:
        if fold := _ESCAPED_END.match(self._text, self._at):
            self._at = fold.end()
            return "\n" * (fold.group().count("\n") - 1)
        char = self._text[self._at : self._at + 1]
        self._at += 1
        if not char:
            raise Unfinished("the text ends in a backslash")
        if char in _HEX:
            digits = self._text[self._at : self._at + _HEX[char]]
            self._at += _HEX[char]
            number = int(digits, 16) if re.fullmatch("[0-9a-fA-F]+", digits) else -1
            if len(digits) < _HEX[char] or not 0 <= number <= 0x10FFFF:
                raise ValueError(f"\\{char}{digits} is no character")
            return chr(number)
        if char not in _ESCAPES:
            raise ValueError(f"the escape \\{char} is not one of YAML's")
        return _ESCAPES[char]

    def _list(self, depth: int) -> list[Any]:
        self._open(depth)
        items: list[Any] = []
        while not self._closed("]"):
            items.append(self._value(depth))
            self._next("]")
        return items

    def _map(self, depth: int) -> dict[str, Any]:
        self._open(depth)
        items: dict[str, Any] = {}
        while not self._closed("}"):
            self._skip()
            key = self._value(depth)
            self._skip()
            if isinstance(key, dict) or self._text[self._at : self._at + 1] != ":":
                raise ValueError("a text in braces is read as key: value; put a template in quotes")
            key = _text_key(key)
            self._at += 1
            if key in items:
                raise ValueError(f"the key {key!r} is there twice")
            items[key] = self._value(depth)
            self._next("}")
        return items

    def _open(self, depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError(f"brackets are nested more than {DEEPEST} deep")
        self._at += 1

    def _closed(self, bracket: str) -> bool:
        self._skip()
        if self._at >= len(self._text):
            raise Unfinished(f"there is no closing {bracket}")
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _next(self, bracket: str) -> None:
        self._skip()
        found = self._text[self._at : self._at + 1]
        if found == ",":
            self._at += 1
        elif found and found != bracket:
            raise ValueError(f"found {self._text[self._at :]!r:.20}, expected a comma or {bracket}")

    def _skip(self) -> None:
        """Over white space, and comments where brackets go over several lines."""
        while blank := re.compile(r"(?a)\s+|#[^\n]*(\n|$)").match(self._text, self._at):
            self._at = blank.end()


def _text_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is no text; put it in quotes")
    return key
