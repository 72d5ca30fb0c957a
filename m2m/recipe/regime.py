"""Settle how long models are trained: `[confirm] budget` and `[train] schedule`.

Both have defaults that depend on each other. A run that began with other defaults keeps them, so
that no finished training is made again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection

from m2m.errors import InputError
from m2m.opening import JSON, read_text
from m2m.recipe.fields import ANYTIME, ENDING, RESOLVED, UNTIL
from m2m.recipe.whole import Recipe

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
    silent = BUDGET not in given and SCHEDULE not in given
    if silent and (begun := _begun(recipe)):
        budget, schedule = "fixed", begun
        remarks += (
            'this run began with budget = "fixed" and goes on with it. To train the winner as long '
            f'as it pays, write budget = "{UNTIL}" under [confirm]: then all adapters are trained '
            "again",
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
        f'"{recipe.train.schedule}" ends at a fixed step; delete the schedule, or write schedule = '
        f'"{ANYTIME}"'
    )


def _begun(recipe: Recipe) -> str:
    """Return the schedule of an earlier call, if it has an end as the old default had; else "".

    The budget of that call decides nothing, because `m2m validate --budget` is a call too.
    """
    try:
        schedule = json.loads(read_text(recipe.folder / RESOLVED, JSON))["train"]["schedule"]
    except (InputError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""  # there was no earlier call, or the run refuses its file in words
    return schedule if schedule in ENDING else ""
