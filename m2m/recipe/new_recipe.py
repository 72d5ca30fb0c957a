"""Write a new recipe: the given fields, and all others as comments with their defaults."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.escaping import quoted
from m2m.recipe.whole import LISTS, SECTIONS

_WIDTH = 96
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# Shown for a field whose default is empty.
_ANY = "..."

_TABLES: dict[str, dict[str, Any]] = {
    "labels": {"0": "..."},
    "where": {"lang": "..."},
    "template_variables": {"enable_thinking": "..."},
}

Given = Mapping[str, Any]


def recipe_text(
    sections: Mapping[str, Given], lists: Mapping[str, Sequence[Given]], *, full: bool = True
) -> str:
    """Return a recipe.toml.

    Args:
        sections: values of fields by section ("base", "train", ...).
        lists: the same for each of the "datasets" and "targets".
        full: whether it explains itself: all fields with their defaults, at the first of a list.
    """
    if not full:
        return _short(sections, lists)
    blocks = [_HEAD, _section("base", sections.get("base", {}))]
    for name in LISTS:
        blocks += [_entry(name, values, first=not i) for i, values in enumerate(lists[name])]
    blocks += [_section(name, sections.get(name, {})) for name in SECTIONS if name != "base"]
    return "\n".join(blocks)


_HEAD = """\
# The recipe of a study. Check the data with `m2m data check`, estimate time and memory with
# `m2m plan`, and start with `m2m run`, each followed by this file's name. Lines that begin with #
# show defaults: delete the # to change one. Paths are relative to this file.
"""


_SHORT_HEAD = """\
# Paths are relative to this file. All other fields have their defaults: docs/reference.md lists
# them, and `m2m init --full` writes them, too.
"""


def _short(sections: Mapping[str, Given], lists: Mapping[str, Sequence[Given]]) -> str:
    """Return only the fields that are given."""
    named = [(f"[{name}]", values) for name, values in sections.items() if values]
    entries = [(f"[[{name}]]", values) for name in LISTS for values in lists[name]]
    blocks = [
        "\n".join([title, *(f"{key} = {toml_value(value)}" for key, value in values.items())])
        for title, values in [*named[:1], *entries, *named[1:]]
    ]
    return "\n\n".join([_SHORT_HEAD.rstrip(), *blocks]) + "\n"


def _section(name: str, values: Given) -> str:
    return _titled(f"[{name}]", SECTIONS[name]) + _fields(SECTIONS[name], values, explain=True)


def _entry(name: str, values: Given, *, first: bool) -> str:
    kind, title = LISTS[name], f"[[{name}]]"
    return (_titled(title, kind) if first else f"{title}\n") + _fields(kind, values, explain=first)


def _titled(title: str, kind: type) -> str:
    meaning = (kind.__doc__ or "").partition(": ")[2].strip().rstrip(".")
    return f"# {meaning[:1].upper()}{meaning[1:]}.\n{title}\n"


def _fields(kind: type, values: Given, *, explain: bool) -> str:
    specs = dataclasses.fields(kind)
    lines: list[str] = []
    for spec in specs:
        if "hidden" in spec.metadata:
            continue
        if explain:
            lines += textwrap.wrap(
                _meaning(spec, specs), _WIDTH, initial_indent="# ", subsequent_indent="#   "
            )
        if spec.name in values:
            lines.append(f"{spec.name} = {toml_value(values[spec.name])}")
        elif explain:
            nothing: dict[Any, Any] = {None: _ANY, (): (_ANY,)}
            default = nothing.get(spec.default, spec.default)
            if table := spec.metadata.get("table"):
                default = _TABLES[table]
            lines.append(f"# {spec.name} = {toml_value(default)}")
    return "\n".join(lines) + "\n"


def _meaning(spec: dataclasses.Field[Any], specs: Sequence[dataclasses.Field[Any]]) -> str:
    rules = spec.metadata
    text = rules["help"]
    if choices := rules.get("choices"):
        text += f" ({', '.join(choices)})"
    if group := rules.get("one_of"):
        names = [other.name for other in specs if other.metadata.get("one_of") == group]
        text += f"; give only one of {', '.join(names)}"
    return f"{spec.name}: {text}"


def toml_value(value: Any) -> str:
    """Format a text, number, path, or a list or table of these as TOML."""
    if isinstance(value, dict):
        keys = {key: key if _BARE.fullmatch(key) else quoted(key) for key in value}
        inside = ", ".join(f"{keys[key]} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, str | Path):
        text = value.as_posix() if isinstance(value, Path) else value
        return quoted(text)  # a TOML basic string is a JSON string, except for DEL
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
