"""YAML files as PyYAML's safe loader reads them, with limits; a tag never runs code.

PyYAML is written in Python and slow (about 1 MB in 10 s), so m2m reads small files only, and
counts nodes and levels while it reads. lm-evaluation-harness 0.4.13 has 14,441 task files. The
largest has 62,570 bytes, 859 events and 7 levels; none has an alias or a merge key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from m2m.errors import InputError

LARGEST = 1 << 18  # bytes of a file
_MOST = 10_000  # values and keys of a file
_DEEPEST = 32  # levels of lists and mappings
_LONGEST_NUMBER = 40  # characters; base-60 numbers and Python's own limit make longer ones costly
_YAML_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_YAML_TAG}str"
_NUMBERS = (f"{_YAML_TAG}int", f"{_YAML_TAG}float")
_PLAIN = {*_NUMBERS, *(f"{_YAML_TAG}{name}" for name in ("null", "bool", "str"))}
_READ = {*_NUMBERS, f"{_YAML_TAG}bool"}
_JSON = re.compile(r"true|false|-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_HINT = "correct this line; a text with `: `, ` #` or a bracket or brace at its start needs quotes"


@dataclass(frozen=True)
class Tagged:
    """A value that is not plain data and keeps its text: `!function utils.f`, or a date.

    Attributes:
        tag: `!function`, or `!!timestamp` for one of YAML's own tags.
        text: the scalar behind the tag; "" for a list or mapping, which is not read.
        place: file and line.
        source: the file.
    """

    tag: str
    text: str
    place: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.tag} {self.text}".rstrip()

    __repr__ = __str__


def parse_yaml(text: str, source: str, *, as_json: bool = False) -> Any:
    """Return the value of a YAML text: null, booleans, numbers, texts, lists, dicts, `Tagged`.

    Args:
        text: of the file.
        source: its name, for messages.
        as_json: whether only JSON's numbers and booleans are some: `no`, `12:30` and `017`, which
            PyYAML reads as false, 750 and 15, stay texts. No key may then appear twice.

    Raises:
        InputError: the text is malformed or over a limit; names `source` and the line.
    """
    try:
        loader = _Loader(text, source, as_json=as_json)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character {chr(error.character)!r} is not allowed in YAML"
        raise InputError(f"{source}:{line}: {problem}", "remove it") from error
    try:
        node = loader.get_single_node()
        return None if node is None else loader.value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = (error.problem, error.context)
        problem = ", ".join(part for part in parts if part)
        raise InputError(f"{source}:{mark.line + 1}: {problem}", _HINT) from error
    except (ValueError, OverflowError) as error:  # an escape or a directive with a huge number
        raise InputError(f"{source}:{loader.line + 1}: {error}", _HINT) from error
    finally:
        loader.dispose()


def front_matter(text: str, source: str, key: str = "") -> Any:
    """Return the value of the YAML at the head of a Markdown file, between lines of `---`.

    Args:
        text: of the file.
        source: its name, for messages.
        key: read this key alone: a card can describe hundreds of configurations in other keys.

    Raises:
        InputError: it is malformed or over a limit.
    """
    found = re.match(r"---\r?\n(.*?\n)---", text, re.DOTALL)
    head = found[1] if found else ""
    if key:
        block = re.search(rf"^{key}:.*\n(?:(?:[ #\r-].*)?\n)*", head, re.MULTILINE)
        head = block[0] if block else ""
    return parse_yaml(head, source)


def parse_yaml_quickly(text: str, source: str) -> Any:
    """Return what `parse_yaml` returns, by libyaml's parser if PyYAML has it: five times as fast.

    It is for lists of thousands of files. libyaml, which the harness itself uses, may accept an odd
    text that `parse_yaml` refuses; any text that it refuses is read by `parse_yaml`.

    Raises:
        InputError: see `parse_yaml`.
    """
    if _Quick is not None:
        loader = _Quick(text, source)
        try:
            node = loader.get_single_node()
            return None if node is None else loader.value(node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError):
            pass
        finally:
            loader.dispose()
    return parse_yaml(text, source)


class _Limited(yaml.composer.Composer, yaml.constructor.SafeConstructor):
    """Composes the values of YAML's events, with limits and without other objects."""

    _source: str
    _as_json = False
    _depth = 0
    _nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Make the node of the next events; raise if the file is over a limit."""
        event = self.peek_event()  # type: ignore[attr-defined]  # the parser's
        mark = event.start_mark
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent):
            raise _problem("an alias (*name) is not read: write the value out", mark)
        if getattr(event, "tag", None) == "!":  # PyYAML's two parsers disagree about it
            raise _problem("a tag without a name: put the value in quotes", mark)
        if self._nodes > _MOST:
            raise _problem(f"the file has more than {_MOST} keys and values", mark)
        if self._depth > _DEEPEST:
            raise _problem(f"nested more than {_DEEPEST} deep", mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def value(self, node: Any) -> Any:
        """Return the plain value of a node; a value that is not plain becomes a `Tagged`."""
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_YAML_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_YAML_TAG}seq":
            return [self.value(item) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN:
            return self._scalar(node)
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        place = f"{self._source}:{node.start_mark.line + 1}"
        return Tagged(node.tag.replace(_YAML_TAG, "!!"), text, place, self._source)

    def _mapping(self, node: Any) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key, mark = self.value(key_node), key_node.start_mark
            if not isinstance(key, str | int | float | None):
                raise _problem(f"the key {key!r:.40} is not a text: put it in quotes", mark)
            if self._as_json and key in items:
                raise _problem(f"the key {key!r:.40} appears twice", mark)
            items[key] = self.value(value_node)  # of a key that appears twice the last one counts
        return items

    def _scalar(self, node: Any) -> Any:
        text, mark = node.value, node.start_mark
        if node.tag in _NUMBERS and len(text) > _LONGEST_NUMBER:
            raise _problem(f"a number of {len(text)} characters: put it in quotes", mark)
        if _HALF_A_PAIR.search(text):
            raise _problem("an escape gives half a surrogate pair, which is not a character", mark)
        kept = self._as_json and node.tag in _READ and not _JSON.fullmatch(text)
        if node.tag == _TEXT or kept:  # most values are
            return text
        try:
            return self.construct_object(node)
        except (ValueError, LookupError) as error:  # a tag that does not fit, or `0b_`
            name = node.tag.replace(_YAML_TAG, "!!")
            problem = f"{text!r:.40} is not a value of {name}: put it in quotes"
            raise _problem(problem, mark) from error


class _Loader(_Limited, yaml.SafeLoader):
    """PyYAML's own scanner and parser."""

    def __init__(self, text: str, source: str, *, as_json: bool) -> None:
        super().__init__(text)
        self._source, self._as_json = source, as_json


def _quick() -> Any:
    """Return a loader over libyaml's parser, or None if PyYAML was built without it."""
    if not yaml.__with_libyaml__:
        return None

    from yaml._yaml import CParser

    class Quick(_Limited, CParser, yaml.resolver.Resolver):  # type: ignore[misc]  # no stubs
        def __init__(self, text: str, source: str) -> None:
            CParser.__init__(self, text)
            yaml.composer.Composer.__init__(self)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)
            self._source = source

    return Quick


_Quick = _quick()


def _problem(text: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)
