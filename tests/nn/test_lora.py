from __future__ import annotations

import numpy as np
import pytest

from m2m.nn.lora import LoraPair, concat_pairs, init_lora, lora_delta
from tests.nn.reference import make_config


def draw_pair(rank: int, seed: int, scale: float) -> LoraPair:
    rng = np.random.default_rng(seed)
    return LoraPair(rng.standard_normal((rank, 5)), rng.standard_normal((7, rank)), scale)


def test_the_delta_is_scale_b_a_in_the_dtype_given() -> None:
    pair = draw_pair(3, 0, 2.0)
    np.testing.assert_allclose(lora_delta(pair), 2.0 * pair.b @ pair.a)
    small = LoraPair(pair.a.astype(np.float32), pair.b.astype(np.float32), 2.0)
    assert lora_delta(small).dtype == np.float32
    assert pair.rank == 3
    assert pair.shape == (7, 5)


def test_a_concatenation_has_the_weighted_sum_of_the_deltas() -> None:
    pairs = [draw_pair(3, 0, 2.0), draw_pair(2, 1, 0.5)]
    joint = concat_pairs(pairs, [0.25, 1.5])
    assert joint.rank == 5
    expected = 0.25 * lora_delta(pairs[0]) + 1.5 * lora_delta(pairs[1])
    np.testing.assert_allclose(lora_delta(joint), expected)


def test_concatenating_nothing_or_with_missing_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="no LoRA pair"):
        concat_pairs([], [])
    with pytest.raises(ValueError, match="zip"):
        concat_pairs([draw_pair(3, 0, 1.0)], [])


def test_factors_without_a_common_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="share no rank"):
        LoraPair(np.zeros((3, 5)), np.zeros((7, 4)), 1.0)


def test_fresh_pairs_have_peft_bounds_and_no_delta() -> None:
    config = make_config()
    lora = init_lora(config, ["q_proj", "down_proj"], 4, 8.0, np.random.default_rng(0))
    assert len(lora) == 2 * config.num_layers
    for module, pair in lora.items():
        assert pair.shape == config.linear_shapes()[module]
        assert pair.a.dtype == pair.b.dtype == np.float32
        bound = pair.a.shape[1] ** -0.5
        assert 0.8 * bound < np.abs(pair.a).max() <= bound
        assert not pair.b.any()
        assert pair.scale == 2.0


def test_the_same_seed_draws_the_same_pairs() -> None:
    drawn = [
        init_lora(make_config(), ["v_proj"], 4, 8.0, np.random.default_rng(3)) for _ in range(2)
    ]
    for module, pair in drawn[0].items():
        np.testing.assert_array_equal(pair.a, drawn[1][module].a)


def test_unknown_modules_are_named() -> None:
    with pytest.raises(ValueError, match="x_proj"):
        init_lora(make_config(), ["q_proj", "x_proj"], 4, 8.0, np.random.default_rng(0))
