"""Write the recipe as TOML, from its resolved values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from m2m.recipe import LISTS, SECTIONS
from m2m.recipe.new_recipe import toml_value


def recipe_lines(settings: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return each line of a recipe with these settings, and whether it differs from the default."""
    lines: list[tuple[str, bool]] = []
    for name in ("base", *LISTS, *(name for name in SECTIONS if name != "base")):
        value = settings.get(name)
        head = f"[[{name}]]" if name in LISTS else f"[{name}]"
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, Mapping):
                lines += [(head, False), *_fields(name, table), ("", False)]
    return lines[:-1]


def _fields(section: str, table: Mapping[str, Any]) -> list[tuple[str, bool]]:
    specs = dataclasses.fields({**SECTIONS, **LISTS}[section])
    defaults = {spec.name: spec.default for spec in specs}
    # A recipe has only one of several fields that exclude each other; steps follow from epochs.
    either = [spec.name for spec in specs if "one_of" in spec.metadata]
    unused = {name for name in either if not table.get(name)}
    unused |= {"steps"} if table.get("epochs") else set()
    return [
        (f"{name} = {toml_value(value)}", _plain(defaults.get(name)) != _plain(value))
        for name, value in table.items()
        if value is not None
        and name not in unused
        and (value not in ("", []) or _plain(defaults.get(name)) != value)
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
