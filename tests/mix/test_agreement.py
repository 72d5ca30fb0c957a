from __future__ import annotations

import numpy as np
import pytest

from m2m.evaluate.metric import resample
from m2m.mix.agreement import ScoredPair, agreement, correlation, ranks, regret


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_those_of_the_textbook(ties: bool) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 12))
    if ties:
        x = np.round(x)
    expected = np.corrcoef(x, y)[0, 1]
    assert correlation(x[None], y[None])[0] == pytest.approx(expected)
    order = [sum(other < v for other in x) + (1 + sum(other == v for other in x)) / 2 for v in x]
    assert ranks(x[None])[0].tolist() == order
    assert np.isnan(correlation(np.ones((1, 5)), x[None, :5])).all()


def simulated(
    seed: int, mixtures: int, examples: int, noise: float
) -> tuple[ScoredPair, ScoredPair]:
    """Predicted and real means over examples of scores whose true correlation is 0.8."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=mixtures)
    other = 0.8 * truth + 0.6 * rng.normal(size=mixtures)
    found = []
    for values in (other, truth):
        each = values[:, None] + noise * rng.normal(size=(mixtures, examples))
        draws = resample(examples, rng, 300)
        found.append(ScoredPair(each.mean(axis=1), each @ draws.T / examples))
    return found[0], found[1]


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_promised() -> None:
    held = 0
    for seed in range(120):
        found = agreement(*simulated(seed, 24, 100, 2.0), np.random.default_rng(seed))
        assert found is not None
        held += found.pearson.low <= 0.8 / np.hypot(1, 0.2) ** 2 <= found.pearson.high
    assert 0.88 <= held / 120 <= 1.0


def test_noise_of_the_examples_widens_the_interval() -> None:
    def width(noise: float) -> float:
        found = [agreement(*simulated(s, 24, 50, noise), np.random.default_rng(s)) for s in (1, 2)]
        return float(sum(each.spearman.high - each.spearman.low for each in found if each))

    assert width(3.0) > 1.2 * width(0.1)


def test_too_few_mixtures_have_no_correlation() -> None:
    assert agreement(*simulated(0, 3, 20, 0.1), np.random.default_rng(0)) is None


def test_regret_is_what_a_choice_costs() -> None:
    points = np.array([0.1, 0.5, 0.3, 0.2])
    real = ScoredPair(points, points[:, None] + np.array([[-0.1, 0.0, 0.1]]))
    assert regret(real, 1).estimate == regret(real, 1).high == 0.0
    lost = regret(real, 2)
    assert (lost.estimate, lost.low, lost.high) == pytest.approx((0.2, 0.2, 0.2))
    assert regret(real, [0, 2]).estimate == pytest.approx(0.3)


@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0])
def test_an_interval_holds_its_estimate_however_near_the_scores_are(spread: float) -> None:
    """Noise of 0.05 on scores that differ by 0.0001: resamples order the mixtures by chance."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real = rng.normal(0, spread, 6)
        predicted, true = (
            ScoredPair(points, points[:, None] + rng.normal(0, 0.05, (6, 300)))
            for points in (real + rng.normal(0, spread / 10, 6), real)
        )
        found = agreement(predicted, true, np.random.default_rng(0))
        assert found is not None
        for each in (found.spearman, found.pearson, regret(true, 0)):
            assert each.low <= each.estimate <= each.high
