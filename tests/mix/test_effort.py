"""What a search is foreseen to take is what it takes."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.mix.effort import Effort, foresee, least_budget
from m2m.mix.mixture import BASE
from m2m.mix.order import Order
from m2m.mix.racing import KEEP
from m2m.mix.search import make_strategy
from m2m.mix.space import Space
from m2m.recipe import Search
from tests.mix.planted import BITS, World

NAMES = "abcdef"
EXAMPLES = 96


def taken(search: Search, space: Space, seed: int = 0) -> Effort:
    """A real search in a small world, counted."""
    rng = np.random.default_rng(seed)
    world = World(dict(zip(NAMES, rng.normal(0, 0.4, 6), strict=True)), examples=EXAMPLES)
    base = world.score(BASE)
    order = Order.stratified(base, [BITS], seed)
    strategy = make_strategy(search, space, EXAMPLES, [BITS])
    strategy.tell([base])
    found, trials = Effort(), {}
    while asks := strategy.ask():
        for ask in asks:
            known = trials[ask.mixture].examples if ask.mixture in trials else 0
            found = found.plus(1, (ask.examples - known) / EXAMPLES, new=not known)
            places = None if ask.examples == EXAMPLES else order.first(ask.examples)
            trials[ask.mixture] = world.score(ask.mixture, places)
        strategy.tell([trials[ask.mixture] for ask in asks])
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("limits", [{}, {"required": frozenset("a")}])
def test_a_race(count: int, limits: dict[str, frozenset[str]]) -> None:
    space = Space(tuple(NAMES[:count]), **limits)  # type: ignore[arg-type]
    found = taken(Search(strategy="racing"), space)
    planned = foresee("racing", space, EXAMPLES, 1, 0.0)
    assert planned.evaluations == pytest.approx(found.evaluations, rel=0.25)
    assert planned.loads == pytest.approx(found.loads, rel=0.5)
    assert planned.mixtures == found.mixtures


@pytest.mark.parametrize(("budget", "parts"), [(30.0, 0), (20.0, 20)])
def test_a_guided_search(budget: float, parts: int) -> None:
    space = Space(tuple(NAMES), parts=parts)
    found = taken(Search(strategy="guided", budget=budget), space)
    planned = foresee("guided", space, EXAMPLES, 1, budget)
    assert planned.evaluations == pytest.approx(found.evaluations, rel=0.1)
    assert planned.loads == pytest.approx(found.loads, rel=0.1)
    assert planned.mixtures == pytest.approx(found.mixtures, rel=0.1)


def test_an_exhaustive_search_takes_every_mixture_in_full() -> None:
    space = Space(tuple(NAMES), max_datasets=2)
    assert foresee("exhaustive", space, EXAMPLES, 1, 9.0) == Effort(21, 21, 21)
    assert taken(Search(strategy="exhaustive"), space) == Effort(21, 21, 21)
    with pytest.raises(InputError, match="too many"):
        foresee("exhaustive", Space(tuple(map(str, range(20)))), EXAMPLES, 1, 0.0)


@pytest.mark.parametrize("name", ["racing", "guided"])
def test_a_budget_is_kept_down_to_the_least(name: str) -> None:
    space = Space(tuple(NAMES))
    least = least_budget(name, space, EXAMPLES, 1)
    found = taken(Search(strategy=name, budget=least), space)
    small, large = (foresee(name, space, EXAMPLES, 1, each) for each in (least, 2 * least))
    assert found.evaluations < least + KEEP
    assert found.mixtures >= (63 if name == "racing" else 6 + 16)
    assert small.evaluations == pytest.approx(found.evaluations, rel=0.1)
    assert small.evaluations < large.evaluations


def test_what_is_done_is_taken_off() -> None:
    assert Effort(5, 9, 7).less(Effort(2, 3, 3)) == Effort(3, 6, 7)
    assert Effort(1, 1, 1).less(Effort(2, 3, 3)) == Effort(0, 0, 1)
