"""JSON of dataclasses: their fields decide how it is written and read, both at once.

An object has a key for each field, by its name and in the fields' order. The field's type decides
how its value is converted, and `Annotated` marks exceptions:

    @dataclass(frozen=True)
    class Course(JsonFields):
        mixture: Inline[Mixture]                   # its keys are keys of the course
        checks: Sequence[Check]                    # a list of the JSON of each
        advice: Annotated[str, Key("next")]        # a key of another name
        rank: Annotated[int, as_whole]             # read by `as_whole(value, "rank")`
        gain: OrUnknown                            # null and nan are the same
        seconds: Annotated[float, Rounded(1)]      # written with one decimal
        steps: Newer[int] = 0                      # missing in files of older versions
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from m2m.formats.json_text import json_text

T = TypeVar("T")


def or_unknown(value: Any, _name: str) -> float:
    """Return the number; nan for null, because JSON has no nan."""
    return math.nan if value is None else float(value)


Inline = Annotated[T, "inline"]
Newer = Annotated[T, "newer"]
OrUnknown = Annotated[float, or_unknown]


@dataclass(frozen=True)
class Key:
    """The key of a field, if it is not the field's name."""

    name: str


@dataclass(frozen=True)
class Rounded:
    """The number of decimals with which a number is written."""

    digits: int


class JsonFields:
    """Base of dataclasses that go to JSON and come back; see the module."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with paths as text."""
        written: dict[str, Any] = {}
        for name, _kind, key, marks in _plan(cast(Any, type(self))):
            value = plain(getattr(self, name))
            for mark in marks:
                value = round(value, mark.digits) if isinstance(mark, Rounded) else value
                value = None if mark is or_unknown and math.isnan(value) else value
            written |= value if "inline" in marks else {key: value}
        return written

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `as_json`; other keys are ignored.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: `data` is not from
                `as_json`.
        """
        return cls(**{
            name: _read(kind, data if "inline" in marks else data[key], key)
            for name, kind, key, marks in _plan(cast(Any, cls))
            if not ("newer" in marks and key not in data)
        })  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the output of the command with `--json`: dicts, lists, texts, numbers, None."""
        made: dict[str, Any] = json.loads(json_text(self.as_json()))
        return made


def plain(value: Any) -> Any:
    """Return a field's value as JSON values."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def inserted(written: Mapping[str, Any], after: str, **more: Any) -> dict[str, Any]:
    """Return an object with more keys, at their place for readers: after the key `after`."""
    keys = [*written]
    first = keys[: keys.index(after) + 1]
    return {**dict.fromkeys(first), **more, **written}


@cache
def _plan(kind: Any) -> list[tuple[str, Any, str, tuple[Any, ...]]]:
    """Return name, type, key and marks of each field of a dataclass."""
    types = get_type_hints(kind, include_extras=True)
    plan = []
    for name in (field.name for field in fields(kind)):
        marks = getattr(types[name], "__metadata__", ())
        key = next((mark.name for mark in marks if isinstance(mark, Key)), name)
        plan.append((name, types[name], key, marks))
    return plan


def _read(kind: Any, value: Any, name: str) -> Any:
    """Return the value of a type from JSON; `name` is for messages."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        reader = next(filter(callable, args[1:]), None)
        return reader(value, name) if reader else _read(args[0], value, name)
    if NoneType in args:
        return None if value is None else _read(args[0], value, name)
    if origin is Mapping:
        return {str(key): _read(args[1], item, name) for key, item in value.items()}
    if origin is Sequence or Ellipsis in args:
        items = [_read(args[0], item, name) for item in _list(value, name)]
        return tuple(items) if origin is tuple else items
    if origin is tuple:
        pairs = zip(args, _list(value, name), strict=True)
        return tuple(_read(one, item, name) for one, item in pairs)
    if origin is UnionType:  # of text and a number
        return value if isinstance(value, int) else str(value)
    if hasattr(kind, "from_json"):
        return kind.from_json(value)
    if kind is Any:
        return value
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r:.40}, expected true or false")
    return Path(str(value)) if kind is Path else (str if origin is Literal else kind)(value)


def _list(value: Any, name: str) -> Sequence[Any]:
    """Return the value if it is a list: a text is not the list of its letters."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {value!r:.40}, expected a list")
    return value
