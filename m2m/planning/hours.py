"""`m2m run --hours H`: cut a recipe down until it fits into the available time."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from m2m.counted import counted
from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.json_text import json_text
from m2m.formats.records import read_object
from m2m.mix.scoreboard import metric_name
from m2m.pipeline.first_pass import FIRST_PASS, first_pass
from m2m.pipeline.halving import Deadlines
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.kept import finished_experts
from m2m.planning.calibration import Rates, calibrate
from m2m.planning.cost import Work
from m2m.planning.cuts import (
    Cut,
    budget_words,
    pairs_cut,
    raise_setting,
    search_cuts,
    steps_words,
    top_cut,
    with_settings,
)
from m2m.planning.split import RESERVE, Split
from m2m.planning.until import HALVING, LAST, LAST_PART, MOST, TRAIN, FirstPass
from m2m.progress import Progress, duration
from m2m.recipe import Recipe
from m2m.recipe.fields import UNTIL
from m2m.recipe.overrides import NO_RESULT
from m2m.recipe.whole import recipe_json
from m2m.results.folder import RunFolder
from m2m.store import fingerprint

# Training ends after this fraction of the hours; the rest is for test scores, export and report.
_TRAINED = 0.92
# Experts with fewer steps than this fraction of the recipe's would answer another question.
_LEAST_STEPS = 0.25


class Within:
    """The hours that a run may take, counted from now, and the cuts that they need.

    A decision is kept in the run's folder, so that a run that continues after a power cut keeps its
    adapters, even if the machine is busier or less busy. It also holds for commands without hours,
    and with budget "until" for any hours, because more hours go on with the same adapters.

    Args:
        recipe: the recipe as its file says, which names the decision.
        hours: hours that the run may take; 0 for any.
    """

    def __init__(self, recipe: Recipe, hours: float = 0.0) -> None:
        self._recipe, self.hours = recipe, hours
        self._path = RunFolder(recipe.folder).hours
        self._began = began = time.monotonic()
        self._planned: dict[str, float] = {}
        self._passed = 0.0  # seconds of the first pass
        seconds = hours * 3600
        ends = Deadlines(
            began + seconds * (_TRAINED - LAST_PART),
            began + seconds * _TRAINED,
            seconds * MOST[HALVING],
            self._used,
        )
        self.deadlines = ends if hours else None

    def fit(self, inputs: Inputs, progress: Progress) -> Inputs:
        """Cut the inputs down to the hours, and keep the decision; every cut is printed.

        Returns:
            The inputs with the cut recipe; they need not be read again.

        Raises:
            ResourceError: even all cuts together are not enough; cannot happen with budget "until".
        """
        until = inputs.recipe.confirm.budget == UNTIL
        decision = self.kept(until)
        if decision is None and not self.hours and self._path.is_file():
            progress.note(f"the cuts in {self._path} are of another recipe, and are not used")
        if decision is None and (not self.hours or (until and _all_trained(inputs))):
            return inputs  # only the last trainings are left, and they end in time
        if decision is None:
            rates = calibrate(inputs, progress)
            spent = (time.monotonic() - self._began) / 3600
            decision = decide(inputs, rates, max(0.01 * self.hours, self.hours - spent))
            content = {
                "recipe": _marks(self._recipe, self.hours)[0],
                "hours": self.hours,
                **decision,
            }
            write_json(self._path, content)
            for loss in decision["gave_up"]:
                progress.warn(f"to fit into {self.hours:g} hours: {loss}")
            if until:
                self._plan(Work(with_decision(inputs, decision), rates, first=first_of(decision)))
                progress.note(self._split)
        elif decision["gave_up"]:
            progress.note(self.again(decision))
        return with_decision(inputs, decision)

    def undecided(self) -> bool:
        """Return whether datasets are left out after a first pass that is still to be made."""
        return first_of(self.kept(until=True) or {}) is not None

    def choose(self, inputs: Inputs, progress: Progress) -> Inputs:
        """Train every dataset a little, and leave those out that do worst on dev.

        Args:
            inputs: as `fit` returned them.
            progress: gets the bars, and the reason for each dataset that is left out.

        Raises:
            Interrupted: the user asked to stop; the same command goes on.
        """
        decision = self.kept(until=True) or {}
        if not (first := first_of(decision)):
            return inputs
        left = first_pass(inputs, *first, progress)
        worst = ", ".join(f"{name} ({score.text()})" for name, score in left.items())
        loss = (
            f"after a first pass of {counted(first.steps, 'step')} these datasets were worst on "
            f"dev ({metric_name(inputs.objectives)}) and get no expert: {worst}"
        )
        progress.warn(f"to fit into {decision['hours']:g} hours: {loss}")
        before = [name for name in decision["settings"]["excluded"] if name not in first.names]
        settings = {**decision["settings"], "excluded": [*before, *left]}
        del decision["first_pass"]
        decision |= {"settings": settings, "gave_up": [*decision["gave_up"], loss]}
        write_json(self._path, decision)
        return with_decision(inputs, decision)

    def _plan(self, work: Work) -> None:
        """Keep the planned seconds of each stage; the last training gets the rest."""
        self._planned = {stage.name: stage.seconds for stage in work.stages()}
        self._planned[LAST] = 0.0
        self._planned[LAST] = max(0.0, self.hours * 3600 - sum(self._planned.values()))

    @property
    def _split(self) -> str:
        parts = [f"{name} {self._part(seconds)}" for name, seconds in self._planned.items()]
        return f"planned parts of {self.hours:g} hours: {', '.join(parts)}"

    def _part(self, seconds: float) -> str:
        return f"{seconds / (36 * self.hours):.0f} %"

    def _used(self, stage: str, seconds: float) -> str:
        """Compare the seconds of a stage with its part of the hours; "" if it took none."""
        if stage == FIRST_PASS:
            self._passed = seconds
        if stage not in {*MOST, LAST} or self._part(seconds) == "0 %":
            return ""
        seconds += self._passed if stage == TRAIN else 0.0
        least = f"{LAST_PART:.0%} or more are kept for it"  # it may need less
        limit = f"at most {MOST[stage]:.0%}" if stage in MOST else least
        plan = f"planned {self._part(self._planned[stage])}, " if self._planned else ""
        limit = limit.replace("%", " %")
        return (
            f"{stage} took {duration(seconds)}, {self._part(seconds)} of {self.hours:g} hours "
            f"({plan}{limit})"
        )

    def again(self, decision: Mapping[str, Any]) -> str:
        """Say which cuts of an earlier call hold, and how to decide again."""
        losses = "; ".join(decision["gave_up"])
        return (
            f"this run began with {decision['hours']:g} hours and keeps its cuts: {losses}. To "
            f"decide again, delete {self._path}: then adapters are trained again"
        )

    def kept(self, until: bool) -> dict[str, Any] | None:
        """Return the decision of an earlier call about this very recipe, or None."""
        if not self._path.is_file():
            return None
        try:
            decision = read_object(self._path)
            hours = float(decision["hours"])
            {**decision["settings"]}, [*map(str, decision["gave_up"])], first_of(decision)
        except (InputError, LookupError, TypeError, ValueError):
            return None
        if decision.get("recipe") not in _marks(self._recipe, hours):
            return None
        return decision if until or self.hours in (0.0, hours) else None


def with_decision(inputs: Inputs, decision: Mapping[str, Any]) -> Inputs:
    """Return the inputs with the recipe that a decision cuts down."""
    recipe = with_settings(inputs.recipe, decision["settings"])
    return dataclasses.replace(inputs, recipe=recipe)


def first_of(decision: Mapping[str, Any]) -> FirstPass | None:
    """Return the first pass that a decision still needs."""
    return FirstPass(*found) if (found := decision.get("first_pass")) else None


def _all_trained(inputs: Inputs) -> bool:
    names = inputs.expert_names
    return bool(names) and len(finished_experts(inputs)) == len(names)


def _marks(recipe: Recipe, hours: float) -> list[str]:
    """Return a recipe's mark, whatever its folder and limits, and those of earlier versions."""
    whole = recipe_json(recipe)
    folder = json_text(f"{recipe.path.parent}{os.sep}")[1:-1]
    moved = json.loads(json_text(whole).replace(f'"{folder}', '"'))
    moved = {name: value for name, value in moved.items() if name not in NO_RESULT}
    parts = [{**moved, "hours": 0.0}, {**whole, "hours": 0.0}, {**whole, "hours": hours}]
    return [fingerprint(**each) for each in parts]


def decide(inputs: Inputs, rates: Rates, hours: float) -> dict[str, Any]:
    """Choose settings that fit, and list the losses; the least harmful cuts are made first.

    Raises:
        ResourceError: even all cuts together are not enough; cannot happen with budget "until".
    """
    work = Work(inputs, rates)
    if inputs.recipe.confirm.budget == UNTIL:
        return Split(work, hours).decide()
    settings: dict[str, Any] = {}
    gave_up: dict[str, str] = {}

    def seconds() -> float:
        cut = work.of(with_settings(inputs.recipe, settings))
        return sum(stage.seconds for stage in cut.stages())

    limit = hours * 3600 * RESERVE
    for name, value, words in _cuts(work):
        if (now := seconds()) <= limit:
            break
        before = settings.copy()
        settings[name] = value
        if seconds() < now:
            gave_up[name] = words
        else:  # this cut saves nothing
            settings = before
    if seconds() > limit:
        raise ResourceError(
            f"the run does not fit into {hours:g} hours: at its least it takes "
            f"{seconds() / RESERVE / 3600:.2g}",
            "give it more, leave datasets out, take a smaller base, or set [confirm] "
            f'budget = "{UNTIL}": it fits into any hours',
        )

    def fits() -> bool:
        return seconds() <= limit

    # Raise the largest cuts again as far as the time allows.
    if "steps" in settings:
        raise_setting("steps", inputs.recipe.train.steps, settings, fits)
        gave_up["steps"] = steps_words(inputs.recipe, settings["steps"])
    if "budget" in settings:
        free = {key: value for key, value in settings.items() if key != "budget"}
        most = work.of(with_settings(inputs.recipe, free)).strategy.cost().evaluations
        raise_setting("budget", round(most), settings, fits)
        gave_up["budget"] = budget_words(settings["budget"])
    return {"settings": settings, "gave_up": list(gave_up.values())}


def _cuts(work: Work) -> Iterator[Cut]:
    """Yield all cuts of a recipe with a fixed budget, in the order in which they are made."""
    yield from top_cut(work.recipe)
    yield from search_cuts(work)
    steps = max(1, round(work.recipe.train.steps * _LEAST_STEPS))
    yield Cut("steps", steps, steps_words(work.recipe, steps))
    yield from pairs_cut(work)
