from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import Interrupted
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded
from m2m.formats.journal import Journal
from m2m.mix.example_order import ExampleOrder
from m2m.mix.exhaustive import Exhaustive
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.space import Space
from m2m.mix.strategy import Setup
from m2m.mix.study import Study
from m2m.mix.trial import Places, Trial
from m2m.mix.warnings import mixture_warnings
from m2m.progress import Silent
from tests.tiny import StopAfter

NAMES = ("a", "b", "c")
BITS = Objective("t", METRICS["choice_bits"])


def scores(skill: float, seed: int, examples: int = 60, likelihood: float = 0.0) -> Scores:
    """Four choices an example; `skill` lifts the right one, `likelihood` lifts all of them."""
    rng = np.random.default_rng(seed)
    loglik = rng.normal(-20 + likelihood, 1.0, size=(examples, 4))
    gold = rng.integers(4, size=examples)
    loglik[np.arange(examples), gold] += skill
    size = [[10.0] * 4] * examples
    return Scores("choices", loglik, padded(size), padded(size), gold)


def trial(mixture: Mixture, found: Scores, survival: float = 1.0) -> Trial:
    kept = {"gain": 1.0, "cosine": survival} if mixture.datasets else {}
    return Trial(mixture, {"t": found}, kept, 100, 0.5)


class CountingScorer:
    """Scores by a formula, and counts how often."""

    def __init__(self, salt: str = "") -> None:
        self.calls: list[str] = []
        self.salt = salt

    @property
    def examples(self) -> dict[str, int]:
        return {"t": 60}

    def key(self, mixture: Mixture) -> str:
        return self.salt + mixture.label

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        self.calls.append(mixture.label)
        whole = trial(mixture, scores(len(mixture.datasets), seed=len(mixture.label)))
        return whole if places is None else whole.take(places)


ORDER = ExampleOrder.stratified(trial(BASE, scores(0, 0)), [BITS], seed=0)


def exhaustive() -> Exhaustive:
    return Exhaustive(Setup(Space(NAMES), len(ORDER), [BITS]))


def study(path: Path, scorer: CountingScorer) -> Study:
    return Study(Journal(path), scorer, lambda t: float(BITS.metric.value(t.scores["t"], None)[0]))


def test_a_study_scores_each_mixture_once_and_the_base_first(tmp_path: Path) -> None:
    scorer = CountingScorer()
    trials = study(tmp_path / "s.jsonl", scorer).run(exhaustive(), ORDER, Silent())
    assert scorer.calls[0] == "base"
    assert len(scorer.calls) == len(set(scorer.calls)) == len(trials) == 8


def test_a_second_study_answers_from_the_journal_with_the_same_numbers(tmp_path: Path) -> None:
    first = study(tmp_path / "s.jsonl", CountingScorer()).run(exhaustive(), ORDER, Silent())
    scorer = CountingScorer()
    again = study(tmp_path / "s.jsonl", scorer).run(exhaustive(), ORDER, Silent())
    assert scorer.calls == []
    for one, two in zip(first, again, strict=True):
        assert one.mixture == two.mixture
        np.testing.assert_array_equal(one.scores["t"].loglik, two.scores["t"].loglik)
        np.testing.assert_array_equal(one.scores["t"].gold, two.scores["t"].gold)


def test_another_key_is_scored_again(tmp_path: Path) -> None:
    study(tmp_path / "s.jsonl", CountingScorer()).run(exhaustive(), ORDER, Silent())
    scorer = CountingScorer(salt="changed ")
    study(tmp_path / "s.jsonl", scorer).run(exhaustive(), ORDER, Silent())
    assert len(scorer.calls) == 8


def test_a_torn_last_line_costs_one_mixture(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    study(path, CountingScorer()).run(exhaustive(), ORDER, Silent())
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    scorer = CountingScorer()
    study(path, scorer).run(exhaustive(), ORDER, Silent())
    assert scorer.calls == ["a + b + c"]
    assert path.read_bytes() == whole


def test_a_stop_keeps_what_is_scored(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        study(tmp_path / "s.jsonl", CountingScorer()).run(exhaustive(), ORDER, StopAfter())
    assert len(Journal(tmp_path / "s.jsonl").replay()) == 1


def test_blocks_of_a_mixture_add_up_to_its_whole_trial(tmp_path: Path) -> None:
    scorer, mixture = CountingScorer(), Mixture.uniform("ab")
    blocks = study(tmp_path / "s.jsonl", scorer)
    for count in (7, 20, 20, 60):
        places = ORDER.first(count)
        found = blocks.trial(mixture, places)
        assert found.places == places
        assert found.examples == count
    assert len(scorer.calls) == 3
    whole = study(tmp_path / "s.jsonl", scorer).trial(mixture)
    expected = CountingScorer().score(mixture)
    assert whole.complete
    np.testing.assert_array_equal(whole.scores["t"].loglik, expected.scores["t"].loglik)
    np.testing.assert_array_equal(whole.scores["t"].gold, expected.scores["t"].gold)
    assert len(scorer.calls) == 3


def test_what_is_known_in_another_order_is_not_scored_again(tmp_path: Path) -> None:
    scorer, mixture = CountingScorer(), Mixture.uniform("ab")
    blocks = study(tmp_path / "s.jsonl", scorer)
    blocks.trial(mixture, {"t": (3, 1, 4)})
    assert blocks.trial(mixture, {"t": (1, 5)}).places == {"t": (1, 5)}
    known = blocks.known(mixture)
    assert known is not None
    assert known.places == {"t": (3, 1, 4, 5)}


def test_lines_from_before_there_were_blocks_still_count(tmp_path: Path) -> None:
    path, mixture = tmp_path / "s.jsonl", Mixture.uniform("ab")
    study(path, CountingScorer()).trial(mixture)
    (line,) = Journal(path).replay()
    path.unlink()
    del line["places"]
    Journal(path).append({**line, "schema": 1})
    scorer = CountingScorer()
    assert study(path, scorer).trial(mixture, ORDER.first(5)).examples == 5
    assert scorer.calls == []


def test_one_target_keeps_its_unit_and_several_are_standardised() -> None:
    mixtures = list(subsets(NAMES))[:3]
    good, bad = METRICS["accuracy"], METRICS["bits_per_byte"]
    trials = [
        Trial(m, {"t": scores(i, 1), "u": scores(0, 2, likelihood=-i)}, {}, 0, 0.0)
        for i, m in enumerate(mixtures)
    ]
    alone = scoreboard(trials, [Objective("t", good)], seed=0)
    assert alone.points == pytest.approx([good.value(t.scores["t"], None)[0] for t in trials])
    both = scoreboard(trials, [Objective("t", good, 3.0), Objective("u", bad, 1.0)], seed=0)
    t, u = (
        np.array([metric.value(trial.scores[name], None)[0] for trial in trials])
        for name, metric in (("t", good), ("u", bad))
    )
    expected = 0.75 * (t - t.mean()) / t.std() - 0.25 * (u - u.mean()) / u.std()
    assert both.points == pytest.approx(expected)
    assert both.higher_is_better
    assert both.replicates.mean(axis=1) == pytest.approx(both.points, abs=0.15)


def healthy() -> list[Trial]:
    known = enumerate(subsets(NAMES), start=1)
    return [trial(BASE, scores(0, 0)), *(trial(m, scores(i, 1)) for i, m in known)]


def test_a_healthy_study_gives_no_warning() -> None:
    assert mixture_warnings(healthy(), [BITS]) == []


def test_chance_is_named() -> None:
    trials = [trial(m, scores(0, seed)) for seed, m in enumerate([BASE, *subsets(NAMES)])]
    assert (
        sum(
            "no model was clearly better than guessing" in w
            for w in mixture_warnings(trials, [BITS])
        )
        == 1
    )


def test_lost_deltas_are_named() -> None:
    trials = [trial(t.mixture, t.scores["t"], survival=0.4) for t in healthy()]
    assert "0.40" in next(w for w in mixture_warnings(trials, [BITS]) if "Rounding lost" in w)


def test_a_likelihood_that_misleads_is_named() -> None:
    trials = [
        trial(BASE, scores(0, 0)),
        trial(Mixture.uniform("a"), scores(3, 1)),
        trial(Mixture.uniform("b"), scores(0.5, 1, likelihood=8)),
    ]
    (warning,) = mixture_warnings(trials, [BITS])
    assert "a is the best single dataset by choice_bits, but b by bits per byte" in warning


def test_a_trial_survives_its_journal_line() -> None:
    one = trial(Mixture(("a", "b"), (1 / 3, 2 / 3)), scores(1, 5))
    two = Trial.from_json(one.as_json())
    assert two.mixture == one.mixture
    assert math.isclose(two.seconds, one.seconds)
    np.testing.assert_array_equal(two.scores["t"].loglik, one.scores["t"].loglik)
