from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m2m.arrays import F64
from m2m.evaluate.metric import resample
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.mix.estimate import Draws, FirstOrder, estimate
from m2m.mix.example_order import ExampleOrder
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import scoreboard
from m2m.mix.trial import Trial
from tests.mix.planted import BITS, World

EFFECTS = {"a": 1.2, "b": 0.6, "c": -0.4}


def trials(world: World, count: int, seed: int = 0) -> tuple[list[Trial], list[Trial]]:
    """Base and experts in full; all other mixtures on the first `count` examples."""
    alone = [world.score(BASE), *(world.score(Mixture.uniform([n])) for n in world.names)]
    order = ExampleOrder.stratified(alone[0], [BITS], seed)
    rest = [m for m in subsets(world.names) if len(m.datasets) > 1]
    return alone, [world.score(mixture, order.first(count)) for mixture in rest]


def test_where_log_likelihoods_are_linear_the_prediction_is_exact() -> None:
    world = World(EFFECTS)
    alone, _ = trials(world, 48)
    mixture = Mixture(("a", "c"), (0.3, 0.7))
    base, a, c = (world._scores("t", m).loglik for m in (BASE, *subsets(("a",)), *subsets(("c",))))
    found = FirstOrder.of(alone, "t")
    assert found is not None
    predicted = found.predict(mixture)
    assert predicted is not None
    np.testing.assert_allclose(predicted.loglik, base + 0.3 * (a - base) + 0.7 * (c - base))
    assert found.predict(Mixture.uniform(["a", "unknown"])) is None


def test_the_prediction_follows_the_growth_of_the_merge() -> None:
    world = World(EFFECTS, growth=0.5)
    alone, _ = trials(world, 48)
    known = FirstOrder.of(alone, "t", growth=0.5)
    assert known is not None
    mixture = Mixture.uniform(["a", "b", "c"])
    predicted, plain = known.predict(mixture), FirstOrder.of(alone, "t").predict(mixture)
    assert predicted is not None
    assert plain is not None
    base = world.score(BASE).scores["t"].loglik
    np.testing.assert_allclose(predicted.loglik - base, 3**0.5 * (plain.loglik - base))
    close, far = (
        np.std(each.loglik - world.score(mixture).scores["t"].loglik) for each in (predicted, plain)
    )
    assert close < 0.75 * far  # the rest is the world's own


@pytest.mark.parametrize("name", ["choice_bits", "accuracy", "bits_per_byte"])
def test_predictions_make_a_few_examples_tell_more(name: str) -> None:
    """Over many orders, the error is smaller than without, and about as large as told."""
    metric, world = METRICS[name], World(EFFECTS, {("a", "b"): 1.0}, examples=80)
    errors, plain, told = [], [], []
    for seed in range(8):
        alone, some = trials(world, 16, seed)
        draws = Draws.of(resample(80, np.random.default_rng(seed), 200))
        for guide, into in ((FirstOrder.of(alone, "t"), errors), (None, plain)):
            found = estimate(some, "t", metric, draws, guide, of_these=True)
            truth = [metric.value(world.score(t.mixture).scores["t"], None)[0] for t in some]
            into.append(found.points - truth)
            if guide:
                told.append(found.replicates.std(axis=1))
    assert np.std(errors) < np.std(plain)
    assert 0.7 < np.sqrt(np.mean(np.square(told))) / np.std(errors) < 2


def test_all_examples_leave_no_doubt_about_these_examples() -> None:
    world = World(EFFECTS)
    alone, _ = trials(world, 48)
    draws = Draws.of(resample(48, np.random.default_rng(0), 50))
    found = estimate(alone, "t", BITS.metric, draws, None, of_these=True)
    assert np.ptp(found.replicates, axis=1).max() == 0
    sampled = estimate(alone, "t", BITS.metric, draws, None)
    assert sampled.replicates.std(axis=1).min() > 0


def test_useless_predictions_are_left_out() -> None:
    """Experts whose scores say nothing about their mixtures: no worse than no prediction."""
    world, other = World(EFFECTS, examples=80), World(EFFECTS, examples=80, seed=9)
    alone, _ = trials(other, 20)
    _, some = trials(world, 20)
    draws = Draws.of(resample(80, np.random.default_rng(0), 200))
    with_it = estimate(some, "t", BITS.metric, draws, FirstOrder.of(alone, "t"), of_these=True)
    without = estimate(some, "t", BITS.metric, draws, None, of_these=True)
    assert with_it.replicates.std() < 1.2 * without.replicates.std()


MORE = dict(zip("abcdef", (1.6, 0.9, 0.3, 0.0, -0.3, -0.8), strict=True))


def errors(seed: int, count: int, world: World, guide: World | None) -> tuple[np.ndarray, ...]:
    """What 57 estimates from a few examples are wrong by, and the deviations that they tell."""
    _, some = trials(world, count, seed)
    known = FirstOrder.of(trials(guide, count)[0], "t") if guide else None
    draws = Draws.of(resample(80, np.random.default_rng(seed), 200))
    found = estimate(some, "t", BITS.metric, draws, known, of_these=True)
    truth = [BITS.metric.value(world.score(t.mixture).scores["t"], None)[0] for t in some]
    return found.points - truth, found.replicates.std(axis=1)


@pytest.mark.slow
def test_what_is_luck_in_the_residuals_of_many_is_taken_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A third of the error and more, and the truth stays within what is told."""
    world = World(MORE, {("a", "b"): 0.8}, examples=80)
    shrunk, told = zip(*(errors(seed, 6, world, world) for seed in range(6)), strict=True)
    monkeypatch.setattr("m2m.mix.estimate.MANY", 10**9)
    plain, _ = zip(*(errors(seed, 6, world, world) for seed in range(6)), strict=True)
    assert np.std(shrunk) < 0.65 * np.std(plain)
    assert np.mean(np.abs(shrunk) < 1.96 * np.array(told)) > 0.9


def test_residuals_without_any_difference_are_kept_as_they_are() -> None:
    """Equal mixtures by another name tell nothing about how much of what they share is real."""
    world = World({n: 0.0 for n in MORE}, examples=80)
    alone, some = trials(world, 6)
    twins = [replace(some[0], mixture=each.mixture) for each in some]
    known = FirstOrder(alone[0].scores["t"], dict.fromkeys(MORE, alone[1].scores["t"]))
    draws = Draws.of(resample(80, np.random.default_rng(0), 200))
    one = estimate(twins[:1], "t", BITS.metric, draws, known, of_these=True)
    many = estimate(twins, "t", BITS.metric, draws, known, of_these=True)
    np.testing.assert_allclose(many.points, np.full(len(twins), one.points[0]), rtol=1e-12)
    np.testing.assert_allclose(many.replicates.std(axis=1), one.replicates.std(), rtol=1e-6)


@pytest.mark.slow
def test_predictions_that_say_nothing_do_no_harm_to_many_either() -> None:
    world, other = World(MORE, examples=80), World({n: 0.0 for n in MORE}, examples=80, seed=9)
    useless = [errors(seed, 20, world, other)[0] for seed in range(4)]
    without = [errors(seed, 20, world, None)[0] for seed in range(4)]
    assert np.std(useless) < 1.3 * np.std(without)


def test_a_partial_trial_has_the_wider_interval_and_never_the_first_place() -> None:
    world = World({"a": 0.5, "b": 0.5, "c": 0.5}, seed=2)
    alone, some = trials(world, 8)
    found = scoreboard([*alone, *some], [BITS], seed=0)
    whole = scoreboard([*alone, *(world.score(t.mixture) for t in some)], [BITS], seed=0)
    assert (found.replicates[4:].std(axis=1) > whole.replicates[4:].std(axis=1)).mean() > 0.5
    counts = [t.examples for t in [*alone, *some]]
    points = found.points.copy()
    points[5] = points.max() + 1
    ranking = rank(found.mixtures, points, found.replicates, True, counts)
    assert ranking[0].examples == 48
    assert ranking[1].examples == 8
    assert ranking[1].behind.estimate < 0


def test_the_values_of_scores_are_computed_once_for_equal_draws_and_anew_for_others() -> None:
    world = World(EFFECTS)
    alone, _ = trials(world, 48)
    asked = []

    def value(scores: Scores, weights: F64 | None) -> F64:
        asked.append(scores)
        return BITS.metric.value(scores, weights)

    objective = replace(BITS, metric=replace(BITS.metric, value=value))
    first = scoreboard(alone, [objective], seed=1)
    calls = len(asked)
    assert calls >= len(alone)
    again = scoreboard(alone[1:], [objective], seed=1)
    assert len(asked) == calls
    np.testing.assert_array_equal(again.replicates, first.replicates[1:])
    plain = scoreboard(alone, [BITS], seed=1)
    np.testing.assert_array_equal(plain.replicates, first.replicates)
    others = (
        scoreboard(alone, [objective], seed=2),
        scoreboard(alone, [objective], seed=1, of_these=True),
        scoreboard(alone, [replace(objective, metric=METRICS["accuracy"])], seed=1),
    )
    for other in others:
        assert (other.replicates != first.replicates).any()
    assert scoreboard(alone, [objective], seed=1, resamples=7).replicates.shape == (4, 7)
