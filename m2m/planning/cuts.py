"""The cuts that make a recipe cheaper: settings by name, with words for people."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from m2m.planning.cost import Work
from m2m.recipe import Recipe

# Sections of the settings that are not in [search].
_HOMES = {"steps": "train", "top": "confirm", "baselines": "confirm", "nested": "confirm"}


class Cut(NamedTuple):
    """One setting, its smaller value, and the loss in words."""

    name: str
    value: Any
    words: str


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some settings of its sections replaced; lists become tuples."""
    for name, value in settings.items():
        home, plain = _HOMES.get(name, "search"), tuple(value) if isinstance(value, list) else value
        section = dataclasses.replace(getattr(recipe, home), **{name: plain})
        recipe = dataclasses.replace(recipe, **{home: section})
    return recipe


def top_cut(recipe: Recipe) -> Iterator[Cut]:
    """Yield the cut to one mixture of the ranking, if there are more."""
    if recipe.confirm.top > 1:
        yield Cut("top", 1, f"only the best mixture is confirmed, not {recipe.confirm.top}")


def search_cuts(work: Work) -> Iterator[Cut]:
    """Yield cuts of the search; the least harmful come first."""
    recipe, strategy = work.recipe, work.strategy
    if strategy.cheaper:
        name, loss = strategy.cheaper
        yield Cut("strategy", name, loss)
        strategy = work.of(with_settings(recipe, {"strategy": name})).strategy
    least = math.ceil(strategy.least_budget())
    if not recipe.search.budget or least < recipe.search.budget:
        yield Cut("budget", least, budget_words(least))
    largest, smallest = sizes(work)
    for most in range(largest - 1, max(2, smallest - 1), -1):
        yield Cut("max_datasets", most, f"mixtures of more than {most} datasets are left out")


def pairs_cut(work: Work) -> Iterator[Cut]:
    """Yield the cut to mixtures of two datasets, if there are larger ones."""
    largest, smallest = sizes(work)
    if largest > 2 >= smallest:
        yield Cut("max_datasets", 2, "mixtures of more than 2 datasets are left out")


def sizes(work: Work) -> tuple[int, int]:
    """Return the largest and the smallest number of datasets of a mixture, two or more."""
    names, search = len(work.space.names), work.recipe.search
    return min(search.max_datasets or names, names), max(2, len(search.required))


def budget_words(budget: float) -> str:
    """Name the loss of a smaller budget of the search."""
    return (
        f"the search has a budget of {budget:.0f} evaluations: fewer mixtures are scored on more "
        "than a few examples"
    )


def steps_words(recipe: Recipe, steps: int) -> str:
    """Name the loss of fewer steps of an expert."""
    return f"experts get {steps} steps, not {recipe.train.steps}: slow learning can be missed"


def raise_setting(name: str, high: int, settings: dict[str, Any], fits: Callable[[], bool]) -> None:
    """Raise a setting as far as it fits, up to `high`; its present value fits."""
    low = settings[name]
    while low < high:
        settings[name] = middle = (low + high + 1) // 2
        if fits():
            low = middle
        else:
            high = middle - 1
    settings[name] = low
