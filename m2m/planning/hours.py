"""`m2m run --hours H`: cut a recipe down until it fits into the available time."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.records import read_object
from m2m.pipeline.experts import finished_experts
from m2m.pipeline.inputs import Inputs
from m2m.planning.calibration import Rates, calibrate
from m2m.planning.cost import PlannedStage, Work
from m2m.planning.until import LAST, LAST_PART
from m2m.progress import Progress
from m2m.recipe import LISTS, SECTIONS, Recipe, as_json
from m2m.recipe.fields import UNTIL
from m2m.results.folder import RunFolder
from m2m.store import fingerprint

# A plan is within 30 % of a run's real time; the plan may take this fraction of the hours.
_FRACTION = 0.85
# Training ends after this fraction of the hours; the rest is for test scores, export and report.
_TRAINED = 0.92
# Experts with fewer steps than this fraction of the recipe's would answer another question.
_LEAST_STEPS = 0.25
# With budget "until" they get at least as many as carry a signal on the starter (docs/training.md).
_SIGNAL = 150
# Experts, search and halving may take this fraction of the hours, if nothing more can be cut.
_MOST = 0.8


def fit_hours(inputs: Inputs, recipe: Recipe, hours: float, progress: Progress) -> Inputs:
    """Cut a run down to `hours`; the same recipe and hours get the same cut every time.

    The decision is kept in the run's folder, so that a run that continues after a power cut keeps
    its adapters, even if the machine is busier or less busy. Every cut is a warning. With budget
    "until" the decision holds for any hours, because more hours go on with the same adapters.

    Args:
        inputs: the run's inputs.
        recipe: the recipe as its file says, which names the decision.
        hours: hours that the run may take.
        progress: shows the calibration.

    Returns:
        The inputs with the cut recipe; they need not be read again.

    Raises:
        ResourceError: no cut suffices.
    """
    until = inputs.recipe.confirm.budget == UNTIL
    mark = _mark(recipe, 0.0 if until else hours)
    kept = _kept(recipe, mark)
    if kept is None and until and len(finished_experts(inputs)) == len(inputs.expert_names):
        return inputs  # only the last trainings are left, and they end in time
    if kept is None:
        kept = _decide(inputs, calibrate(inputs, progress), hours)
        write_json(RunFolder(recipe.folder).hours, {"recipe": mark, "hours": hours, **kept})
    for loss in kept["gave_up"]:
        progress.warn(f"to fit into {hours:g} hours: {loss}")
    return dataclasses.replace(inputs, recipe=_with(inputs.recipe, kept["settings"]))


class Within:
    """The hours that a run may take, counted from now.

    Args:
        recipe: the recipe as its file says, which names the decision.
        hours: hours that the run may take.
    """

    def __init__(self, recipe: Recipe, hours: float) -> None:
        self._recipe, self._hours = recipe, hours
        self.deadline = time.monotonic() + hours * 3600 * _TRAINED

    def fit(self, inputs: Inputs, progress: Progress) -> Inputs:
        """Cut the inputs down to the hours; see `fit_hours`."""
        return fit_hours(inputs, self._recipe, self._hours, progress)


def _mark(recipe: Recipe, hours: float) -> str:
    sections = {name: plain for name in SECTIONS if (plain := as_json(getattr(recipe, name)))}
    lists = {name: [as_json(entry) for entry in getattr(recipe, name)] for name in LISTS}
    return fingerprint(hours=hours, **sections, **lists)


def _kept(recipe: Recipe, mark: str) -> dict[str, Any] | None:
    """Return the decision of an earlier process about this very recipe, or None."""
    path = RunFolder(recipe.folder).hours
    if not path.is_file():
        return None
    try:
        decision = read_object(path)
    except InputError:
        return None
    return decision if decision.get("recipe") == mark else None


def _decide(inputs: Inputs, rates: Rates, hours: float) -> dict[str, Any]:
    """Choose settings that fit, and list the losses; the least harmful cuts are made first."""
    settings: dict[str, Any] = {}
    gave_up: dict[str, str] = {}
    work = Work(inputs, rates)
    until = inputs.recipe.confirm.budget == UNTIL

    def stages() -> list[PlannedStage]:
        return work.of(_with(inputs.recipe, settings)).stages()

    def seconds() -> float:
        return sum(stage.seconds for stage in stages() if stage.name != LAST)

    limit = hours * 3600 * _FRACTION * (1.0 - LAST_PART if until else 1.0)
    for name, value, words in _cuts(work):
        if (now := seconds()) <= limit:
            break
        before = settings.copy()
        settings[name] = value
        if seconds() < now:
            gave_up[name] = words
        else:  # this cut saves nothing
            settings = before
    if seconds() > limit and until and seconds() <= hours * 3600 * _MOST:
        part = seconds() / (hours * 3600)
        gave_up["last"] = (
            f"even so, experts, search and halving take {part:.0%} of the time, and the last "
            "training gets the rest; leave datasets out (`m2m data check RECIPE`) to give it more"
        )
        limit = seconds()
    if seconds() > limit:
        raise ResourceError(
            f"the run does not fit into {hours:g} hours: at its least it takes "
            f"{seconds() / _FRACTION / 3600:.2g}",
            "give it more, leave datasets out, or take a smaller base",
        )
    # Raise the largest cuts again as far as the time allows.
    if "steps" in settings:
        _raise("steps", inputs.recipe.train.steps, settings, seconds, limit)
        gave_up["steps"] = _steps_words(inputs.recipe, settings["steps"])
    if "budget" in settings:
        free = _with(inputs.recipe, {k: v for k, v in settings.items() if k != "budget"})
        most = work.of(free).strategy.cost().evaluations
        _raise("budget", round(most), settings, seconds, limit)
        gave_up["budget"] = _budget_words(settings["budget"])
    return {"settings": settings, "gave_up": list(gave_up.values())}


def _cuts(work: Work) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and words of every cut, in the order in which they are made."""
    recipe, space, strategy = work.recipe, work.space, work.strategy
    if recipe.confirm.top > 1:
        yield "top", 1, f"only the best mixture is confirmed, not {recipe.confirm.top}"
    if strategy.cheaper:
        name, loss = strategy.cheaper
        yield "strategy", name, loss
        strategy = work.of(_with(recipe, {"strategy": name})).strategy
    least = math.ceil(strategy.least_budget())
    if not recipe.search.budget or least < recipe.search.budget:
        yield "budget", least, _budget_words(least)
    names = len(space.names)
    largest = min(recipe.search.max_datasets or names, names)
    smallest = max(2, len(recipe.search.required))
    for most in range(largest - 1, max(2, smallest - 1), -1):
        yield "max_datasets", most, f"mixtures of more than {most} datasets are left out"
    floor = min(recipe.train.steps, _SIGNAL) if recipe.confirm.budget == UNTIL else 1
    steps = max(floor, round(recipe.train.steps * _LEAST_STEPS))
    yield "steps", steps, _steps_words(recipe, steps)
    if largest > 2 >= smallest:
        yield "max_datasets", 2, "mixtures of more than 2 datasets are left out"


def _budget_words(budget: float) -> str:
    return (
        f"the search has a budget of {budget:.0f} evaluations: fewer mixtures are scored on more "
        "than a few examples"
    )


def _steps_words(recipe: Recipe, steps: int) -> str:
    return f"experts get {steps} steps, not {recipe.train.steps}: slow learning can be missed"


def _raise(
    name: str, high: int, settings: dict[str, Any], seconds: Callable[[], float], limit: float
) -> None:
    """Raise a setting as far as the limit allows, up to `high`; its present value fits."""
    low = settings[name]
    while low < high:
        settings[name] = middle = (low + high + 1) // 2
        if seconds() <= limit:
            low = middle
        else:
            high = middle - 1
    settings[name] = low


def _with(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """Return the recipe with some settings of its sections replaced."""
    homes = {"steps": "train", "top": "confirm"}
    for name, value in settings.items():
        home = homes.get(name, "search")
        section = dataclasses.replace(getattr(recipe, home), **{name: value})
        recipe = dataclasses.replace(recipe, **{home: section})
    return recipe
