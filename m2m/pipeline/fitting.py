"""`m2m run --hours H`: a recipe cut down until it fits into the time there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.records import read_object
from m2m.pipeline.calibrating import Rates, calibrate
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.planning import plan_with
from m2m.progress import Progress
from m2m.recipe import LISTS, SECTIONS, Recipe, as_json
from m2m.store import fingerprint

DECISION = "hours.json"
# A plan is within 30 % of what a run takes; this much of the time is planned for.
_SHARE = 0.85
# Experts of fewer steps than this share of the recipe's would answer another question.
_LEAST_STEPS = 0.25


@dataclass(frozen=True)
class Fitted:
    """A recipe that fits, and what it gave up for that, in words."""

    recipe: Recipe
    gave_up: tuple[str, ...]


def fit_hours(recipe: Recipe, hours: float, progress: Progress) -> Fitted:
    """Cut a recipe down to `hours`; the same recipe and hours get the same cut as the first time.

    What was decided lies in the run's folder, so that a run that goes on after a power cut, on a
    machine that is busier or not, keeps its adapters.

    Raises:
        ResourceError: no cut suffices.
    """
    inputs = read_inputs(recipe)
    mark = _mark(recipe, hours)
    kept = _kept(recipe, mark)
    if kept is None:
        kept = _decide(inputs, calibrate(inputs, progress), hours)
        write_json(recipe.folder / DECISION, {"recipe": mark, "hours": hours, **kept})
    fitted = Fitted(_with(inputs.recipe, kept["settings"]), tuple(kept["gave_up"]))
    for each in fitted.gave_up:
        progress.warn(f"to fit into {hours:g} hours: {each}")
    return fitted


def _mark(recipe: Recipe, hours: float) -> str:
    sections = {name: as_json(getattr(recipe, name)) for name in SECTIONS}
    lists = {name: [as_json(each) for each in getattr(recipe, name)] for name in LISTS}
    return fingerprint(hours=hours, **sections, **lists)


def _kept(recipe: Recipe, mark: str) -> dict[str, Any] | None:
    """What an earlier process decided about this very recipe."""
    path = recipe.folder / DECISION
    if not path.is_file():
        return None
    try:
        found = read_object(path)
    except InputError:
        return None
    return found if found.get("recipe") == mark else None


def _decide(inputs: Inputs, rates: Rates, hours: float) -> dict[str, Any]:
    """Settings that fit, and what they give up; the least harmful cuts are made first."""
    settings: dict[str, Any] = {}
    gave_up: dict[str, str] = {}

    def seconds() -> float:
        changed = dataclasses.replace(inputs, recipe=_with(inputs.recipe, settings))
        return plan_with(changed, rates).total_seconds

    limit = hours * 3600 * _SHARE
    for name, value, words in _cuts(inputs.recipe):
        if seconds() <= limit:
            break
        settings[name], gave_up[name] = value, words
    if seconds() > limit:
        raise ResourceError(
            f"the run does not fit into {hours:g} hours: at its least it takes "
            f"{seconds() / _SHARE / 3600:.1f}",
            "give it more, leave datasets out, or take a smaller base",
        )
    steps = settings.get("steps")
    if steps is not None:
        more = _most(steps, inputs.recipe.train.steps, settings, seconds, limit)
        settings["steps"] = more
        gave_up["steps"] = _steps_words(inputs.recipe, more)
    return {"settings": settings, "gave_up": list(gave_up.values())}


def _cuts(recipe: Recipe) -> Iterator[tuple[str, int, str]]:
    """Name, value and words of every cut, in the order in which they are made."""
    if recipe.confirm.top > 1:
        yield "top", 1, f"only the best mixture is confirmed, not {recipe.confirm.top}"
    names = len(recipe.datasets)
    largest = min(recipe.search.max_datasets or names, names)
    for most in range(largest - 1, 2, -1):
        yield "max_datasets", most, f"mixtures of more than {most} datasets are left out"
    least = max(1, round(recipe.train.steps * _LEAST_STEPS))
    yield "steps", least, _steps_words(recipe, least)
    if largest > 2:
        yield "max_datasets", 2, "mixtures of more than 2 datasets are left out"


def _steps_words(recipe: Recipe, steps: int) -> str:
    return f"experts get {steps} steps, not {recipe.train.steps}: what is learned slowly is missed"


def _most(
    low: int, high: int, settings: dict[str, Any], seconds: Callable[[], float], limit: float
) -> int:
    """The most steps between `low`, which fits, and `high` that fit too."""
    while low < high:
        settings["steps"] = middle = (low + high + 1) // 2
        if seconds() <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _with(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with some settings of its sections replaced."""
    homes = {"steps": "train", "max_datasets": "search", "top": "confirm"}
    for name, value in settings.items():
        section = dataclasses.replace(getattr(recipe, homes[name]), **{name: value})
        recipe = dataclasses.replace(recipe, **{homes[name]: section})
    return recipe
