from __future__ import annotations

import numpy as np
import pytest

from m2m.evaluate.metrics import resample
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
    assert "worth more together" in first.words
    assert all(each.effect.sign == 0 for each in found.interactions[1:])


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
