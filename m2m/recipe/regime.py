"""Settle how long models are trained: `[confirm] budget` and `[train] schedule`.

Both have defaults that depend on each other. A run that began with other defaults keeps them, so
that no finished training is made again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from m2m.errors import InputError
from m2m.opening import JSON, read_text
from m2m.recipe.fields import ANYTIME, RESOLVED, SCHEDULES, UNTIL, Confirm, Recipe

Field = tuple[str, str]
BUDGET: Field = ("confirm", "budget")
SCHEDULE: Field = ("train", "schedule")


def settled(recipe: Recipe, given: Collection[Field]) -> Recipe:
    """Return the recipe with a budget and a schedule that fit each other.

    Args:
        recipe: as it was read.
        given: (section, name) of the fields that its file has.
    """
    budget, schedule, remarks = recipe.confirm.budget, recipe.train.schedule, recipe.remarks
    begun = _begun(recipe) if BUDGET not in given else {}
    if begun:
        budget = begun["budget"]
        schedule = begun["schedule"] if SCHEDULE not in given else schedule
        remarks += (
            f'this run began with budget = "{budget}" and goes on with it. To train the winner as '
            f'long as it pays, write budget = "{UNTIL}" under [confirm]: then all adapters are '
            "trained again",
        )
    elif BUDGET not in given and budget == UNTIL and schedule not in ("auto", ANYTIME):
        budget = "fixed"
        remarks += (
            f'schedule = "{schedule}" ends after [train] steps, so [confirm] budget is "fixed". To '
            "train the winner as long as it pays, delete the schedule",
        )
    if schedule == "auto":
        schedule = ANYTIME if budget == UNTIL else "cosine"
    return dataclasses.replace(
        recipe,
        confirm=dataclasses.replace(recipe.confirm, budget=budget),
        train=dataclasses.replace(recipe.train, schedule=schedule),
        remarks=remarks,
    )


def contradiction(recipe: Recipe) -> str:
    """Return the reason why the budget does not fit the schedule; "" if it does."""
    if recipe.confirm.budget != UNTIL or recipe.train.schedule in ("auto", ANYTIME):
        return ""
    return (
        f'budget = "{UNTIL}" needs trainings that can always go on, and [train] schedule = '
        f'"{recipe.train.schedule}" has an end; delete the schedule, or write schedule = '
        f'"{ANYTIME}"'
    )


def _begun(recipe: Recipe) -> Mapping[str, Any]:
    """Return budget and schedule of an earlier call, if they are not what is default now."""
    try:
        stored = json.loads(read_text(recipe.folder / RESOLVED, JSON))
        budget, schedule = stored["confirm"]["budget"], stored["train"]["schedule"]
    except (InputError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}  # there is no earlier call, or the run refuses its file in words
    known = budget == "fixed" != Confirm().budget and schedule in SCHEDULES
    return {"budget": budget, "schedule": schedule} if known else {}
