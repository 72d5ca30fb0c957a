"""What a run's folder says about the run: kept step by step, read back for the report.

    recipe.json -> ranking.json -> confirm.json -> export.json
                              \\-> validate.json                      and steps.jsonl

Each notes which state of the one before it was made from, so that a report can tell when it is put
together from results that do not belong together.
"""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from m2m import __version__
from m2m.adapter import OWN
from m2m.errors import InputError
from m2m.evaluate.same import in_words
from m2m.export.licences import remarks
from m2m.formats.atomic import write_json
from m2m.formats.journal import Journal
from m2m.formats.records import read_object
from m2m.llamacpp.model import build_info
from m2m.mix.mixture import BASE, Mixture
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.results import Step
from m2m.recipe import SECTIONS, Report, as_json
from m2m.report.facts import (
    Breakdown,
    Confirmation,
    Cost,
    Curve,
    Facet,
    Facts,
    Ranking,
    Source,
    Validation,
)
from m2m.store import fingerprint

RECIPE, RANKING, CONFIRMED = "recipe.json", "ranking.json", "confirm.json"
EXPORTED, VALIDATED, STEPS = "export.json", "validate.json", "steps.jsonl"
_MADE_FROM = {RANKING: RECIPE, CONFIRMED: RANKING, VALIDATED: RANKING, EXPORTED: CONFIRMED}
# What of a file decides the results after it.
_DECIDES = {
    RECIPE: ("base", "train", "merge", "quantize", "search", "datasets", "targets", "inputs"),
    RANKING: ("mixtures",),
    CONFIRMED: ("winner",),
}
FEW_EXAMPLES = 30  # below which a bootstrap's percentile intervals are too narrow to be shown alone
_REDO = {RANKING: "search", CONFIRMED: "confirm", VALIDATED: "validate", EXPORTED: "export"}

Found = TypeVar("Found")


def resolved(inputs: Inputs) -> dict[str, Any]:
    """The recipe with its defaults, what it names, and the versions at work: `recipe.json`."""
    recipe, info = inputs.recipe, inputs.base.info
    return {
        "m2m": __version__,
        "llama": build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "recipe": str(recipe.path),
        **{name: as_json(getattr(recipe, name)) for name in SECTIONS},
        "datasets": [as_json(each) for each in recipe.datasets],
        "targets": [as_json(each) for each in recipe.targets],
        "inputs": {
            "base": {
                "name": info.name,
                "architecture": info.architecture,
                "parameters": info.parameters,
                "licence": info.licence,
                "source": info.source,
                "fingerprint": inputs.base.fingerprint,
                "warnings": list(inputs.cautions),
            },
            "datasets": {
                name: {
                    "rows": len(corpus.samples) + len(corpus.held_out),
                    "held_out": len(corpus.held_out),
                    "fingerprint": corpus.fingerprint,
                }
                for name, corpus in inputs.corpora.items()
            },
            "targets": {
                target.name: {
                    part: task.sha256 or task.fingerprint
                    for part, tasks in (("dev", inputs.dev), ("test", inputs.test))
                    if (task := tasks.get(target.name))
                }
                for target in recipe.targets
            },
        },
    }


def keep(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write one of the files, with the mark of the one that it was made from."""
    before = _MADE_FROM.get(name)
    mark = {"made_from": _mark(folder, before)} if before else {}
    write_json(folder / name, {**data, **mark})


def keep_step(folder: Path, step: Step) -> None:
    """Add what a step took to `steps.jsonl`."""
    Journal(folder / STEPS).append({**vars(step), "seconds": round(step.seconds, 3)})


def read_facts(folder: Path, watts: float | None = None) -> Facts:
    """Everything that is known of the run in `folder`; nothing is computed anew.

    Args:
        folder: of the run, which may be unfinished.
        watts: instead of the recipe's, for the energy estimate.

    Raises:
        InputError: it is no run's folder, or a file in it is damaged.
    """
    if not (folder / RECIPE).is_file():
        raise InputError(
            f"{folder} is not the folder of a run (it has no {RECIPE})",
            "start it with `m2m run RECIPE`, or give the folder m2m-runs/NAME beside a recipe",
        )
    found = read_object(folder / RECIPE)
    settings = _as(folder / RECIPE, lambda: _relative(found, Path(found["recipe"]).parent))
    ranking = _part(folder / RANKING, Ranking.from_json)
    confirmation = _part(folder / CONFIRMED, Confirmation.from_json)
    export = _part(folder / EXPORTED, _named)
    winner = confirmation.winner.mixture if confirmation else BASE
    sources = _as(folder / RECIPE, lambda: _sources(settings, winner))
    base = dict(settings.get("inputs", {}).get("base") or {"name": settings["base"]["model"]})
    used = [(source.name, source.licence) for source in sources if source.share]
    assumed = settings.get("report", {}).get("watts", Report().watts)
    return Facts(
        name=folder.name,
        base=base,
        settings=settings,
        versions=_versions(settings),
        sources=sources,
        ranking=ranking,
        confirmation=confirmation,
        breakdowns=_part(folder / CONFIRMED, _breakdowns) or (),
        curves=_curves(folder, sources, ranking, _part(folder / CONFIRMED, _tuned) or {}),
        validation=_part(folder / VALIDATED, Validation.from_json),
        export=export,
        costs=_costs(folder, ranking),
        watts=float(assumed) if watts is None else watts,
        warnings=(
            *_stale(folder),
            *map(str, base.get("warnings") or ()),
            *_few(ranking),
            *_said(ranking),
            *_exported(export or {}),
        ),
        remarks=tuple(
            remarks([(f"base model {base['name']}", str(base.get("licence") or "")), *used])
            if used
            else ()
        ),
    )


def _part(path: Path, read: Callable[[Mapping[str, Any]], Found]) -> Found | None:
    """What `read` makes of a JSON file; None where there is no such file."""
    if not path.is_file():
        return None
    data = read_object(path)
    return _as(path, lambda: read(data))


def _as(path: Path, make: Callable[[], Found]) -> Found:
    """What `make` returns; what it misses in `path` is told."""
    try:
        return make()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise InputError(
            f"{path}: is not as m2m writes it ({type(error).__name__}: {error})",
            "run `m2m run RECIPE` again: it writes the file anew from what is finished",
        ) from error


def _mark(folder: Path, name: str) -> str:
    """The fingerprint of what decides the next step's results."""
    data = read_object(folder / name)
    return fingerprint(**{key: data.get(key) for key in _DECIDES[name]})


def _stale(folder: Path) -> list[str]:
    """Where two files do not belong together."""
    said = []
    for name, before in _MADE_FROM.items():
        path = folder / name
        made_from = read_object(path).get("made_from") if path.is_file() else None
        if made_from and (folder / before).is_file() and made_from != _mark(folder, before):
            said.append(
                f"{name} was made before {before} changed: `m2m {_REDO[name]} RECIPE` brings it "
                "up to date"
            )
    return said


def _few(ranking: Ranking | None) -> list[str]:
    if ranking is None or (ranking.different or ranking.examples) >= FEW_EXAMPLES:
        return []
    count = in_words(ranking.examples, ranking.different or ranking.examples)
    return [f"{count} of {ranking.target} are too few. Write at least {FEW_EXAMPLES}, better 100."]


def _said(ranking: Ranking | None) -> tuple[str, ...]:
    return ranking.warnings if ranking else ()


def _relative(value: Any, root: Path) -> Any:
    """JSON values with the paths below `root` relative to it: a report names no home folder."""
    if isinstance(value, Mapping):
        return {key: _relative(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [_relative(each, root) for each in value]
    inside = isinstance(value, str) and value.startswith(f"{root}{os.sep}")
    return Path(value).relative_to(root).as_posix() if inside else value


def _named(export: Mapping[str, Any]) -> dict[str, Any]:
    """The export with names of files instead of their paths."""
    for key, kind in (("self_test", dict), ("serving", list)):
        if not isinstance(export.get(key) or kind(), kind):
            raise TypeError(f"{key} is no {kind.__name__}")
    paths = ("gguf", "modelfile", "lora", "card")
    return {k: Path(str(v)).name if k in paths else v for k, v in export.items()}


def _exported(export: Mapping[str, Any]) -> list[str]:
    remedy = export.get("remedy")
    lost = f"{export.get('type')} keeps too little of the fine-tune; {remedy}"
    tested = (export.get("self_test") or {}).get("warnings") or ()
    return [*([lost] if remedy else []), *map(str, tested)]


def _sources(settings: Mapping[str, Any], winner: Mixture) -> tuple[Source, ...]:
    known = settings.get("inputs", {}).get("datasets", {})
    return tuple(
        Source(
            name=str(each["name"]),
            rows=known.get(each["name"], {}).get("rows"),
            share=winner.shares.get(each["name"], 0.0),
            languages=tuple(map(str, each.get("languages") or ())),
            **{key: str(each.get(key) or "") for key in ("licence", "source", "notes")},
        )
        for each in settings["datasets"]
    )


def _versions(settings: Mapping[str, Any]) -> dict[str, str]:
    named = {"m2m": "m2m", "llama.cpp": "llama", "Python": "python", "NumPy": "numpy",
             "system": "system"}  # fmt: skip
    found = {name: str(settings[key]) for name, key in named.items() if settings.get(key)}
    sections = [each for each in ("train", "merge", "search") if each in settings]
    seeds = ", ".join(f"{each} {settings[each].get('seed', 0)}" for each in sections)
    base = settings.get("inputs", {}).get("base", {}).get("fingerprint")
    return {**found, "seeds": seeds, **({"base SHA-256": str(base)} if base else {})}


def _breakdowns(confirmed: Mapping[str, Any]) -> tuple[Breakdown, ...]:
    count = len(confirmed["confirmed"])

    def facet(data: Mapping[str, Any]) -> Facet:
        values = tuple(
            (float(v["value"]), math.nan if v["stderr"] is None else float(v["stderr"]))
            for v in data["values"]
        )
        if len(values) != count:
            raise ValueError(f"{len(values)} values for {count} models")
        return Facet(str(data["name"]), int(data["examples"]), values)

    return tuple(
        Breakdown(
            str(each["target"]),
            str(each["part"]),
            str(each["metric"]),
            bool(each["higher_is_better"]),
            tuple(map(facet, each["facets"])),
        )
        for each in confirmed.get("facets", ())
    )


def _tuned(confirmed: Mapping[str, Any]) -> dict[str, Mixture]:
    """The mixtures of the confirming fine-tunes by their folders, relative to the run's."""
    paths = [(re.split(r"[\\/]", each.get("adapter") or ""), each)
             for each in confirmed["confirmed"]]  # fmt: skip
    return {
        "/".join(parts[len(parts) - parts[::-1].index("confirm") - 1 :]): Mixture.from_json(each)
        for parts, each in paths
        if "confirm" in parts
    }


def _curves(
    folder: Path,
    sources: tuple[Source, ...],
    ranking: Ranking | None,
    tuned: Mapping[str, Mixture],
) -> tuple[Curve, ...]:
    """Of the experts in the recipe's order, then of the confirming fine-tunes.

    An adapter of a dataset that the search did not use is an earlier recipe's.
    """
    names = [source.name for source in sources]
    if ranking:
        used = {name for place in ranking.places for name in place.mixture.datasets}
        names = [name for name in names if name in used]
    places = [(name, folder / "adapters" / name) for name in names]
    places += [
        (f"fine-tune: {mixture.short(len(sources))}", folder / place)
        for place, mixture in tuned.items()
    ]
    found = []
    for name, place in places:
        curve = _part(place / OWN, lambda data, name=name: Curve.from_json(name, data))  # type: ignore[misc]
        found += [curve] if curve else []
    return tuple(found)


def _costs(folder: Path, ranking: Ranking | None) -> tuple[Cost, ...]:
    """Seconds by step, summed over all calls; of folders without the journal, the search's."""
    found: dict[str, Cost] = {}
    path = folder / STEPS
    for line in Journal(path).replay():
        cost = _as(path, lambda line=line: Cost(  # type: ignore[misc]
            str(line["name"]), float(line["seconds"]), int(line["peak_rss_bytes"])
        ))  # fmt: skip
        old = found.get(cost.step, Cost(cost.step, 0.0, 0))
        peak = max(old.peak_rss_bytes, cost.peak_rss_bytes)
        found[cost.step] = Cost(cost.step, old.seconds + cost.seconds, peak)
    if not found and ranking:
        return (Cost("search", ranking.seconds, 0),)
    return tuple(found.values())
