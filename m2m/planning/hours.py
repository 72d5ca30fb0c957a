"""`m2m run --hours H`: cut a recipe down until it fits into the available time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.records import read_object
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
from m2m.planning.until import LAST_PART
from m2m.progress import Progress
from m2m.recipe import Recipe
from m2m.recipe.fields import UNTIL
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
        seconds = hours * 3600
        ends = Deadlines(began + seconds * (_TRAINED - LAST_PART), began + seconds * _TRAINED)
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
        if decision is None and (not self.hours or (until and _all_trained(inputs))):
            return inputs  # only the last trainings are left, and they end in time
        if decision is None:
            rates = calibrate(inputs, progress)
            spent = (time.monotonic() - self._began) / 3600
            decision = decide(inputs, rates, max(0.01 * self.hours, self.hours - spent))
            content = {"recipe": _mark(self._recipe, 0.0), "hours": self.hours, **decision}
            write_json(self._path, content)
            for loss in decision["gave_up"]:
                progress.warn(f"to fit into {self.hours:g} hours: {loss}")
        elif decision["gave_up"]:
            progress.note(self.again(decision))
        return with_decision(inputs, decision)

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
            {**decision["settings"]}, [*map(str, decision["gave_up"])]
        except (InputError, LookupError, TypeError, ValueError):
            return None
        if decision.get("recipe") not in (_mark(self._recipe, 0.0), _mark(self._recipe, hours)):
            return None
        return decision if until or self.hours in (0.0, hours) else None


def with_decision(inputs: Inputs, decision: Mapping[str, Any]) -> Inputs:
    """Return the inputs with the recipe that a decision cuts down."""
    recipe = with_settings(inputs.recipe, decision["settings"])
    return dataclasses.replace(inputs, recipe=recipe)


def _all_trained(inputs: Inputs) -> bool:
    names = inputs.expert_names
    return bool(names) and len(finished_experts(inputs)) == len(names)


def _mark(recipe: Recipe, hours: float) -> str:
    return fingerprint(hours=hours, **recipe_json(recipe))


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
