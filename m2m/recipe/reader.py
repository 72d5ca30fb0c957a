"""Read a recipe.toml and report every mistake at once, with its line."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from m2m.errors import InputError, M2MError, Problems, RecipeError
from m2m.opening import SETTINGS, read_text, refuse_outside
from m2m.places import is_there
from m2m.recipe.fields import Merge, Search
from m2m.recipe.mappings import TABLES, with_like
from m2m.recipe.overrides import Overrides
from m2m.recipe.regime import BUDGET, contradiction, settled
from m2m.recipe.strategies import AUTO, for_any_weights
from m2m.recipe.whole import LISTS, SECTIONS, Recipe
from m2m.spelling import close, likely

Section = TypeVar("Section")


def load_recipe(
    path: Path,
    roots: Sequence[Path] = (),
    overrides: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the file.
        roots: more folders in which it may name files, in addition to its own.
        overrides: values in place of the file's, by SECTION.FIELD; see `Overrides`. They are
            checked like the file's, and paths are relative to the recipe's folder too.
        out: folder for the results; None: `m2m-runs/NAME` in the recipe's folder, and for
            overrides `m2m-runs/NAME+SECTION.FIELD=VALUE`.

    Raises:
        InputError: the file cannot be read or is not TOML.
        RecipeError: it has mistakes; the message lists all of them with their lines.
    """
    try:
        tables = tomllib.loads(text := read_text(path, SETTINGS, universal=True))
    except (M2MError, ValueError, RecursionError) as error:  # also nesting, numbers of 5000 digits
        if path.suffix.lower() != ".toml" and path.is_file():
            hint = f"if it has your data, make one: `m2m init --data {shlex.quote(str(path))}`"
            raise InputError(f"{path} is no recipe, which is a TOML file", hint) from error
        if isinstance(error, M2MError):
            raise
        raise InputError(f"{path} is not valid TOML: {error}", _toml_hint(text, error)) from error
    given = Overrides(overrides or {})
    reader = _Reader(path.absolute(), text, roots, given)
    return reader.recipe(given.into(tables), out.absolute() if out else None)


class _Reader:
    """Builds a `Recipe` from parsed TOML and collects all mistakes in it."""

    def __init__(self, path: Path, text: str, roots: Sequence[Path], given: Overrides) -> None:
        self.path, self.roots, self.given = path, tuple(roots), given
        self.lines = _line_numbers(text)
        self.mistakes: list[tuple[int, str]] = []

    def recipe(self, tables: Mapping[str, Any], out: Path | None) -> Recipe:
        for key, message in self.given.wrong:
            self.mistakes.append((0, f"--set {key}: {message}"))
        for name in tables.keys() - SECTIONS.keys() - LISTS.keys():
            known = [*SECTIONS, *LISTS]
            if not isinstance(tables[name], dict | list):
                self.wrong((name,), f"{name!r} is before the first section; {_place(name, '')}")
                continue
            self.wrong((name,), f"unknown section [{name}]; {likely(name, known)}")
        single: dict[str, Any] = {
            name: self.section(kind, tables.get(name, {}), (name,))
            for name, kind in SECTIONS.items()
        }
        many: dict[str, Any] = {
            name: self.sections(kind, tables.get(name, []), name) for name, kind in LISTS.items()
        }
        if _many_for_slerp(single["merge"], single["search"], many["datasets"]):
            self.wrong(("merge", "method"), "slerp merges two: set [search] max_datasets = 2")
        if not self.mistakes:
            datasets, targets, unlike = with_like(many["datasets"], many["targets"])
            many = {"datasets": datasets, "targets": targets}
            for at, message in unlike:
                self.wrong(at, message)
        self.known(single["search"], [dataset.name for dataset in many["datasets"]])
        own: dict[str, Any] = {"roots": self.roots, "overrides": self.given.effective, "out": out}
        recipe = Recipe(self.path, **single, **many, **own)
        given = {(name, key) for name in SECTIONS for key in _keys(tables.get(name))}
        if single["confirm"] and single["train"] and BUDGET in given:
            self.fits(contradiction(recipe))
        problems = Problems()
        for line, message in sorted(self.mistakes, key=lambda mistake: mistake[0]):
            problems.add(f"line {line}: {message}" if line else message)
        problems.raise_if_any(RecipeError, str(self.path), "docs/reference.md explains every field")
        return settled(recipe, given)

    def sections(self, kind: type[Section], tables: Any, name: str) -> tuple[Section, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.wrong((name,), f"write [[{name}]] with double brackets, once for each")
            return ()
        if not tables:
            self.mistakes.append((0, f"no [[{name}]]: at least one is needed"))
        seen: dict[str, int] = {}
        for index, table in enumerate(tables):
            label = table.get("name")
            if isinstance(label, str) and seen.setdefault(label.lower(), index) != index:
                self.wrong(
                    (name, index, "name"), f"two {name} are called {label}; names must differ"
                )
        return tuple(
            built
            for i, table in enumerate(tables)
            if (built := self.section(kind, table, (name, i))) is not None
        )

    def section(self, kind: type[Section], table: Any, at: tuple[str | int, ...]) -> Section | None:
        if not isinstance(table, dict):
            self.wrong(at, f"write [{at[0]}] as a section")
            return None
        hints = get_type_hints(kind)
        specs = dataclasses.fields(kind)  # type: ignore[arg-type]
        fields = {spec.name: spec for spec in specs if "hidden" not in spec.metadata}
        table = self.renamed(table, fields, at)
        meant: set[str] = set()  # fields that were probably meant by a misspelt one
        for key in table.keys() - fields.keys():
            meant |= {*close(key, fields)}
            advice = likely(key, fields) if close(key, fields) else _place(key, str(at[0]), fields)
            self.wrong((*at, key), f"unknown field {key!r} in [{at[0]}]; {advice}")
        values: dict[str, Any] = {}
        complete = True
        for name, spec in fields.items():
            if name in table:
                value = self.value(table[name], hints[name], spec.metadata, (*at, name))
                complete &= value is not None
                values[name] = value
                if isinstance(value, list):  # aligned files
                    values[name], values[spec.metadata["aligned"]] = value[0], tuple(value[1:])
            elif spec.default is dataclasses.MISSING:
                if name not in meant:
                    missing = f"field {name!r} is missing in [{at[0]}]"
                    self.wrong(at, f"{missing}: {spec.metadata['help']}")
                complete = False
        for group in {spec.metadata.get("one_of") for spec in fields.values()} - {None}:
            named = [n for n in fields if n in table and fields[n].metadata.get("one_of") == group]
            if len(named) > 1:
                self.wrong((*at, named[-1]), f"give only one of {', '.join(named)}")
        return kind(**values) if complete else None

    def renamed(
        self, table: Mapping[str, Any], fields: Mapping[str, Any], at: tuple[str | int, ...]
    ) -> Mapping[str, Any]:
        """Return the table with each field's own name in place of its other one.

        A dataset with an adapter needs no rows; its `path` is then that of the adapter.
        """
        others = {also: name for name, s in fields.items() if (also := s.metadata.get("also"))}
        if "adapter" in fields and "adapter" in table:  # the rows may stay elsewhere
            table = {"path": table["adapter"], **table}
        for also, name in others.items():
            if also in table and name in table:
                self.wrong((*at, also), f"{also} and {name} are the same here; give only one")
            if also in table and (*at, also) in self.lines:
                self.lines[(*at, name)] = self.lines[(*at, also)]
        return {others.get(key, key): value for key, value in table.items()}

    def value(
        self, raw: Any, hint: Any, rules: Mapping[str, Any], at: tuple[str | int, ...]
    ) -> Any:
        """Return `raw` as the field's type, or None after noting its mistake."""
        if "table" in rules:
            return self.table(raw, rules["table"], at)
        if "aligned" in rules and isinstance(raw, list):
            return self.aligned(raw, at)
        if get_origin(hint) is tuple:
            raw = [raw] if "one" in rules and isinstance(raw, str) else raw
            if not isinstance(raw, list) or (
                not raw and "baselines" not in at and "empty" not in rules
            ):
                return self.wrong(at, f"{at[-1]} must be a list, found {raw!r}")
            items = [self.value(item, get_args(hint)[0], rules, at) for item in raw]
            return None if None in items else tuple(items)
        kinds = (
            get_args(hint)
            if get_origin(hint) in (UnionType,) or isinstance(hint, UnionType)
            else (hint,)
        )
        if float in kinds and isinstance(raw, int) and not isinstance(raw, bool):
            try:
                raw = float(raw)
            except OverflowError:
                return self.wrong(at, f"{at[-1]} must be smaller, found {raw!r:.20}...")
        if Path in kinds and isinstance(raw, str):
            return self.existing(raw, at)
        if isinstance(raw, bool) and bool in kinds:
            return raw
        if isinstance(raw, bool) or not isinstance(raw, kinds):
            names = " or ".join(NAMES_OF_TYPES[kind] for kind in kinds if kind in NAMES_OF_TYPES)
            return self.wrong(at, f"{at[-1]} must be {names}, found {raw!r}")
        numbers = [NAMES_OF_TYPES[kind] for kind in (int, float) if kind in kinds]
        return self.obey(raw, rules, at, numbers)

    def obey(
        self,
        value: Any,
        rules: Mapping[str, Any],
        at: tuple[str | int, ...],
        numbers: Sequence[str],
    ) -> Any:
        """Return `value` if it keeps the rules; `numbers`: allowed kinds other than a word."""
        if isinstance(value, str):
            if value not in (choices := rules.get("choices", (value,))):
                if not numbers:
                    return self.wrong(at, f"unknown {at[-1]} {value!r}; {likely(value, choices)}")
                allowed = " or ".join([*map(repr, choices), *numbers])
                meant = f"; {likely(value, choices)}" if close(value, choices) else ""
                return self.wrong(at, f"{at[-1]} must be {allowed}, found {value!r}{meant}")
            if "pattern" in rules and not rules["pattern"].fullmatch(value):
                field = next(part for part in reversed(at) if isinstance(part, str))
                return self.wrong(at, f"{field} {value!r}: expected {rules['expected']}")
            return value
        low, high = rules.get("low", float("-inf")), rules.get("high", _LARGEST)
        if not low <= value <= high:  # NaN is never in the range
            bound = (
                f"from {low} to {high}" if "high" in rules or value > high else f"at least {low}"
            )
            return self.wrong(at, f"{at[-1]} must be {bound}, found {value!s:.40}")
        return value

    def table(self, raw: Any, name: str, at: tuple[str | int, ...]) -> Any:
        """Return the value of `labels` or `where`, or None after noting its mistake."""
        try:
            return TABLES[name](raw)
        except ValueError as error:
            return self.wrong(at, str(error))

    def aligned(self, raw: list[Any], at: tuple[str | int, ...]) -> list[Path] | None:
        """Return the paths of two aligned files or more."""
        if len(raw) < 2 or not all(isinstance(path, str) for path in raw):
            self.wrong(at, f"{at[-1]} must be a path, or a list of two aligned files")
            return None
        paths = [self.existing(path, at) for path in raw]
        return None if None in paths else [path for path in paths if path]

    def existing(self, raw: str, at: tuple[str | int, ...]) -> Path | None:
        if _CONTROL.search(raw):
            self.wrong(
                at, f"{at[-1]} {raw!r} has a line break or tab, as \\n and \\t mean; {_SINGLE}"
            )
            return None
        path = self.path.parent / raw
        try:
            refuse_outside(path, self.path.parent, self.roots)
            exists = is_there(path)
        except InputError as error:
            self.wrong(at, f"{at[-1]}: {error.message}; {error.hint}")
            return None
        except OSError as error:  # the name is too long, or the folder may not be read
            self.wrong(at, f"{at[-1]}: {path!s:.200}: {error.strerror}")
            return None
        if not exists:
            of_adapter = at not in self.lines and (*at[:-1], "adapter") in self.lines
            if not of_adapter:  # whose own field says so
                kind = "folder" if at[-1] == "adapter" else "file"
                self.wrong(at, f"{at[-1]}: there is no {kind} {path}")
            return None
        return path

    def fits(self, contradiction: str) -> None:
        """Note that the budget does not fit the schedule; "" if it does."""
        if contradiction:
            self.wrong(BUDGET, contradiction)

    def known(self, search: Search | None, names: Sequence[str]) -> None:
        """Check the names of datasets in the search section."""
        if search is None:
            return
        for field in ("required", "excluded"):
            for name in set(getattr(search, field)) - set(names):
                advice = f"; {likely(name, names)}" if names else ""
                self.wrong(("search", field), f"{field}: there is no dataset {name!r}{advice}")
        able = for_any_weights()
        if search.weights == "simplex" and search.strategy not in (AUTO, *able):
            needed = " or ".join(f'"{name}"' for name in able)
            self.wrong(("search", "strategy"), f'weights = "simplex" needs strategy = {needed}')
        for name in set(search.required) & set(search.excluded):
            self.wrong(("search", "excluded"), f"{name!r} is both required and excluded")

    def wrong(self, at: tuple[str | int, ...], message: str) -> None:
        """Note a mistake with the line of its field, or if it has none, of its section."""
        if at in self.given.places:
            self.mistakes.append((0, f"--set {self.given.places[at]}: {message}"))
            return
        while at and at not in self.lines:
            at = at[:-1]
        self.mistakes.append((self.lines[at] if at else 0, message))


def _keys(table: Any) -> Iterable[str]:
    return table if isinstance(table, dict) else ()


def _many_for_slerp(merge: Merge | None, search: Search | None, datasets: tuple[Any, ...]) -> bool:
    if not merge or merge.method != "slerp":
        return False
    largest = search.max_datasets if search else 0
    return min(largest or len(datasets), len(datasets)) > 2


_LARGEST = 2**63 - 1  # NumPy and the file formats count up to this
NAMES_OF_TYPES = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}
_CONTROL = re.compile(r"[\x00-\x1f]")
_SINGLE = "write paths in single quotes ('C:\\data\\rows.csv') or with / (\"C:/data/rows.csv\")"
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def _line_numbers(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line of each section and field: ("datasets", 1, "path") -> line, from 1."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[str, int] = {}
    at: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            brackets, name = header.groups()
            at = (name,)
            lines.setdefault(at, number)
            if brackets == "[[":
                at = (name, counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
                lines[at] = number
        elif key := _KEY.match(line):
            lines.setdefault((*at, key.group(1)), number)
    return lines


def _toml_hint(text: str, error: Exception) -> str:
    """Say how to correct a file that is not TOML."""
    place = re.search(r"line (\d+)", str(error))
    lines = text.split("\n")
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    if re.search(r'"[^"]*\\', line):
        return f"in double quotes \\ begins a special character: {_SINGLE}"
    for message, looks, hint in TOML_MISTAKES:
        if message in str(error) and re.search(looks, line):
            return f"line {place[1] if place else 1}: {hint}"
    return f"correct line {place[1]}: {line.strip():.60}" if place else "correct the file"


# (a part of tomllib's message, a pattern of the line, the correction)
TOML_MISTAKES = (
    ("", "[\u201c\u201d\u201e]", "replace the curly quotation marks by straight ones"),
    ("Expected '='", r"^\s*[\w-]+\s*:", "write = instead of : after the name"),
    ("Cannot overwrite", "", "this field is there twice; delete one"),
    ("Cannot declare", "", "this section is there twice; write all its fields under one"),
    ("Illegal character '\\n'", "", "the quotation mark at the end is missing"),
    ("Invalid value", r"=\s*(True|False)\b", "write true or false in small letters"),
    ("Invalid value", r"=\s*[^\W\d]", "write texts in quotation marks"),
    ("Unclosed array", "", "a comma or the closing ] is missing"),
)


def _place(name: str, section: str, known: Iterable[str] = ()) -> str:
    """Name the sections that have a field of this name; if none has, list the known names."""
    homes = [
        f"[{home}]" if home in SECTIONS else f"[[{home}]]"
        for home, kind in {**SECTIONS, **LISTS}.items()
        if home != section and name in {spec.name for spec in dataclasses.fields(kind)}
    ]
    if homes:
        return f"it belongs in {' or '.join(homes)}"
    return f"known are {', '.join(known)}" if known else "write it under its section"
