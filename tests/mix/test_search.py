"""One contract for every search strategy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError, Interrupted
from m2m.formats.journal import Journal
from m2m.mix.example_order import ExampleOrder
from m2m.mix.make_strategy import make_strategy
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.racing import Racing, losses, promise, rounds
from m2m.mix.scoreboard import Objective
from m2m.mix.space import Space, make_space
from m2m.mix.strategy import Ask, Strategy
from m2m.mix.study import Study
from m2m.mix.trial import Places, Trial
from m2m.recipe import Dataset, Search
from m2m.recipe.strategies import AUTO, STRATEGIES
from tests.mix.planted import BITS, World
from tests.tiny import StopAfter

EFFECTS = {"a": 1.2, "b": 0.8, "c": -0.3, "d": -0.8, "e": 0.0}
PAIRS = {("a", "b"): 4.0}  # so that the two together are best, by far
EVERY = [AUTO, *STRATEGIES]


def strategy(search: Search, world: World) -> tuple[Strategy, ExampleOrder]:
    datasets = [Dataset(name, Path(name)) for name in world.names]
    tokens = {name: 100 * (i + 1) for i, name in enumerate(world.names)}
    order = ExampleOrder.stratified(world.score(BASE), [BITS], search.seed)
    space = make_space(search, datasets, tokens)
    return make_strategy(search, space, len(order), [BITS], world.growth), order


class Played:
    """A search to its end: all that was asked and told."""

    def __init__(self, search: Search, world: World | None = None) -> None:
        world = world or World(EFFECTS, PAIRS)
        self.strategy, order = strategy(search, world)
        self.asks: list[Ask] = []
        self.trials: dict[Mixture, Trial] = {}
        self.spent = 0
        self.strategy.tell([world.score(BASE)])
        while asks := self.strategy.ask():
            self.asks += asks
            self.spent += sum(ask.examples - self.examples(ask.mixture) for ask in asks)
            told = [world.score(each.mixture, self.places(each, order)) for each in asks]
            self.trials |= {trial.mixture: trial for trial in told}
            self.strategy.tell(told)

    def examples(self, mixture: Mixture) -> int:
        return self.trials[mixture].examples if mixture in self.trials else 0

    @staticmethod
    def places(ask: Ask, order: ExampleOrder) -> Places | None:
        return None if ask.examples >= len(order) else order.first(ask.examples)

    def best(self) -> Mixture:
        """The best of what was scored in full."""
        full = [trial for trial in self.trials.values() if trial.complete]
        return max(full, key=lambda t: BITS.metric.value(t.scores["t"], None)[0]).mixture


@cache
def played(name: str) -> Played:
    """The search of a strategy for its planted best, to its end; only looked at."""
    return Played(Search(strategy=name))


@pytest.mark.parametrize("name", EVERY)
class TestEveryStrategy:
    def test_never_asks_the_same_twice(self, name: str) -> None:
        seen: dict[Mixture, int] = {}
        for ask in played(name).asks:
            assert ask.examples > seen.get(ask.mixture, 0)
            seen[ask.mixture] = ask.examples

    def test_finds_a_planted_best(self, name: str) -> None:
        assert played(name).best().label == "a + b"

    @pytest.mark.parametrize(
        "limits",
        [
            {"max_datasets": 2},
            {"required": ("c",)},
            {"excluded": ("b", "e")},
            {"max_tokens": 700},
            {"required": ("a", "d"), "excluded": ("b",), "max_datasets": 3, "max_tokens": 900},
        ],
    )
    def test_respects_the_constraints(self, name: str, limits: dict[str, object]) -> None:
        played = Played(Search(strategy=name, **limits))  # type: ignore[arg-type]
        for ask in played.asks:
            chosen = set(ask.mixture.datasets)
            assert not chosen & set(limits.get("excluded", ()))  # type: ignore[call-overload]
            if len(chosen) == 1:  # experts are what estimates lean on, allowed or not
                continue
            assert len(chosen) <= limits.get("max_datasets", 9)  # type: ignore[operator]
            assert chosen >= set(limits.get("required", ()))  # type: ignore[call-overload]
            tokens = sum(100 * (1 + "abcde".index(each)) for each in chosen)
            assert tokens <= limits.get("max_tokens", 9999)  # type: ignore[operator]

    @pytest.mark.slow
    def test_finds_a_planted_best_where_merges_grow(self, name: str) -> None:
        world = World(EFFECTS, {("a", "b"): 0.5}, growth=0.5)
        assert Played(Search(strategy=name), world).best().label == "a + b"

    def test_told_the_same_it_asks_the_same(self, name: str) -> None:
        assert Played(Search(strategy=name)).asks == played(name).asks

    def test_every_single_dataset_is_scored_in_full(self, name: str) -> None:
        full = {m for m, trial in played(name).trials.items() if trial.complete}
        assert {Mixture.uniform([each]) for each in EFFECTS} <= full

    @pytest.mark.slow
    def test_replay_of_the_journal_gives_the_same_state(self, name: str, tmp_path: Path) -> None:
        whole = self.study(tmp_path / "whole", name, stops=0)
        assert self.study(tmp_path / "stopped", name, stops=3) == whole

    @staticmethod
    def study(folder: Path, name: str, stops: int) -> list[tuple[Mixture, int]]:
        """What a study finds, interrupted so many times."""
        world = World(EFFECTS, PAIRS)
        while True:
            progress = StopAfter(17 if stops else 10**6)
            study = Study(Journal(folder / "study.jsonl"), world, lambda trial: 0.0)
            asked, order = strategy(Search(strategy=name), World(EFFECTS, PAIRS))
            try:
                trials = study.run(asked, order, progress)
                break
            except Interrupted:
                stops -= 1
        scored = [(label, place) for label, wanted in world.calls for place in wanted["t"]]
        assert len(scored) == len(set(scored))
        return [(trial.mixture, trial.examples) for trial in trials]


def test_exhaustive_knows_how_many_there_are() -> None:
    played = Played(Search(strategy="exhaustive"))
    assert played.strategy.candidates == len(played.asks) == 31


def test_racing_scores_few_mixtures_in_full_and_says_what_it_promises() -> None:
    world = World(EFFECTS, PAIRS)
    played = Played(Search(strategy="racing"), world)
    assert played.spent < 0.6 * 31 * 48
    assert {ask.examples for ask in played.asks} <= {6, 12, 24, 48}
    assert sum(trial.complete for trial in played.trials.values()) >= 5 + 3
    (note,) = played.strategy.notes
    assert "95 % probability" in note
    start = "Race: every dataset alone answered all 48 questions, and 26 mixtures of several the "
    assert note.startswith(f"{start}first 6; of these ")
    complete = sum(trial.complete for trial in played.trials.values()) - 5
    assert f", {complete} went on to 48. " in note


@pytest.mark.slow
def test_racing_keeps_its_promise() -> None:
    """Over worlds with many near-equal mixtures, the pick is within the margin of the best."""
    lost = 0
    for seed in range(6):
        effects = dict(zip("abcde", np.random.default_rng(seed).normal(0.8, 0.4, 5), strict=True))
        world = World(effects, seed=seed)
        played = Played(Search(strategy="racing", seed=seed), world)
        truth = [BITS.metric.value(world.score(m).scores["t"], None)[0] for m in played.trials]
        pick = BITS.metric.value(world.score(played.best()).scores["t"], None)[0]
        assert isinstance(played.strategy, Racing)
        lost += pick < max(truth) - played.strategy.margin
    assert lost <= 1


@pytest.mark.slow
def test_a_budget_ends_the_race_early_and_the_doubt_is_told() -> None:
    effects = dict.fromkeys("abcde", 0.8)
    rich, poor = (Played(Search(budget=b), World(effects, seed=3)) for b in (31, 9))
    cost = [sum(ask.examples for ask in each.asks) for each in (rich, poor)]
    assert cost[1] < cost[0]
    assert isinstance(poor.strategy, Racing)
    assert poor.strategy.risk > 0.05
    assert "95 %" not in poor.strategy.notes[0]


@pytest.mark.slow
def test_weights_on_the_simplex_find_a_planted_best_between_the_datasets() -> None:
    world = World(EFFECTS, PAIRS)
    played = Played(Search(weights="simplex", budget=60), world)
    for ask in played.asks:
        assert sum(ask.mixture.weights) == pytest.approx(1.0)
        assert all(
            20 * weight == pytest.approx(round(20 * weight)) for weight in ask.mixture.weights
        )
    best = played.best()
    assert world.lift(best) > 0.95 * world.lift(Mixture(("a", "b"), (0.55, 0.45)))
    assert world.lift(best) > world.lift(Mixture.uniform("abc"))


def test_guided_search_beats_as_many_random_mixtures_among_a_thousand() -> None:
    effects = dict(zip("abcdefghij", np.linspace(1.0, -1.0, 10), strict=True))
    world = World(effects, {("a", "j"): 9.0, ("b", "c"): 3.0}, examples=32)
    played = Played(Search(strategy="guided", budget=40), world)
    space = Space(world.names)
    every = sorted(world.lift(mixture) for mixture in space.subsets())
    assert world.lift(played.best()) >= every[-20]
    assert played.spent <= 40 * 32


def test_the_simplex_is_drawn_and_walked_within_its_grid() -> None:
    space = Space(tuple("abc"), required=frozenset("a"), parts=4)
    rng = np.random.default_rng(0)
    drawn = {space.draw(rng) for _ in range(300)} - {None}
    assert len(drawn) == space.most == 1 + 2 * 3 + 3
    for mixture in drawn:
        assert mixture is not None
        assert set(space.neighbours(mixture)) <= drawn
        assert mixture not in set(space.neighbours(mixture))


def test_the_rounds_double_up_to_all() -> None:
    assert rounds(6, 130) == [6, 12, 24, 48, 96, 130]
    assert rounds(6, 4) == [4]


def test_losses_are_those_of_the_best_among_the_dropped() -> None:
    replicates = np.array([[0.0, 5.0], [1.0, 1.0], [2.0, 2.0]])
    assert losses(replicates, 0.0).tolist() == [0.0, 0.5, 0.5]
    assert losses(replicates, 3.0).tolist() == [0.0, 0.0, 0.0]


def test_promise_ends_with_the_leader() -> None:
    replicates = np.array([[1.0, 1.0], [3.0, 5.0], [0.0, 4.5]])
    order = promise(np.array([1.0, 4.0, 2.2]), replicates)
    assert order.tolist() == [0, 2, 1]


def test_too_many_mixtures_for_a_race_are_refused() -> None:
    space = Space(tuple(f"d{i}" for i in range(20)))
    with pytest.raises(InputError, match="1,048,575 mixtures are too many"):
        list(space.subsets())


def test_constraints_without_a_mixture_are_refused() -> None:
    datasets = [Dataset("a", Path("a"), "MIT"), Dataset("b", Path("b"), "GPL-3.0")]
    tokens = {"a": 10, "b": 5}
    assert make_space(Search(licences=("mit",)), datasets, tokens).names == ("a",)
    for search in (
        Search(licences=("CC0-1.0",)),
        Search(licences=("MIT",), required=("b",)),
        Search(max_tokens=4),
        Search(required=("a", "b"), max_datasets=1),
    ):
        with pytest.raises(InputError, match="no mixture"):
            make_space(search, datasets, tokens)


def test_how_many_mixtures_there_are() -> None:
    for search in (Search(), Search(max_datasets=2), Search(required=("b", "c"), max_datasets=4)):
        space = make_space(search, [Dataset(n, Path(n)) for n in "abcdef"], {})
        assert space.most == len(list(space.subsets()))


def test_every_beginning_of_the_order_has_all_strata() -> None:
    plain = World({"a": 1.0}, examples=64).score(BASE)
    length = np.random.default_rng(1).permutation(64)
    scores = replace(
        plain.scores["t"],
        bytes=length[:, None] * np.ones(4),
        facets=tuple("short" if each < 32 else "long" for each in length),
    )
    base = replace(plain, scores={"t": scores})
    order = ExampleOrder.stratified(base, [BITS], seed=5)
    for count in (4, 8, 16):
        places = order.first(count)["t"]
        assert len({int(length[place]) * count // 64 for place in places}) >= count - 1
        assert sum(scores.facets[place] == "short" for place in places) == count // 2
    assert sorted(order.first(64)["t"]) == list(range(64))
    assert order != ExampleOrder.stratified(base, [BITS], seed=6)


def test_targets_share_every_beginning_of_the_order() -> None:
    world = World({"a": 1.0}, examples=40, targets=("t", "u"))
    order = ExampleOrder.stratified(world.score(BASE), [BITS, Objective("u", BITS.metric)], seed=0)
    assert [len(each) for each in order.first(12).values()] == [6, 6]
    assert len(order) == 80
