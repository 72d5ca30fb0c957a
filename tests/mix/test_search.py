"""One contract for every search strategy."""

from __future__ import annotations

import pytest

from m2m.mix.mixture import Mixture
from m2m.mix.search import Exhaustive, Strategy, make_strategy
from m2m.recipe import Search

NAMES = ("a", "b", "c", "d", "e")
EFFECT = {"a": 0.3, "b": 0.2, "c": -0.1, "d": -0.4, "e": 0.0}


def planted(mixture: Mixture) -> float:
    return sum(w * EFFECT[n] for n, w in zip(mixture.datasets, mixture.weights, strict=True))


def asked(strategy: Strategy) -> list[Mixture]:
    seen = []
    while (mixture := strategy.ask()) is not None:
        seen.append(mixture)
        strategy.tell(mixture, planted(mixture))
    return seen


@pytest.mark.parametrize("name", ["auto", "exhaustive"])
class TestEveryStrategy:
    def test_never_asks_the_same_twice(self, name: str) -> None:
        seen = asked(make_strategy(Search(strategy=name), NAMES))
        assert len(seen) == len(set(seen))

    def test_finds_a_planted_best(self, name: str) -> None:
        assert max(asked(make_strategy(Search(strategy=name), NAMES)), key=planted).label == "a"

    def test_respects_the_largest_size(self, name: str) -> None:
        seen = asked(make_strategy(Search(strategy=name, max_datasets=2), NAMES))
        assert max(len(mixture.datasets) for mixture in seen) == 2

    def test_told_the_same_it_asks_the_same(self, name: str) -> None:
        one, two = (asked(make_strategy(Search(strategy=name), NAMES)) for _ in range(2))
        assert one == two

    def test_every_single_dataset_is_asked(self, name: str) -> None:
        seen = asked(make_strategy(Search(strategy=name), NAMES))
        assert {Mixture.uniform([each]) for each in NAMES} <= set(seen)


def test_exhaustive_knows_how_many_there_are() -> None:
    strategy = Exhaustive(NAMES)
    assert strategy.candidates == len(asked(strategy)) == 31
