"""The recipe: one TOML file that says everything about a run, and the only home of its defaults.

`load_recipe` reads it, checks all of it and reports every mistake at once with its line. Paths in a
recipe are relative to the recipe's own folder. The dataclasses are frozen; each field carries its
help, from which the command line and the documentation are built.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from m2m.errors import InputError, Problems, RecipeError

METRICS = (
    "auto",
    "choice_bits",
    "contrast_bits",
    "bits_per_byte",
    "accuracy",
    "accuracy_norm",
    "perplexity",
)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SCHEDULES = ("constant", "linear", "cosine")
QUANTIZATIONS = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
MERGE_METHODS = ("linear",)
STRATEGIES = ("auto", "exhaustive")
BASELINES = ("all", "best_single")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Section = TypeVar("Section")


def _set(default: Any, text: str, **rules: Any) -> Any:
    """A field with its default, its help and its value's rules (`choices`, `low`, `high`)."""
    return field(default=default, metadata={"help": text, **rules})


def _need(text: str, **rules: Any) -> Any:
    """A field without a default."""
    return field(metadata={"help": text, **rules})


@dataclass(frozen=True)
class Base:
    """`[base]`: the model that every expert starts from."""

    model: str = _need("a folder under models/, or a path to one")
    template: str = _set(
        "chat", "the model's own chat template, or plain text", choices=("chat", "plain")
    )


@dataclass(frozen=True)
class Dataset:
    """`[[datasets]]`: one candidate training set."""

    name: str = _need("short name, unique in the recipe", pattern=NAME)
    path: Path = _need("JSONL, JSON, CSV, TSV or text file", exists=True)
    licence: str = _set("", "licence of the data, carried into the report and the model card")
    source: str = _set("", "where the data comes from")
    notes: str = _set("", "anything a reader should know")


@dataclass(frozen=True)
class Target:
    """`[[targets]]`: the task that the model shall do well."""

    name: str = _need("short name, unique in the recipe", pattern=NAME)
    dev: Path = _need("examples that the search may see", exists=True)
    test: Path | None = _set(None, "examples kept for the confirmation", exists=True)
    metric: str = _set(
        "auto", "what is compared; auto follows the kind of the target", choices=METRICS
    )
    weight: float = _set(1.0, "share in the mean over several targets", low=0.0)


@dataclass(frozen=True)
class Train:
    """`[train]`: how one adapter is trained; the same for every dataset."""

    rank: int = _set(16, "rank of the LoRA matrices", low=1, high=1024)
    alpha: float = _set(32.0, "LoRA alpha: the delta is alpha / rank * B @ A", low=1e-6)
    target_modules: tuple[str, ...] = _set(
        PROJECTIONS, "projections that get an adapter", choices=PROJECTIONS
    )
    steps: int = _set(200, "optimiser steps of every expert", low=1)
    batch_tokens: int = _set(512, "tokens per step, at most", low=16)
    accumulate: int = _set(1, "batches per optimiser step", low=1)
    learning_rate: float = _set(1e-3, "peak learning rate of AdamW", low=0.0)
    schedule: str = _set(
        "cosine", "shape of the learning rate after the warm-up", choices=SCHEDULES
    )
    warmup: float = _set(0.05, "share of the steps with a rising learning rate", low=0.0, high=1.0)
    weight_decay: float = _set(0.0, "decoupled weight decay", low=0.0)
    clip: float = _set(1.0, "largest global norm of a gradient; 0: no clipping", low=0.0)
    max_length: int = _set(512, "tokens of a row beyond which it is refused", low=8)
    checkpoint_every: int = _set(25, "steps between two checkpoints", low=1)
    seed: int = _set(0, "seed of the initial weights and of the order of rows", low=0)


@dataclass(frozen=True)
class Merge:
    """`[merge]`: how the experts' deltas become one."""

    method: str = _set("linear", "merge method", choices=MERGE_METHODS)
    scale: float = _set(1.0, "factor on the merged delta", low=0.0)


@dataclass(frozen=True)
class Quantize:
    """`[quantize]`: ggml types of the surrogates and of the exported model."""

    type: str = _set("q8_0", "type in which surrogates are scored", choices=QUANTIZATIONS)
    export: str = _set("q8_0", "type of the exported GGUF", choices=QUANTIZATIONS)


@dataclass(frozen=True)
class Search:
    """`[search]`: which mixtures are scored."""

    strategy: str = _set("auto", "how mixtures are chosen", choices=STRATEGIES)
    max_datasets: int = _set(0, "largest mixture; 0: no limit", low=0)
    seed: int = _set(0, "seed of everything random in search and ranking", low=0)


@dataclass(frozen=True)
class Confirm:
    """`[confirm]`: what is really fine-tuned after the search."""

    top: int = _set(2, "mixtures from the top of the ranking", low=1)
    baselines: tuple[str, ...] = _set(
        BASELINES, "comparisons that are fine-tuned too", choices=BASELINES
    )
    budget: str | int = _set(
        "fixed",
        "steps of a confirming fine-tune: fixed (those of one expert), proportional (times the "
        "number of datasets), or a number",
        choices=("fixed", "proportional"),
        low=1,
    )


@dataclass(frozen=True)
class Limits:
    """`[limits]`: what the run may use of this machine."""

    threads: str | int = _set("auto", "threads for training and scoring", choices=("auto",), low=1)


@dataclass(frozen=True)
class Recipe:
    """Everything about a run, checked."""

    path: Path
    base: Base
    datasets: tuple[Dataset, ...]
    targets: tuple[Target, ...]
    train: Train = Train()
    merge: Merge = Merge()
    quantize: Quantize = Quantize()
    search: Search = Search()
    confirm: Confirm = Confirm()
    limits: Limits = Limits()

    @property
    def folder(self) -> Path:
        """Where the results live: `m2m-runs/NAME/` beside the recipe."""
        return self.path.parent / "m2m-runs" / self.path.stem


SECTIONS: dict[str, type] = {
    "base": Base,
    "train": Train,
    "merge": Merge,
    "quantize": Quantize,
    "search": Search,
    "confirm": Confirm,
    "limits": Limits,
}
LISTS: dict[str, type] = {"datasets": Dataset, "targets": Target}


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file cannot be read or is not TOML.
        RecipeError: it has mistakes; the message lists all of them with their lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", "give the path of a recipe.toml"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8"
        ) from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{path} is not valid TOML: {error}", "mend the line that it names"
        ) from error
    return _Reader(path.absolute(), text).recipe(tables)


def as_json(section: Any) -> dict[str, Any]:
    """A section as plain JSON values, defaults included: what a result's fingerprint covers."""
    plain = dataclasses.asdict(section)
    return {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()}


class _Reader:
    """Builds a `Recipe` from parsed TOML and collects everything that is wrong with it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = _line_numbers(text)
        self.problems = Problems()

    def recipe(self, tables: Mapping[str, Any]) -> Recipe:
        for name in tables.keys() - SECTIONS.keys() - LISTS.keys():
            self.wrong(
                (name,), f"unknown section [{name}]; known are {_words([*SECTIONS, *LISTS])}"
            )
        single: dict[str, Any] = {
            name: self.section(kind, tables.get(name, {}), (name,))
            for name, kind in SECTIONS.items()
        }
        many: dict[str, Any] = {
            name: self.sections(kind, tables.get(name, []), name) for name, kind in LISTS.items()
        }
        self.problems.raise_if_any(
            RecipeError, str(self.path), "every field is explained in the README, section Recipe"
        )
        return Recipe(self.path, **single, **many)

    def sections(self, kind: type[Section], tables: Any, name: str) -> tuple[Section, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.wrong((name,), f"write [[{name}]] with double brackets, once for each")
            return ()
        if not tables:
            self.problems.add(f"no [[{name}]]: at least one is needed")
        seen: dict[str, int] = {}
        for index, table in enumerate(tables):
            label = table.get("name")
            if isinstance(label, str) and seen.setdefault(label.lower(), index) != index:
                self.wrong(
                    (name, index, "name"), f"the name {label!r} is taken by an earlier [[{name}]]"
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
        fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for key in table.keys() - fields.keys():
            self.wrong(
                (*at, key), f"unknown field {key!r} in [{at[0]}]; known are {_words(fields)}"
            )
        values: dict[str, Any] = {}
        complete = True
        for name, spec in fields.items():
            if name in table:
                value = self.value(table[name], hints[name], spec.metadata, (*at, name))
                complete &= value is not None
                values[name] = value
            elif spec.default is dataclasses.MISSING:
                self.wrong(at, f"field {name!r} is missing in [{at[0]}]: {spec.metadata['help']}")
                complete = False
        return kind(**values) if complete else None

    def value(
        self, raw: Any, hint: Any, rules: Mapping[str, Any], at: tuple[str | int, ...]
    ) -> Any:
        """`raw` as the field's type, or None after noting what is wrong with it."""
        if get_origin(hint) is tuple:
            if not isinstance(raw, list) or (not raw and "baselines" not in at):
                return self.wrong(at, f"{at[-1]} must be a list, found {raw!r}")
            items = [self.value(item, get_args(hint)[0], rules, at) for item in raw]
            return None if None in items else tuple(items)
        kinds = (
            get_args(hint)
            if get_origin(hint) in (UnionType,) or isinstance(hint, UnionType)
            else (hint,)
        )
        if float in kinds and isinstance(raw, int) and not isinstance(raw, bool):
            raw = float(raw)
        if Path in kinds and isinstance(raw, str):
            return self.existing(raw, at)
        if isinstance(raw, bool) or not isinstance(raw, kinds):
            names = " or ".join(NAMES_OF_TYPES[each] for each in kinds if each in NAMES_OF_TYPES)
            return self.wrong(at, f"{at[-1]} must be {names}, found {raw!r}")
        return self.obey(raw, rules, at)

    def obey(self, value: Any, rules: Mapping[str, Any], at: tuple[str | int, ...]) -> Any:
        if isinstance(value, str):
            if value not in (choices := rules.get("choices", (value,))):
                return self.wrong(at, f"unknown {at[-1]} {value!r}; known are {_words(choices)}")
            if "pattern" in rules and not rules["pattern"].fullmatch(value):
                return self.wrong(
                    at, f"{at[-1]} {value!r} may hold letters, digits, dots, - and _ only"
                )
            return value
        low, high = rules.get("low", float("-inf")), rules.get("high", float("inf"))
        if not (low <= value <= high and math.isfinite(value)):
            bound = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
            return self.wrong(at, f"{at[-1]} must be {bound}, found {value}")
        return value

    def existing(self, raw: str, at: tuple[str | int, ...]) -> Path | None:
        path = self.path.parent / raw
        if not path.is_file():
            self.wrong(at, f"{at[-1]}: there is no file {path}")
            return None
        return path

    def wrong(self, at: tuple[str | int, ...], message: str) -> None:
        """Note a mistake with the line of its field, or else of its section."""
        while at and at not in self.lines:
            at = at[:-1]
        self.problems.add(f"line {self.lines[at]}: {message}" if at else message)


NAMES_OF_TYPES = {str: "text", int: "a whole number", float: "a number", Path: "a path"}
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def _line_numbers(text: str) -> dict[tuple[str | int, ...], int]:
    """Where each section and field stands: ("datasets", 1, "path") -> line, counted from 1."""
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


def _words(names: Any) -> str:
    return ", ".join(str(name) for name in names)
