"""The part of YAML in which task files are written; what is outside it is refused with its line.

Block mappings and lists, flow collections, plain and quoted scalars, literal and folded texts,
comments. Values are those of PyYAML's safe loader (a test compares them); tags such as `!function`,
anchors, aliases, merge keys and several documents are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.formats.yaml_scalars import DEEPEST, Flow, Unfinished
from m2m.opening import SETTINGS, read_text

_LONGEST = 200  # lines of one value in brackets
_DASH = re.compile(r"(?a)-(\s|$)")  # (?a): white space is ASCII's, as in YAML
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\[\s\S])*\"")
_MARK = re.compile(r"(?a)(---|\.\.\.)(\s|$)")  # where a document begins or ends
_BLOCK_TEXT = re.compile(r"(?a)([|>])([+-]?)([1-9]?)([+-]?)(\s+#.*)?")


def read_yaml(path: Path) -> Any:
    """The value that a file holds.

    Raises:
        InputError: unreadable, malformed, or outside the supported part; with its line.
    """
    return parse_yaml(read_text(path, SETTINGS), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The value that a text holds; `source` is named in errors.

    Raises:
        InputError: see `read_yaml`.
    """
    parser = _Parser(text)
    try:
        return parser.document()
    except ValueError as error:
        hint = "m2m reads the simple part of YAML: docs/targets.md says which"
        raise InputError(f"{source}:{parser.line}: {error}", hint) from error


class _Parser:
    """Goes through the lines; `_at` is the one that comes next."""

    def __init__(self, text: str) -> None:
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._at = 0

    @property
    def line(self) -> int:
        """The line in work, from 1."""
        return min(self._at + 1, len(self._lines))

    def document(self) -> Any:
        self._skip()
        if self._at < len(self._lines) and re.match(r"(?a)---(\s+#|\s*$)", self._lines[self._at]):
            self._at += 1
        for at in range(self._at, len(self._lines)):  # even in quotes and brackets
            if _MARK.match(self._lines[at]):
                self._at = at
                raise ValueError("more than one document in the file")
        value = self._block(0, depth=0)
        self._skip()
        if self._at < len(self._lines):
            raise ValueError(f"found {self._peek()[1]!r:.40}, not indented to fit")
        return value

    def _skip(self) -> None:
        """Go to the next line that says something."""
        while self._at < len(self._lines) and re.match(r"(?a)\s*(#|$)", self._lines[self._at]):
            self._at += 1

    def _peek(self) -> tuple[int, str]:
        """Indentation and text of the next line; (-1, "") at the end."""
        self._skip()
        if self._at >= len(self._lines):
            return -1, ""
        line = self._lines[self._at]
        text = line.lstrip(" ")
        if text.startswith("\t"):
            raise ValueError("a tab indents this line; use spaces")
        return len(line) - len(text), text

    def _block(self, least: int, depth: int) -> Any:
        """The value on the lines that are indented by `least` or more."""
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        indent, text = self._peek()
        if indent < least:
            return None
        if _DASH.match(text):
            return self._list(indent, depth)
        if Flow(text).key() is not None:
            return self._map(indent, depth)
        return self._value(text, least - 1, depth)

    def _list(self, indent: int, depth: int) -> list[Any]:
        items = []
        while self._peek()[0] == indent and _DASH.match(text := self._peek()[1]):
            rest = text[1:].lstrip(" ")
            if not rest or rest.startswith("#"):
                self._at += 1
                items.append(self._block(indent + 1, depth + 1))
            elif Flow(rest).key() is not None or _DASH.match(rest):
                # What stands behind the dash is a block of its own, indented to where it begins.
                inner = indent + len(text) - len(rest)
                self._lines[self._at] = " " * inner + rest
                items.append(self._block(inner, depth + 1))
            else:
                items.append(self._value(rest, indent, depth))
        return items

    def _map(self, indent: int, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while (found := self._peek())[0] == indent:
            flow = Flow(found[1])
            key = flow.key()
            if key is None:
                raise ValueError(f"found {found[1]!r:.40}, expected key: value")
            if key in items:
                raise ValueError(f"the key {key!r} is there twice")
            rest = flow.rest().strip(" \t")
            if rest and not rest.startswith("#"):
                items[key] = self._value(rest, indent, depth)
            else:
                self._at += 1
                below = self._peek()
                listed = below[0] == indent and _DASH.match(below[1])
                items[key] = self._block(indent if listed else indent + 1, depth + 1)
        return items

    def _value(self, text: str, indent: int, depth: int) -> Any:
        """A value that begins on this line, behind its key or dash."""
        if header := _BLOCK_TEXT.fullmatch(text):
            return self._block_text(header, indent)
        start = self._at
        if text[0] in "'\"":
            text = self._closed(text)
        elif text[0] not in "[{":
            text = self._continued(text, indent)
        while True:
            try:
                value = Flow(text).whole()
                break
            except Unfinished:
                if self._at + 1 >= len(self._lines) or self._at - start > _LONGEST:
                    self._at = start
                    raise
                self._at += 1
                text += "\n" + self._lines[self._at]
        self._at += 1
        if self._peek()[0] > indent:
            raise ValueError(f"found {self._peek()[1]!r:.40}, not indented to fit")
        return value

    def _closed(self, text: str) -> str:
        """A text in quotes with the lines up to the one that closes it."""
        lines = "\n".join([text, *self._lines[self._at + 1 :]])
        quoted = _QUOTED.match(lines)
        if quoted is None:
            return text
        more = quoted.group().count("\n")
        self._at += more
        return "\n".join(lines.split("\n", more + 1)[: more + 1])

    def _continued(self, text: str, indent: int) -> str:
        """A plain text with the lines that it goes on in, joined by spaces."""
        text, breaks = text.rstrip(" \t"), 0
        for at in range(self._at + 1, len(self._lines)):
            line = self._lines[at].strip(" \t")
            size = len(self._lines[at]) - len(self._lines[at].lstrip(" "))
            if line and (size <= indent or line.startswith("#") or " #" in text):
                break
            breaks += 1
            if line:
                text += ("\n" * (breaks - 1) or " ") + line
                self._at, breaks = at, 0
        return text

    def _block_text(self, header: re.Match[str], indent: int) -> str:
        """A literal (`|`) or folded (`>`) text."""
        style, first, digit, second = header.group(1, 2, 3, 4)
        if first and second:
            raise ValueError(f"found {header.group()!r:.40}: two signs of what becomes of its end")
        self._at += 1
        lines: list[str] = []
        inner = max(indent, 0) + int(digit) if digit else 0
        least = max(indent + 1, 1)  # of the first line, or as much as empty ones before it have
        while self._at < len(self._lines):
            line = self._lines[self._at]
            size = len(line) - len(line.lstrip(" "))
            if line.strip(" "):
                inner = inner or max(size, least)
                if size < inner:
                    break
            least = max(least, size)
            lines.append(line[inner:] if inner else "")
            self._at += 1
        breaks = len(lines) - (self._at == len(self._lines))  # the file's last line has none
        while lines and not lines[-1]:
            lines.pop()
        chomp = first or second
        ends = max(0, breaks - len(lines) + bool(lines))
        kept = {"-": 0, "": min(ends, 1) if lines else 0, "+": ends}[chomp]
        body = "\n".join(lines) if style == "|" else _folded(lines)
        return body + "\n" * kept


def _folded(lines: list[str]) -> str:
    """Lines joined by spaces; empty ones are line breaks, and indented ones stay as they are."""
    text, breaks, before = "", 0, ""
    for line in lines:
        if not line:
            breaks += 1
            continue
        kept = before[:1] in (" ", "\t") or line[:1] in (" ", "\t")
        if before:
            text += "\n" * (breaks + 1) if kept else "\n" * breaks or " "
        else:
            text += "\n" * breaks
        text, breaks, before = text + line, 0, line
    return text
