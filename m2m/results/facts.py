"""Collect all facts about one run, read from its folder alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from m2m.adapter import OWN
from m2m.errors import NOISY, InputError, WarningText
from m2m.export.licences import remarks
from m2m.formats.journal import Journal
from m2m.formats.json_fields import JsonFields, Key
from m2m.formats.records import read_object
from m2m.mix.mixture import BASE, Mixture
from m2m.opening import read_bytes
from m2m.recipe import Report
from m2m.results.answers import answers_table
from m2m.results.confirmation import Confirmation, confirmed_table, facet_tables
from m2m.results.courses import courses_table
from m2m.results.export import Exported
from m2m.results.folder import (
    CONFIRMED,
    EXPORTED,
    JUDGED,
    MORE_ROWS,
    RANKING,
    RECIPE,
    VALIDATED,
    RunFolder,
    parsed,
)
from m2m.results.judging import Judged, judged_table
from m2m.results.more_rows import MoreRows, more_rows_table
from m2m.results.ranking import Ranking, ranking_tables
from m2m.results.settings import checked_settings
from m2m.results.stage import Stage, added_up, stage_columns, stage_rows, summed
from m2m.results.table import Column, Table
from m2m.results.training import Curve, loss_table, training_table
from m2m.results.validation import Validation, validation_tables

Json = Mapping[str, Any]
JOULE_PER_KWH = 3.6e6
_END = 4096  # bytes of a log that have its last line


@dataclass(frozen=True)
class DatasetFacts(JsonFields):
    """A dataset: its origin, its terms of use, its weight in the winner."""

    name: str
    rows: int | None
    weight: float
    languages: tuple[str, ...]
    licence: str
    source: str
    notes: str


@dataclass(frozen=True)
class Facts(JsonFields):
    """Everything that a report says about one run.

    Attributes:
        name: name of the run, which is its recipe's name.
        base: facts about the base model (`name`, `parameters`, `licence`, ...).
        settings: the recipe with its defaults, section by section.
        versions: versions of m2m and llama.cpp.
        stages: the cost of each stage, over all calls.
        watts: assumed power of the machine while it works.
        warnings: warnings about the results, each a sentence.
        remarks: obligations and restrictions of the licences of the base and of the winner's data.
        day: the day of the last work, as 2026-11-30; "" without a log.
    """

    name: str
    base: Json
    settings: Json
    versions: Mapping[str, str]
    sources: Sequence[DatasetFacts] = ()
    ranking: Ranking | None = None
    confirmation: Confirmation | None = None
    curves: Sequence[Curve] = ()
    validation: Validation | None = None
    export: Exported | None = None
    judged: Judged | None = None
    more_rows: MoreRows | None = None
    stages: Annotated[Sequence[Stage], Key("steps")] = ()
    watts: float = 0.0
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    day: str = ""

    def head(self, name: str) -> str:
        """Return a field of `[report]` that people see at its head: "title", "author", ..."""
        return str(self.settings.get("report", {}).get(name) or "")

    @property
    def seconds(self) -> float:
        """Return the total over all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def total(self) -> Stage:
        """Return the cost of all stages together."""
        return Stage(
            "all",
            self.seconds,
            max((stage.peak_rss_bytes for stage in self.stages), default=0),
            summed(*(stage.gpu_joules for stage in self.stages)),
        )

    @property
    def gpu_note(self) -> str:
        """Return a remark about the energy of a GPU; "" if the recipe asks for none."""
        limits = self.settings.get("limits", {})
        if limits.get("device", "cpu") == "cpu" and not limits.get("gpu_layers"):
            return ""
        if self.total.gpu_joules is None:
            return "; no GPU said what it draws, so `watts` in [report] has to contain it"
        return "; the GPUs' energy, as they measure it, is added"

    def energy_kwh(self, stage: Stage) -> float:
        """Return the energy at the assumed power, and that of GPUs which say it."""
        return (self.watts * stage.seconds + (stage.gpu_joules or 0.0)) / JOULE_PER_KWH

    def as_json(self) -> dict[str, Any]:
        """Return the content of `report.json`: each result as its own command prints it."""
        return {
            "verdict": self.confirmation and self.confirmation.verdict.as_json(),
            **super().as_json(),
            "steps": [vars(stage) for stage in self.stages],
            "seconds": self.seconds,
            "energy_kwh": self.energy_kwh(self.total),
        }


def read_facts(path: Path, watts: float | None = None) -> Facts:
    """Read all facts about the run in the folder `path`; nothing is computed again.

    Args:
        path: the run's folder; the run may be unfinished.
        watts: power for the energy estimate, instead of the recipe's.

    Raises:
        InputError: `path` is not the folder of a run, or a file in it is damaged.
    """
    folder, recipe = RunFolder(path), path / RECIPE
    if not recipe.is_file():
        raise InputError(
            f"{path} is not the folder of a run (it has no {RECIPE})",
            "start it with `m2m run RECIPE`, or give the folder m2m-runs/NAME next to a recipe",
        )
    data = read_object(recipe)
    stored = parsed(recipe, lambda: checked_settings(data))
    home = parsed(recipe, lambda: Path(stored["recipe"]).parent)
    settings = _relative(stored, home)
    ranking = folder.read(RANKING, Ranking.from_json)
    confirmation = folder.read(
        CONFIRMED, lambda data: Confirmation.from_json(_relative(data, home))
    )
    export = folder.read(EXPORTED, lambda d: Exported.from_json(_relative(d, home)))
    winner = confirmation.winner.mixture if confirmation else BASE
    sources = parsed(recipe, lambda: _sources(settings, winner))
    base = parsed(recipe, lambda: _base(settings))
    given = {str(dataset["name"]) for dataset in settings["datasets"] if dataset.get("adapter")}
    used = [(source.name, source.licence) for source in sources if source.weight]
    assumed = settings.get("report", {}).get("watts", Report().watts)
    return Facts(
        name=path.name,
        base=base,
        settings=settings,
        versions=parsed(recipe, lambda: _versions(settings)),
        sources=sources,
        ranking=ranking,
        confirmation=confirmation,
        curves=_curves(folder, sources, given, ranking, confirmation),
        validation=folder.read(VALIDATED, Validation.from_json),
        export=export,
        judged=folder.read(JUDGED, Judged.from_json),
        more_rows=folder.read(MORE_ROWS, MoreRows.from_json),
        stages=_stages(folder, ranking),
        watts=parsed(recipe, lambda: float(assumed)) if watts is None else watts,
        warnings=[
            *folder.stale(),
            *map(str, base.get("warnings") or ()),
            *(ranking.warnings if ranking else ()),
            *(confirmation.warnings if confirmation else ()),
            *(WarningText(text, NOISY) for text in (export.warnings if export else ())),
        ],
        remarks=remarks([(f"base model {base['name']}", str(base.get("licence") or "")), *used])
        if used
        else [],
        day=_last_day(folder.log),
    )


def _last_day(log: Path) -> str:
    """Return the day of the last line of a run's log; "" if there is none."""
    if not log.is_file():
        return ""
    end = read_bytes(log, growing=True)[-_END:].decode("utf-8", "replace")
    days = re.findall(r"^(\d{4}-\d\d-\d\d) \d\d:\d\d:\d\d  ", end, re.MULTILINE)
    return days[-1] if days else ""


def _base(settings: Json) -> dict[str, Any]:
    return dict(settings.get("inputs", {}).get("base") or {"name": settings["base"]["model"]})


def _relative(value: Any, root: Path) -> Any:
    """Make paths below `root` in JSON values relative, so that a report names no home folder."""
    if isinstance(value, Mapping):
        return {key: _relative(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(item, root) for item in value]
    inside = isinstance(value, str) and value.startswith(f"{root}{os.sep}")
    return Path(value).relative_to(root).as_posix() if inside else value


def _sources(settings: Json, winner: Mixture) -> list[DatasetFacts]:
    known = settings.get("inputs", {}).get("datasets", {})
    return [
        DatasetFacts(
            name=str(dataset["name"]),
            rows=known.get(dataset["name"], {}).get("rows"),
            weight=winner.weight_by_dataset.get(dataset["name"], 0.0),
            languages=tuple(map(str, dataset.get("languages") or ())),
            **{key: str(dataset.get(key) or "") for key in ("licence", "source", "notes")},
        )
        for dataset in settings["datasets"]
    ]


def _versions(settings: Json) -> dict[str, str]:
    keys = {"m2m": "m2m", "llama.cpp": "llama", "Python": "python", "NumPy": "numpy",
            "system": "system"}  # fmt: skip
    versions = {name: str(settings[key]) for name, key in keys.items() if settings.get(key)}
    sections = [section for section in ("train", "merge", "search") if section in settings]
    seeds = ", ".join(f"{section} {settings[section].get('seed', 0)}" for section in sections)
    base = settings.get("inputs", {}).get("base", {}).get("fingerprint")
    return {**versions, "seeds": seeds, **({"base SHA-256": str(base)} if base else {})}


def _curves(
    folder: RunFolder,
    sources: Sequence[DatasetFacts],
    given: set[str],
    ranking: Ranking | None,
    confirmation: Confirmation | None,
) -> list[Curve]:
    """Read the curves of the experts in the recipe's order, then of the confirming fine-tunes.

    An adapter of a dataset that the search did not use belongs to an earlier recipe, and so does
    one of a dataset in `given`, whose expert was trained elsewhere.
    """
    names = [source.name for source in sources if source.name not in given]
    if ranking:
        used = {name for place in ranking.places for name in place.mixture.datasets}
        names = [name for name in names if name in used]
    places = [(name, folder.adapters / name) for name in names]
    for model in confirmation.models if confirmation else ():
        if adapter := _inside(folder, model.adapter):
            places.append((f"fine-tune: {model.mixture.short(len(sources))}", adapter))
    curves = []
    for name, place in places:
        own = str((place / OWN).relative_to(folder.path))
        curve = folder.read(own, lambda data, name=name: Curve.of_adapter(name, data))  # type: ignore[misc]
        curves += [curve] if curve else []
    return curves


def _inside(folder: RunFolder, adapter: Path | None) -> Path | None:
    """Return a fine-tune's folder in this copy of the run; None if it is not there."""
    here = folder.adapter_here(adapter) if adapter else None
    return here if here and folder.finetunes in here.parents else None


def _stages(folder: RunFolder, ranking: Ranking | None) -> tuple[Stage, ...]:
    """Add up each stage over all calls; in a folder without that journal, the search alone."""
    lines = Journal(folder.stages).replay()
    stages = parsed(folder.stages, lambda: added_up(map(Stage.from_json, lines)))
    if not stages and ranking:
        return (Stage("search", ranking.seconds, 0),)
    return stages


def tables(facts: Facts) -> list[Table]:
    """Return all tables for people that have results."""
    shown: list[Table] = []
    if facts.confirmation:
        shown.append(confirmed_table(facts.confirmation, len(facts.sources)))
    if facts.ranking:
        shown += ranking_tables(facts.ranking, [source.name for source in facts.sources])
    if facts.confirmation:
        shown += facet_tables(facts.confirmation, len(facts.sources))
        if facts.confirmation.courses:
            shown.append(courses_table(facts.confirmation.courses, len(facts.sources)))
    shown += _asked_for(facts)
    if facts.curves:
        shown.append(training_table(facts.curves))
    if facts.sources:
        shown.append(source_table(facts.sources))
    if facts.stages:
        shown.append(cost_table(facts))
    return [table for table in shown if table.rows]


def _asked_for(facts: Facts) -> Iterator[Table]:
    """Yield the tables of the commands that no run does by itself."""
    if facts.judged:
        yield judged_table(facts.judged)
    if facts.more_rows:
        yield more_rows_table(facts.more_rows)
    if facts.validation:
        yield from validation_tables(facts.validation)


def csv_tables(facts: Facts) -> list[Table]:
    """Return the tables of the CSV files: those for people, every step's loss, and answers."""
    losses = [loss_table(facts.curves)] if facts.curves else []
    answers = facts.confirmation and facts.confirmation.answers
    return [*tables(facts), *losses, *([answers_table(answers)] if answers else [])]


def source_table(sources: Sequence[DatasetFacts]) -> Table:
    """Show the origin of the data."""
    return Table(
        "data",
        "Datasets as the recipe describes them, with their weight in the winner",
        [
            Column("dataset", "dataset"),
            Column("weight", "weight", float, lambda part: f"{100 * part:.0f} %" if part else "-"),
            Column("rows", "rows", int),
            Column("languages", "languages"),
            Column("licence", "licence", text=lambda licence: licence or "not given"),
            Column("source", "source", text=lambda source: source or "not given"),
            Column("notes", "notes"),
        ],
        [
            (
                source.name,
                source.weight,
                source.rows,
                ", ".join(source.languages) or None,
                source.licence,
                source.source,
                source.notes,
            )
            for source in sources
        ],
        strong=frozenset(place for place, source in enumerate(sources) if source.weight),
    )


def cost_table(facts: Facts) -> Table:
    """Show time, memory and energy of each stage."""
    stages, columns = [*facts.stages, facts.total], stage_columns()
    rows = [
        (*row, facts.energy_kwh(stage))
        for row, stage in zip(stage_rows(stages), stages, strict=True)
    ]
    return Table(
        "costs",
        "Time over all calls, with the largest peak of memory; energy if the whole machine draws "
        f"{facts.watts:g} W while it works (an assumption, not a measurement){facts.gpu_note}",
        [*columns, Column("kwh", "energy", float, energy_text)],
        rows,
        strong=frozenset({len(facts.stages)}),
    )


def energy_text(kwh: float) -> str:
    """Write an energy: "24.9 Wh" or "1.2 kWh"."""
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{1000 * kwh:.3g} Wh"
