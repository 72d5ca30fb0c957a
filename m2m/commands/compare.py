"""`m2m compare`: finished runs side by side, paired on the questions that they have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.arrays import F64
from m2m.counted import counted
from m2m.errors import InputError
from m2m.evaluate.metric import Metric, resample
from m2m.evaluate.metrics import METRICS, metric_named, metrics_for
from m2m.evaluate.scores import Scores
from m2m.formats.journal import Journal
from m2m.formats.json_values import as_list, as_text
from m2m.mix.mixture import BASE
from m2m.mix.preference import win_rate
from m2m.mix.ranking import SEEN, Interval, percentiles
from m2m.mix.trial import Trial
from m2m.mix.verdict import LEAST
from m2m.results.compared import Compared, Contest, Entry
from m2m.results.confirmation import Confirmation, Model
from m2m.results.facts import Facts, read_facts
from m2m.results.folder import RECIPE, RunFolder, parsed
from m2m.store import fingerprint

_SEED = 0  # of the resamples
_EQUAL = 1e-9
_SECTIONS = ("base", "data", "train", "merge", "quantize", "search", "confirm", "limits")
_NO_RESULT = "limits."  # fields that change no result: runs that differ in them are pooled too
_PROGRAMS = ("m2m", "llama", "python", "numpy", "system")
# Fields of a target that do not change how its questions are asked.
_NOT_ASKED = ("name", "dev", "test", "metric", "weight")


@dataclass(frozen=True)
class _Run:
    """A confirmed run, with the answers of its base and its winner question by question."""

    name: str
    facts: Facts
    confirmation: Confirmation
    targets: Sequence[Mapping[str, Any]]
    base: Trial
    winner: Trial

    def recipe(self, *, seeds: bool) -> str:
        """Return a fingerprint of all fields but limits; runs that are equal without seeds pool."""
        plain = {
            key: value
            for key, value in _fields(self.facts)
            if (seeds or not key.endswith(".seed")) and not key.startswith(_NO_RESULT)
        }
        return fingerprint(fields=plain)


def compare(folders: Sequence[Path]) -> Compared:
    """Compare finished runs; those that differ in seeds only are pooled, copies left out.

    Args:
        folders: of two or more runs.

    Raises:
        InputError: a folder is not that of a confirmed run, or is given twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is given twice", "name each run once")
    begun = [folder for folder in folders if not RunFolder(folder).never_began] or folders
    warnings = [
        f"{folder} is not compared: its run never began; {RunFolder(folder).log} says why"
        for folder in folders
        if folder not in begun
    ]
    folders, names = begun, _names(begun)
    runs: list[_Run] = []
    known: dict[str, str] = {}
    facts = {name: read_facts(folder) for name, folder in zip(names, folders, strict=True)}
    for (name, read), folder in zip(facts.items(), folders, strict=True):
        warnings += [f"{name}: {line}" for line in RunFolder(folder).stale()]
        run, why = _run(name, read, RunFolder(folder))
        if run and (same := known.setdefault(run.recipe(seeds=True), name)) != name:
            run, why = None, f"it has the settings and the seeds of {same}, and would count twice"
        runs += [run] if run else []
        warnings += [] if run else [f"{name} is not compared: {why}"]
    contests = list(_contests(runs))
    return Compared(names, contests, _differences(facts), [*warnings, *_apart(contests, runs)])


def _names(folders: Sequence[Path]) -> list[str]:
    """Return short names that differ: of the folders, or their paths."""
    names = [folder.resolve().name for folder in folders]
    return names if len({*names}) == len(names) else [str(folder) for folder in folders]


def _run(name: str, facts: Facts, folder: RunFolder) -> tuple[_Run | None, str]:
    """Return a run with its answers, or None and the reason."""
    confirmation = facts.confirmation
    if confirmation is None:
        return None, "nothing is confirmed yet; run `m2m confirm RECIPE`"
    trials = [
        Trial.from_json(line, where)
        for where, line in Journal(folder.finetune_scores).lines()
        if not line.get("places")
    ]
    base = next(model for model in confirmation.models if model.mixture == BASE)
    targets = parsed(folder.path / RECIPE, lambda: _targets(facts))
    named = [target.get("metric", "auto") for target in targets]
    if own := [metric for metric in named if metric not in ("auto", *METRICS)]:
        names = ", ".join(dict.fromkeys(own))
        return None, f"its metric {names} is none of m2m's; it is a function of a script"
    first = targets[0]["name"]
    both = [
        next((trial for trial in trials if _gives(trial, model, first)), None)
        for model in (base, confirmation.winner)
    ]
    if both[0] is None or both[1] is None:
        return None, "confirm.jsonl does not hold the answers that gave its scores"
    return _Run(name, facts, confirmation, targets, both[0], both[1]), ""


def _targets(facts: Facts) -> Sequence[Mapping[str, Any]]:
    targets = as_list(facts.settings.get("targets"), "targets", (dict,))
    for target in targets:
        as_text(target.get("name"), "name of a target")
        as_text(target.get("metric", "auto"), "metric")
    if not targets:
        raise ValueError("it has no targets")
    return targets


def _gives(trial: Trial, model: Model, target: str) -> bool:
    """Return whether a trial's answers give exactly the scores of a confirmed model."""
    for part, measured in (("dev", model.dev), ("test", model.test)):
        scores = trial.scores.get(f"{part}:{target}")
        if scores is None:
            if measured:
                return False
            continue
        for name, score in measured.items():
            metric = metric_named(name, scores)
            if metric is None or abs(metric.value(scores, None)[0] - score.value) > _EQUAL:
                return False
    return True


def _contests(runs: Sequence[_Run]) -> Iterator[Contest]:
    """Yield the runs by questions and metric, in the order in which they are given."""
    groups: dict[str, list[tuple[_Run, str, str, Metric]]] = {}
    for run in runs:
        for target in run.targets:
            name = target["name"]
            part = "test" if f"test:{name}" in run.winner.scores else "dev"
            scores = run.winner.scores[f"{part}:{name}"]
            metric = _metric(target.get("metric", "auto"), scores)
            mark = _questions(run, target, part, scores, metric)
            groups.setdefault(mark, []).append((run, part, name, metric))
    for group in groups.values():
        yield _contest(group)


def _metric(name: str, scores: Scores) -> Metric:
    default = metrics_for(scores.kind)[0]
    return default if name == "auto" else metric_named(name, scores) or default


def _questions(
    run: _Run, target: Mapping[str, Any], part: str, scores: Scores, metric: Metric
) -> str:
    """Return a fingerprint of questions, choices and metric: scores compare if it is equal.

    The wrong choices of an answer can be drawn by a seed, so the choices are compared by length.
    """
    asked = {key: value for key, value in target.items() if key not in _NOT_ASKED}
    asked["shots_from"] = bool(target.get("shots_from"))
    size = np.nan_to_num(scores.tokens if metric.per_token else scores.bytes).tolist()
    files = run.facts.settings.get("inputs", {}).get("targets", {}).get(target["name"], {})
    return fingerprint(
        metric=metric.name,
        part=part,
        file=files.get(part),
        asked=asked,
        kind=scores.kind,
        sizes=size,
        gold=scores.gold.tolist(),
        references=scores.references,
    )


def _contest(group: Sequence[tuple[_Run, str, str, Metric]]) -> Contest:
    first, part, name, metric = group[0]
    own = first.winner.scores[f"{part}:{name}"]
    pooled: dict[str, list[tuple[_Run, str]]] = {}
    for run, _, called, _ in group:
        pooled.setdefault(run.recipe(seeds=False), []).append((run, f"{part}:{called}"))
    draws = resample(own.clusters, np.random.default_rng(_SEED))
    entries: list[Entry] = []
    against: _Pool | None = None
    for members in pooled.values():
        pool = _Pool(members, metric, draws)
        entries.append(pool.entry(against if own.different >= LEAST else None))
        against = against or pool
    return Contest(
        name, part, metric.name, metric.higher_is_better, len(own), own.different, entries
    )


class _Pool:
    """Runs of one recipe, which differ in seeds only, on one set of questions.

    Args:
        members: the runs, each with the name of the target in its scores.
        metric: how they are judged.
        draws: (R, n) resamples of the questions, the same for all pools.
    """

    def __init__(self, members: Sequence[tuple[_Run, str]], metric: Metric, draws: F64) -> None:
        self._members, self._metric = members, metric
        self._scores = [run.winner.scores[name] for run, name in members]
        # Seeds are drawn too: with one run the interval covers the questions only.
        count, rng = len(members), np.random.default_rng([_SEED, 1])
        self._drawn = rng.integers(count, size=(len(draws), count))
        self.point, self.replicates = self._measured(self._scores, draws)
        self._base = self._measured([run.base.scores[name] for run, name in members], draws)

    def _measured(self, scores: Sequence[Scores], draws: F64) -> tuple[float, F64]:
        """Return the mean over the runs, and its replicates (R,)."""
        point = float(np.mean([self._metric.value(own, None)[0] for own in scores]))
        values = np.stack([self._metric.value(own, draws) for own in scores], axis=1)
        return point, np.take_along_axis(values, self._drawn, axis=1).mean(axis=1)

    @property
    def _each(self) -> F64:
        """Return (runs, n) contributions of the questions, higher is better."""
        return np.stack([self._metric.sign * self._metric.per_example(s) for s in self._scores])

    def entry(self, first: _Pool | None) -> Entry:
        """Return the pool's row, compared with another pool if one is given."""
        runs = [run for run, _ in self._members]
        winners = [run.confirmation.winner.mixture for run in runs]
        mixtures = dict.fromkeys(
            mixture.short(len(run.facts.sources))
            for mixture, run in zip(winners, runs, strict=True)
        )
        names = [run.name for run in runs]
        return Entry(
            name=names[0] + (f" and {counted(len(names) - 1, 'more seed')}" if names[1:] else ""),
            runs=len(runs),
            mixtures=[*mixtures],
            base=_span(*self._base),
            score=_span(self.point, self.replicates),
            ahead=self._ahead(first) if first else None,
            wins=self._wins(first) if first else None,
            verdicts=[*dict.fromkeys(run.confirmation.verdict.kind for run in runs)],
            trained=[*dict.fromkeys(run.confirmation.winner.trained for run in runs)],
        )

    def _ahead(self, first: _Pool) -> Interval:
        sign = self._metric.sign
        return _span(sign * (self.point - first.point), sign * (self.replicates - first.replicates))

    def _wins(self, first: _Pool) -> Interval:
        apart = self._each[:, None] - first._each[None]
        won = np.where(np.abs(apart) < SEEN, 0.5, apart > 0).mean(axis=(0, 1))
        return win_rate(won, self._scores[0].clusters.tolist(), np.random.default_rng(_SEED))


def _span(point: float, replicates: F64) -> Interval:
    (low,), (high,) = percentiles(replicates[None])
    return Interval(point, float(low), float(high))


def _fields(facts: Facts) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a run's recipe with their values, its data and its programs."""
    settings = facts.settings
    for name in _SECTIONS:
        yield from ((f"{name}.{key}", value) for key, value in settings.get(name, {}).items())
    for kind in ("datasets", "targets"):
        for table in settings[kind]:
            for key, value in table.items():
                yield f"{kind}.{table['name']}.{key}", value
    inputs = settings.get("inputs", {})
    yield "base.fingerprint", inputs.get("base", {}).get("fingerprint")
    for name, known in inputs.get("datasets", {}).items():
        yield f"datasets.{name}.rows as read", known.get("fingerprint")
    for name, known in inputs.get("targets", {}).items():
        yield from ((f"targets.{name}.{part} file", mark) for part, mark in known.items())
    yield from ((name, settings.get(name)) for name in _PROGRAMS)


def _differences(facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """Return the fields that are not equal in all runs, with their values in words."""
    fields = [dict(_fields(read)) for read in facts.values()]
    names = dict.fromkeys(name for known in fields for name in known)
    values = {name: [_worded(known.get(name)) for known in fields] for name in names}
    return {name: each for name, each in values.items() if len({*each}) > 1}


def _worded(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    is_hash = len(text) == 64 and not text.strip("0123456789abcdef")
    return f"{text[:12]}..." if is_hash else text


def _apart(contests: Sequence[Contest], runs: Sequence[_Run]) -> list[str]:
    """Say why there is more than one table, and which runs are in none together."""
    if len(runs) < 2 or len(contests) <= len(runs[0].targets):
        return []
    sets = "; ".join(
        f"{contest.title}: {', '.join(entry.name for entry in contest.entries)}"
        for contest in contests
    )
    return [
        "not all runs answer the same questions in the same way by the same metric, so they are "
        f"compared only within each set ({sets})"
    ]
