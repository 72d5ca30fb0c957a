"""Other values for fields of a recipe, from the command line: `--set train.seed=1`."""

from __future__ import annotations

import copy
import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from m2m.recipe.whole import LISTS, SECTIONS
from m2m.spelling import likely

At = tuple[str | int, ...]
# They change the time and the pages of a run, and no result.
NO_RESULT = ("limits", "report")


class Typed(str):
    """A value as it was typed: TOML, or plain text without quotation marks."""

    __slots__ = ()


class Overrides:
    """Values that replace those of a recipe's file.

    Args:
        given: values by SECTION.FIELD, datasets.NAME.FIELD or targets.NAME.FIELD. A `Typed` value
            is read as its field's kind; other values are as TOML gives them.

    Attributes:
        places: the key of each override by its place in the recipe, as ("train", "seed").
        wrong: (key, message) of each override that has no place.
        effective: (key, value) of those that differ from the file and can change a result.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.places: dict[At, str] = {}
        self.wrong: list[tuple[str, str]] = []
        self.effective: dict[str, Any] = {}

    def into(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe's tables with the overrides; `tables` stays as it is."""
        changed: Any = copy.deepcopy({**tables})
        for key, raw in self._given.items():
            section, *names = key.split(".")
            name = names.pop() if names else ""
            at = self._place(changed, section, ".".join(names), key)
            if at is None:
                continue
            table = changed
            for part in at:
                table = table[part]
            self._put(table, (*at, name), key, raw)
        made: dict[str, Any] = changed
        return made

    def _place(self, tables: dict[str, Any], section: str, entry: str, key: str) -> At | None:
        """Return the place of the table that has the field; None after noting a mistake."""
        if section in LISTS:
            entries = tables.get(section)
            entries = entries if isinstance(entries, list) else []
            known = [str(each.get("name")) for each in entries if isinstance(each, dict)]
            if entry in known:
                return section, known.index(entry)
            if entry:
                advice = likely(entry, known)
                self.wrong.append((key, f"there is no {entry!r} in [[{section}]]; {advice}"))
            else:
                self.wrong.append((key, f"write {section}.NAME.FIELD"))
            return None
        if entry:
            self.wrong.append((key, "write SECTION.FIELD, such as train.seed"))
            return None
        if not isinstance(tables.setdefault(section, {}), dict):
            return None  # the reader says what is wrong with it
        return (section,)

    def _put(self, table: dict[str, Any], at: At, key: str, raw: Any) -> None:
        """Put one value into its table, in place of fields that exclude it."""
        kind, name = {**SECTIONS, **LISTS}.get(str(at[0])), str(at[-1])
        specs = {spec.name: spec for spec in dataclasses.fields(kind)} if kind else {}
        own = {spec.metadata.get("also"): spec.name for spec in specs.values()}
        name = own.get(name) or name
        spec = specs.get(name)
        value = read_value(raw, get_type_hints(kind)[name] if kind and spec else None)
        replaced = [*self._replaced(at, specs, name, table)]
        before = table.get(name)
        if spec and name not in table:
            before = table.get(str(spec.metadata.get("also")), spec.default)
        for other in replaced:
            del table[other]
        table[name] = value
        self.places[(*at[:-1], name)] = key
        if kind is None:  # the section itself is the mistake
            self.places[at[:-1]] = key
        before = list(before) if isinstance(before, tuple) else before
        if at[0] not in NO_RESULT and (value != before or replaced):
            self.effective[key] = value

    def _replaced(
        self, at: At, specs: Mapping[str, Any], name: str, table: Mapping[str, Any]
    ) -> Iterator[str]:
        """Yield the fields of the file that may not be there together with this one."""
        rules = specs[name].metadata if name in specs else {}
        for other in table:
            group = specs[other].metadata.get("one_of") if other in specs else None
            alone = other != name and (*at[:-1], other) not in self.places
            if alone and ((group and group == rules.get("one_of")) or other == rules.get("also")):
                yield other


def read_value(raw: Any, hint: Any = None) -> Any:
    """Return a typed value as the field's kind; a text needs no quotation marks."""
    if isinstance(raw, Path):
        return str(raw)
    if not isinstance(raw, Typed):
        return list(raw) if isinstance(raw, tuple) else raw
    text = str(raw)
    try:
        (value,) = tomllib.loads(f"x = {text}").values() if "\n" not in text else (text,)
    except (ValueError, RecursionError):
        value = text
    several = get_origin(hint) is tuple
    if several and not isinstance(value, list):
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if hint in (str, Path, Path | None) and not isinstance(value, str):
        return text
    return value
