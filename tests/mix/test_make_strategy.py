"""One contract for every registered strategy: a search does what the strategy states before it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.formats.journal import Journal
from m2m.mix.example_order import ExampleOrder
from m2m.mix.make_strategy import make_strategy
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.racing import KEEP
from m2m.mix.scoreboard import Objective
from m2m.mix.space import Space
from m2m.mix.strategy import Ask, Cost, Setup, Strategy
from m2m.mix.study import Scorer, Study
from m2m.mix.trial import Places, Trial
from m2m.pipeline.shares import join_journals
from m2m.progress import Silent
from m2m.recipe import Search
from m2m.recipe.strategies import STRATEGIES, StrategyFacts
from tests.mix.planted import BITS, World
from tests.tiers import sampled

NAMES = "abcdef"
EXAMPLES = 96
RECORDING = Path(__file__).resolve().parents[2] / "examples/swahili/scores.npz"
SPACES = {
    "one dataset": Space(("a",)),
    "too few to race": Space(tuple("ab")),
    "three": Space(tuple("abc")),
    "five": Space(tuple("abcde")),
    "some required": Space(tuple("abcde"), required=frozenset("a")),
    "small ones": Space(tuple(NAMES), max_datasets=2),
}
# Shares are joined in the same way in every space.
SHARED = [
    pytest.param(
        space, id=name, marks=[pytest.mark.slow] * (name not in ("three", "too few to race"))
    )
    for name, space in SPACES.items()
]


def planted(seed: int = 0) -> World:
    effects = np.random.default_rng(seed).normal(0, 0.4, len(NAMES))
    return World(dict(zip(NAMES, effects, strict=True)), examples=EXAMPLES, seed=seed)


class Recorded:
    """The scores of all 255 mixtures of the starter's datasets, as llama.cpp gave them."""

    def __init__(self) -> None:
        with np.load(RECORDING) as found:
            self.names = tuple(found["names"].tolist())
            self._bytes, self._gold = found["bytes"].astype(float), found["gold"].astype(np.int64)
            self._loglik = {
                tuple(name for name, there in zip(self.names, row, strict=True) if there): each
                for row, each in zip(found["included"], found["loglik"] / 100.0, strict=True)
            }
        self.examples = {"t": len(self._gold)}

    def key(self, mixture: Mixture) -> str:
        return mixture.label

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        size, gold = self._bytes, self._gold
        scores = Scores("choices", self._loglik[mixture.datasets], size, size, gold)
        if places is None:
            return Trial(mixture, {"t": scores}, {}, 1, 0.0)
        return Trial(mixture, {"t": scores.take(list(places["t"]))}, {}, 1, 0.0, dict(places))


class Played:
    """A real search to its end, and its cost."""

    def __init__(self, search: Search, space: Space, world: World | Recorded) -> None:
        examples, base = world.examples["t"], world.score(BASE)
        order = ExampleOrder.stratified(base, [BITS], search.seed)
        self.strategy = make_strategy(search, space, examples, [BITS])
        self.stated, self.certain = self.strategy.cost(), list(self.strategy.certain())
        self.asks: list[Ask] = []
        self.cost = Cost()
        trials: dict[Mixture, Trial] = {}
        self.strategy.tell([base])
        while asks := self.strategy.ask():
            self.asks += asks
            for ask in asks:
                known = trials[ask.mixture].examples if ask.mixture in trials else 0
                self.cost = self.cost.plus(1, (ask.examples - known) / examples, new=not known)
                places = None if ask.examples == examples else order.first(ask.examples)
                trials[ask.mixture] = world.score(ask.mixture, places)
            self.strategy.tell([trials[ask.mixture] for ask in asks])


@cache
def played(name: str, space: str, seed: int = 0) -> Played:
    """A strategy's search in one of the SPACES; only looked at."""
    return Played(Search(strategy=name), SPACES[space], planted(seed))


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    def test_bears_its_name_and_a_cheaper_one_exists(self, name: str) -> None:
        strategy = make_strategy(Search(strategy=name), Space(tuple("abc")), EXAMPLES, [BITS])
        assert strategy.name == name
        assert strategy.cheaper is None or strategy.cheaper[0] in STRATEGIES

    @pytest.mark.parametrize("space", sampled(SPACES, every=2))
    def test_takes_what_it_states(self, name: str, space: str) -> None:
        search = played(name, space)
        assert search.stated.mixtures == pytest.approx(search.cost.mixtures, rel=0.1)
        assert search.stated.evaluations == pytest.approx(search.cost.evaluations, rel=0.25)
        assert search.stated.loads == pytest.approx(search.cost.loads, rel=0.5)
        if search.strategy.cheaper:  # nothing that it learns can end it early
            assert search.stated == search.cost

    @pytest.mark.slow
    def test_takes_what_it_states_of_recorded_scores(self, name: str) -> None:
        world = Recorded()
        search = Played(Search(strategy=name, budget=25), Space(world.names), world)
        assert search.stated.mixtures == pytest.approx(search.cost.mixtures, rel=0.1)
        assert search.stated.evaluations == pytest.approx(search.cost.evaluations, rel=0.25)

    @pytest.mark.parametrize("space", SPACES)
    def test_its_certain_asks_are_its_first(self, name: str, space: str) -> None:
        search = played(name, space)
        assert search.certain
        assert search.asks[: len(search.certain)] == search.certain
        assert search.strategy.cost() == search.stated  # also afterwards
        assert search.strategy.certain() == search.certain

    def test_its_certain_asks_depend_on_no_answer(self, name: str) -> None:
        one, other = played(name, "three"), played(name, "three", seed=1)
        assert one.certain == other.certain == other.asks[: len(other.certain)]

    @pytest.mark.parametrize("space", SHARED)
    def test_shares_joined_give_what_one_process_gives(
        self, name: str, space: Space, tmp_path: Path
    ) -> None:
        world = planted()
        order = ExampleOrder.stratified(world.score(BASE), [BITS], 0)

        def search(folder: Path, scorer: Scorer) -> list[Trial]:
            strategy = make_strategy(Search(strategy=name), space, EXAMPLES, [BITS])
            return Study(Journal(folder / "study.jsonl"), scorer).run(strategy, order, Silent())

        one, shared, joining = planted(), planted(), planted()
        alone = search(tmp_path / "one", one)
        asks = make_strategy(Search(strategy=name), space, EXAMPLES, [BITS]).certain()
        journals = [tmp_path / str(number) / "study.jsonl" for number in range(3)]
        for number, path in enumerate(journals):
            study = Study(Journal(path), shared)
            for ask in asks[number::3]:
                whole = ask.examples == EXAMPLES
                study.trial(ask.mixture, None if whole else order.first(ask.examples))
        join_journals(tmp_path / "joined" / "study.jsonl", journals)
        joined = search(tmp_path / "joined", joining)
        assert [trial.as_json() for trial in joined] == [trial.as_json() for trial in alone]
        assert sorted(map(str, shared.calls + joining.calls)) == sorted(map(str, one.calls))

    def test_a_budget_is_kept_down_to_the_least(self, name: str) -> None:
        space = Space(tuple(NAMES))
        least = make_strategy(Search(strategy=name), space, EXAMPLES, [BITS]).least_budget()
        poor = Played(Search(strategy=name, budget=least), space, planted())
        rich = make_strategy(Search(strategy=name, budget=2 * least), space, EXAMPLES, [BITS])
        assert poor.cost.evaluations < least + KEEP
        assert {ask.mixture for ask in poor.certain} <= {ask.mixture for ask in poor.asks}
        assert poor.stated.evaluations == pytest.approx(poor.cost.evaluations, rel=0.1)
        assert poor.stated.evaluations <= rich.cost().evaluations


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "parts"), sampled([(30.0, 0), (20.0, 20)], every=2))
def test_a_guided_search_takes_its_budget(budget: float, parts: int) -> None:
    search = Search(strategy="guided", budget=budget)
    guided = Played(search, Space(tuple(NAMES), parts=parts), planted())
    for kind in ("evaluations", "loads", "mixtures"):
        stated, taken = (getattr(cost, kind) for cost in (guided.stated, guided.cost))
        assert stated == pytest.approx(taken, rel=0.1)


def test_an_exhaustive_search_takes_every_mixture_in_full() -> None:
    search = Search(strategy="exhaustive", budget=9.0)
    space = Space(tuple(NAMES), max_datasets=2)
    assert make_strategy(search, space, EXAMPLES, [BITS]).cost() == Cost(21, 21, 21)
    with pytest.raises(InputError, match="too many"):
        make_strategy(search, Space(tuple(map(str, range(20)))), EXAMPLES, [BITS])


def test_what_is_done_is_taken_off() -> None:
    assert Cost(5, 9, 7).less(Cost(2, 3, 3)) == Cost(3, 6, 7)
    assert Cost(1, 1, 1).less(Cost(2, 3, 3)) == Cost(0, 0, 1)


@pytest.mark.parametrize(
    ("space", "taken"),
    [
        (Space(tuple("abc")), "racing"),
        (Space(tuple("abcdefghijkl")), "racing"),
        (Space(tuple("abcdefghijklm")), "guided"),
        (Space(tuple("abcdefghijklm"), max_datasets=2), "racing"),
        (Space(tuple("abc"), parts=20), "guided"),
    ],
)
def test_auto_takes_the_first_that_suits(space: Space, taken: str) -> None:
    objectives = [Objective("t", METRICS["choice_bits"])]
    assert make_strategy(Search(), space, EXAMPLES, objectives).name == taken


class Singles(Strategy):
    """A strategy of a few lines: the single datasets only."""

    name = "singles"

    def __init__(self, setup: Setup) -> None:
        self._asks = self._first = setup.experts()
        self.candidates = len(self._asks)

    def cost(self) -> Cost:
        return Cost().plus(self.candidates, 1.0, new=True)

    def least_budget(self) -> float:
        return float(self.candidates)

    def certain(self) -> list[Ask]:
        return self._first

    def ask(self) -> list[Ask]:
        asks, self._asks = self._asks, []
        return asks

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing to learn."""


def test_a_new_strategy_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("m2m.mix.singles")
    module.STRATEGY = Singles  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STRATEGIES, "singles", StrategyFacts("single datasets only"))
    singles = Played(Search(strategy="singles"), Space(tuple(NAMES)), planted())
    assert singles.cost == singles.stated == Cost(6, 6, 6)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="unknown strategy 'races'") as caught:
        make_strategy(Search(strategy="races"), Space(("a",)), EXAMPLES, [BITS])
    assert "racing" in (caught.value.hint or "")
