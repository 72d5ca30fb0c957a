from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.mix.agreement import ScoredPair
from m2m.mix.comparison import foresight, ordered_rightly
from m2m.mix.halving_rival import halving
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.rival_predictors import (
    FIRST_ORDER,
    MEAN_OF_SINGLES,
    PER_BYTE,
    PROBABILITIES,
    RIVALS,
    KnownScores,
    choices_mixed,
    nested,
    picks_of,
)
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Trial

NAMES = ("a", "b", "c")
QUESTIONS, CHOICES = 60, 4


def scores(seed: int, strength: float, kind: str = "choices") -> Scores:
    """Log-likelihoods of choices of different lengths; a stronger model prefers the right one."""
    rng = np.random.default_rng(seed)
    size = rng.integers(3, 20, (QUESTIONS, CHOICES)).astype(float)
    gold = np.arange(QUESTIONS) % CHOICES
    loglik = -size * rng.uniform(0.5, 1.5, size.shape)
    loglik[np.arange(QUESTIONS), gold] += strength * size[np.arange(QUESTIONS), gold]
    return Scores(kind, loglik.clip(max=-0.01), size, size, gold)


def known(metric: str = "choice_bits", growth: float = 0.0, kind: str = "choices") -> KnownScores:
    def trial(mixture: Mixture, strength: float) -> Trial:
        return Trial(mixture, {"task": scores(1, strength, kind)}, {}, 0, 0.0)

    singles = {
        name: trial(Mixture.uniform([name]), strength)
        for name, strength in zip(NAMES, (0.2, 0.6, 0.05), strict=True)
    }
    return KnownScores(trial(BASE, 0.0), singles, [Objective("task", METRICS[metric])], growth, 0)


def predict(name: str, of: KnownScores, mixtures: list[Mixture]) -> ScoredPair:
    rival = RIVALS[name].predict
    assert rival
    found = rival(of, mixtures, REPLICATES)
    assert found is not None
    assert found.replicates.shape == (len(mixtures), REPLICATES)
    return found


def value(loglik: np.ndarray, size: np.ndarray) -> float:
    one = scores(1, 0.0)
    return float(
        METRICS["choice_bits"].value(Scores("choices", loglik, size, size, one.gold), None)[0]
    )


@pytest.mark.parametrize("growth", [0.0, 0.5])
def test_first_order_adds_the_changes_of_the_log_likelihoods(growth: float) -> None:
    of = known(growth=growth)
    base, size = of.base.scores["task"].loglik, of.base.scores["task"].bytes
    a, b = (of.singles[name].scores["task"].loglik for name in "ab")
    pair = base + 2**growth * ((a - base) + (b - base)) / 2
    found = predict(FIRST_ORDER, of, [Mixture.uniform("ab"), Mixture.uniform("a")])
    assert found.points == pytest.approx([value(pair, size), value(a, size)])


def test_probabilities_of_choices_are_averaged() -> None:
    of = known()
    a, b = (of.singles[name].scores["task"] for name in "ab")
    weights = (0.75, 0.25)

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)

    for name, per_byte in ((PROBABILITIES, False), (PER_BYTE, True)):
        rates = [s.loglik / s.bytes if per_byte else s.loglik for s in (a, b)]
        mixed = sum(w * softmax(rate) for w, rate in zip(weights, rates, strict=True))
        found = choices_mixed([a, b], weights, per_byte)
        assert np.exp(found.loglik) == pytest.approx(mixed)
        points = predict(name, of, [Mixture(("a", "b"), weights)]).points
        assert points == pytest.approx([value(np.log(mixed), np.ones_like(mixed))])


def test_a_single_dataset_keeps_its_own_score() -> None:
    of = known(growth=0.5)
    singles = [Mixture.uniform([name]) for name in NAMES]
    own = [value(of.singles[n].scores["task"].loglik, of.base.scores["task"].bytes) for n in NAMES]
    for name in (FIRST_ORDER, PER_BYTE, MEAN_OF_SINGLES):
        assert predict(name, of, singles).points == pytest.approx(own)


def test_the_mean_of_singles_has_the_growth_of_the_merge() -> None:
    of = known(growth=0.5)
    base, *own = of.scored([of.base, *of.singles.values()]).points
    found = predict(MEAN_OF_SINGLES, of, [Mixture.uniform(NAMES)]).points
    assert found == pytest.approx([base + np.sqrt(3) * (np.mean(own) - base)])


def test_written_answers_cannot_be_mixed_but_their_scores_can() -> None:
    of = known("answer_match", kind="answer")
    written = {
        name: Trial(
            trial.mixture,
            {
                "task": Scores(
                    **{
                        **vars(trial.scores["task"]),
                        "predictions": ("yes",) * QUESTIONS,
                        "references": (("yes",),) * QUESTIONS,
                    }
                )
            },
            {},
            0,
            0.0,
        )
        for name, trial in {"": of.base, **of.singles}.items()
    }
    of = KnownScores(written.pop(""), written, of.objectives, 0.0, 0)
    for name in (FIRST_ORDER, PROBABILITIES, PER_BYTE):
        assert RIVALS[name].predict(of, [Mixture.uniform("ab")], 10) is None  # type: ignore[misc]
    assert predict(MEAN_OF_SINGLES, of, [Mixture.uniform("ab")]).points == pytest.approx([1.0])
    assert FIRST_ORDER not in picks_of(of, [*subsets(NAMES)])


def test_lower_is_better_turns_the_predictions_too() -> None:
    of = known("bits_per_byte")
    strong, weak = Mixture.uniform("b"), Mixture.uniform("c")
    for name in (FIRST_ORDER, PROBABILITIES, MEAN_OF_SINGLES):
        points = predict(name, of, [strong, weak]).points
        assert points[0] > points[1]
        assert points[0] == pytest.approx(of.scored([of.singles["b"]]).points[0])


def test_picks_that_need_no_fine_tune() -> None:
    found = picks_of(known(), [*subsets(NAMES)])
    assert found["best_single"] == Mixture.uniform("b")
    assert found["all"] == Mixture.uniform(NAMES)
    assert {"nested_top_k", "random", "similarity", "hidden_similarity"}.isdisjoint(found)
    assert nested(known()) == [Mixture.uniform(m) for m in ("b", "ab", "abc")]


def test_no_rival_that_a_user_would_choose_trains_on_a_control() -> None:
    """Even if it scores best: b is the strongest dataset."""
    of = replace(known(), rows={"a": 1, "b": 2, "c": 3}, controls={"b"})
    found = picks_of(of, [*subsets(NAMES)])
    assert found["best_single"] == Mixture.uniform("a")
    assert found["all"] == Mixture.uniform("ac")
    assert found["union"] == Mixture(("a", "c"), (0.25, 0.75))
    assert nested(of) == [Mixture.uniform("a"), Mixture.uniform("ac")]
    assert [of.is_right(Mixture.uniform(names)) for names in ("ac", "ab")] == [True, False]
    assert nested(replace(of, controls={*NAMES})) == nested(known())


def test_pairs_in_order_are_those_of_two_loops() -> None:
    rng = np.random.default_rng(2)
    guess, truth = rng.normal(size=(2, 3, 9)).round(1)
    for found, one, other in zip(ordered_rightly(guess, truth, 0.4), guess, truth, strict=True):
        right = [
            0.5 if one[i] == one[j] else float((one[i] > one[j]) == (other[i] > other[j]))
            for i, j in combinations(range(9), 2)
            if abs(other[i] - other[j]) > 0.4
        ]
        assert found == pytest.approx(np.mean(right))
    assert np.isnan(ordered_rightly(guess, np.zeros((3, 9)), 0.4)).all()


def test_differences_are_paired() -> None:
    """Two predictors with the same errors differ by nothing, for certain."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20)
    noisy = truth + rng.normal(size=20)
    real = ScoredPair(truth, truth[:, None] + 0.3 * rng.normal(size=(20, 300)))
    guess = ScoredPair.exact(noisy, 300)
    other = ScoredPair.exact(-truth, 300)
    found = foresight({"one": guess, "same": guess, "worse": other}, real, 0.1, 0)
    same, worse = found["same"].lead, found["worse"].lead
    assert found["one"].lead is None
    assert same
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)
    assert worse
    assert worse.low > 0.5
    assert found["worse"].ordered.estimate == 0.0
    assert foresight({"one": guess[np.arange(3)]}, real[np.arange(3)], 0.1, 0) == {}


def test_halving_picks_the_best_of_its_starters_if_short_fine_tunes_agree() -> None:
    scored = np.array([0.1, 0.5, 0.3, 0.2, 0.4])
    found = halving({10: scored, 20: scored}, 3 * 10 + 20, 0)
    assert found
    assert (found.starters, found.steps) == (3, 50)
    # Of the 10 sets of three, 6 have the best, 3 more the second, 1 the third.
    assert found.picks == pytest.approx([0, 0.6, 0.1, 0, 0.3])
    misled = halving({10: -scored, 20: scored}, 3 * 10 + 20, 0)
    assert misled
    assert int(np.argmax(misled.picks)) == 0
    every = halving({10: scored, 20: scored}, 1000, 0)
    assert every
    assert every.starters == 5
    further = halving({10: scored, 20: scored}, 3 * 10 + 20, 0, continued=True)
    assert further
    assert (further.starters, further.steps) == (3, 3 * 10 + 10)
    assert halving({10: scored, 20: scored}, 29, 0) is None
    assert halving({20: scored}, 1000, 0) is None
