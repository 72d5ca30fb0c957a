from __future__ import annotations

import numpy as np
import pytest

from m2m.evaluate.metric import resample
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.worth import worth

EFFECT = {"a": 0.5, "b": -0.3, "c": 0.0, "d": 0.1, "e": -0.1}


def scores(mixtures: list[Mixture], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Additive effects, and 0.4 where a and b come together; on 300 examples."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=300)
    examples = []
    for mixture in mixtures:
        value = sum(EFFECT[n] for n in mixture.datasets)
        value += 0.4 * ({"a", "b"} <= set(mixture.datasets))
        examples.append(value + shared + 0.2 * rng.normal(size=300))
    weights = resample(300, np.random.default_rng(0))
    found = np.array(examples)
    return found.mean(axis=1), found @ weights.T / 300


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_effects_and_the_planted_pair_are_found_also_from_some_mixtures(share: float) -> None:
    every = [BASE, *subsets(tuple(EFFECT))]
    rng = np.random.default_rng(1)
    mixtures = [m for m in every if len(m.datasets) < 2 or rng.random() < share]
    found = worth(mixtures, *scores(mixtures))
    true = {**EFFECT, "a": 0.5 + 0.2, "b": -0.3 + 0.2}
    for name, effect in true.items():
        assert found.datasets[name].estimate == pytest.approx(effect, abs=0.06)
        assert found.datasets[name].low < found.datasets[name].estimate < found.datasets[name].high
    first = found.interactions[0]
    assert first.datasets == ("a", "b")
    assert first.effect.estimate == pytest.approx(0.4, abs=0.08)
    assert "together do better than expected" in first.words
    assert all(each.effect.sign == 0 for each in found.interactions[1:])


def test_among_small_mixtures_worth_is_what_it_is_among_them() -> None:
    names = tuple(EFFECT)
    every = [BASE, *subsets(names, 3)]
    value = {m: sum(EFFECT[n] for n in m.datasets) + ({"a", "b"} <= {*m.datasets}) for m in every}
    points = np.array([float(value[mixture]) for mixture in every])
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(every), 200))
    found = worth(every, points, points[:, None] + noise)
    # Of the 1 + 4 + 6 mixtures of two or less without a, 1 + 3 have b.
    assert found.datasets["a"].estimate == pytest.approx(EFFECT["a"] + 4 / 11)
    assert found.datasets["c"].estimate == pytest.approx(EFFECT["c"])
    assert found.interactions[0].datasets == ("a", "b")
    assert found.interactions[0].effect.estimate == pytest.approx(1.0)


def test_small_mixtures_of_one_have_no_interactions() -> None:
    some = [BASE, *subsets(tuple(EFFECT), 1)]
    found = worth(some, *scores(some))
    assert found.interactions == []
    assert found.datasets["b"].estimate == pytest.approx(EFFECT["b"], abs=0.06)


def test_fewer_mixtures_leave_more_doubt() -> None:
    every = [BASE, *subsets(tuple(EFFECT))]
    few = every[:17]
    widths = [
        np.mean([each.high - each.low for each in worth(some, *scores(some)).datasets.values()])
        for some in (every, few)
    ]
    assert widths[1] > widths[0]


def test_a_metric_where_less_is_better_turns_the_signs() -> None:
    every = [BASE, *subsets(tuple(EFFECT))]
    points, replicates = scores(every)
    up, down = worth(every, points, replicates), worth(every, -points, -replicates, False)
    assert up.datasets["a"].estimate == pytest.approx(down.datasets["a"].estimate)
    assert up.interactions[0].effect.estimate == pytest.approx(down.interactions[0].effect.estimate)


def test_one_dataset_has_no_interactions() -> None:
    some = [BASE, Mixture.uniform("a")]
    assert worth(some, *scores(some)).interactions == []
