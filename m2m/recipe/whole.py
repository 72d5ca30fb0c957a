"""A whole recipe: its sections, its settings, the folder of its results, and its JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import refuse_other
from m2m.recipe.data_fields import Dataset, Target
from m2m.recipe.fields import (
    Base,
    Confirm,
    Data,
    Limits,
    Merge,
    Quantize,
    Report,
    Search,
    Train,
    Validate,
)
from m2m.recipe.strategies import NONE

_PLAIN = re.compile(r"[A-Za-z0-9.,_+=-]{1,80}")


@dataclass(frozen=True)
class Recipe:
    """Everything about a run, checked.

    `roots` are more folders in which its files may be; they come from the user, not from the file.
    `remarks` say which settings do not come from the file, and why. `overrides` are the values that
    the user gave in place of the file's, and `out` is the folder that the user gave for results.
    """

    path: Path
    base: Base
    datasets: tuple[Dataset, ...]
    targets: tuple[Target, ...]
    data: Data = Data()
    train: Train = Train()
    merge: Merge = Merge()
    quantize: Quantize = Quantize()
    search: Search = Search()
    confirm: Confirm = Confirm()
    validate: Validate = Validate()
    limits: Limits = Limits()
    report: Report = Report()
    roots: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    out: Path | None = None

    @staticmethod
    def load(
        path: str | Path,
        *,
        overrides: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        roots: Sequence[Path] = (),
    ) -> Recipe:
        """Read and check a recipe's file; see `m2m.recipe.reader.load_recipe`."""
        from m2m.recipe.reader import load_recipe  # which needs this module

        refuse_other("recipe", path, str | Path, "a file")
        refuse_other("out", out, str | Path | None, "a folder")
        refuse_other("overrides", overrides, Mapping | None, 'a dict such as {"train.seed": 1}')
        return load_recipe(Path(path), roots, overrides, Path(out) if out else None)

    @property
    def with_rows(self) -> list[Dataset]:
        """Return the datasets that have rows, and not only an adapter."""
        return [dataset for dataset in self.datasets if dataset.has_rows]

    @property
    def folder(self) -> Path:
        """Return the folder of the results; other settings than the file's have their own."""
        if self.out is not None:
            return self.out
        home = run_folder(self.path)
        return home.with_name(home.name + named_after(self.overrides))

    @property
    def searches(self) -> bool:
        """Return whether mixtures are searched; if not, no expert is trained."""
        return self.search.strategy != NONE

    @property
    def growth(self) -> float:
        """Return `[merge] growth` as a number: auto follows the regime of the real fine-tunes.

        With steps in proportion, a fine-tune goes as far along every dataset as its expert went.
        The directions hardly overlap, so it goes about sqrt(k) times as far as one of them.
        Measured in examples/swahili/RESULTS.md. An arc (slerp) is already as long as its ends.
        """
        if not isinstance(self.merge.growth, str):
            return self.merge.growth
        if self.merge.method == "slerp":
            return 0.0
        return 0.5 if self.confirm.budget == "proportional" else 0.0


def run_folder(recipe: Path) -> Path:
    """Return the folder of a recipe's results: `m2m-runs/NAME/` in the recipe's folder."""
    return recipe.parent / "m2m-runs" / recipe.stem


def named_after(effective: Mapping[str, Any]) -> str:
    """Return the end of a folder's name for these overrides: "+train.seed=1"; "" for none.

    The order of the overrides does not count. Long and unusual values become a hash.
    """
    if not effective:
        return ""
    parts = [
        f"{key}={value if isinstance(value, str) else json.dumps(_short(value))}"
        for key, value in sorted(effective.items())
    ]
    name = "+".join(parts)
    if _PLAIN.fullmatch(name) and not name.endswith("."):
        return f"+{name}"
    return f"+{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def _short(value: Any) -> Any:
    """Return a number in one spelling: 8 for 8.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


SECTIONS: dict[str, type] = {"base": Base} | {
    spec.name: type(spec.default)
    for spec in dataclasses.fields(Recipe)
    if dataclasses.is_dataclass(spec.default)
}
LISTS: dict[str, type] = {"datasets": Dataset, "targets": Target}


def as_json(section: Any, *, whole: bool = False) -> dict[str, Any]:
    """Return a section as plain JSON values with defaults, as covered by a result's fingerprint.

    Fields that older recipes do not have (`later`) are left out at their defaults, so that these
    recipes keep their fingerprints; with `whole` they are there too.
    """
    specs = {spec.name: spec for spec in dataclasses.fields(section)}
    plain = {
        key: value
        for key, value in dataclasses.asdict(section).items()
        if whole or not (specs[key].metadata.get("later") and value == specs[key].default)
    }
    return {key: _plain(value) for key, value in plain.items()}


def recipe_json(recipe: Recipe, *, whole: bool = False) -> dict[str, Any]:
    """Return a recipe's sections, datasets and targets; see `as_json`.

    A section whose fields are all newer than older runs is left out at its defaults.
    """
    sections = {name: as_json(getattr(recipe, name), whole=whole) for name in SECTIONS}
    lists = {
        name: [as_json(entry, whole=whole) for entry in getattr(recipe, name)] for name in LISTS
    }
    return {name: section for name, section in sections.items() if section} | lists


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], Path):
        return [str(path) for path in value]
    return str(value) if isinstance(value, Path) else value


def changed(recipe: Recipe, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return the recipe with changed fields, by section and name; None keeps the field's value."""
    sections = {}
    for name, fields in changes.items():
        values = {key: value for key, value in fields.items() if value is not None}
        sections[name] = dataclasses.replace(getattr(recipe, name), **values)
    return dataclasses.replace(recipe, **sections)
