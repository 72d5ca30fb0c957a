"""What every merge method keeps, and what each of them computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from m2m.checkpoint import BaseModel
from m2m.errors import InputError
from m2m.merge.merger import Merger
from m2m.merge.methods import find_method
from m2m.nn.lora import LoraPair, lora_delta
from m2m.recipe import MERGE_METHODS, Merge
from tests.merge.conftest import adapter, dense

MODULE = "model.layers.1.mlp.down_proj"
SEEDED = {"dare_linear", "dare_ties", "della"}
WHOLE = {"linear", "task_arithmetic", "slerp"}  # with these, density drops nothing


def experts(count: int, base: BaseModel) -> dict[str, tuple[LoraPair, float]]:
    """Pairs by name, with weights that sum to 1."""
    shares = {1: [1.0], 2: [0.6, 0.4], 3: [0.5, 0.3, 0.2]}[count]
    return {
        f"e{seed}": (adapter(base, seed).pairs[MODULE], share) for seed, share in enumerate(shares)
    }


def merged(method: str, found: dict[str, tuple[LoraPair, float]], **options: float) -> np.ndarray:
    """A method alone, with a generator of seed 0."""
    pairs, weights = zip(*found.values(), strict=True)
    rng = np.random.default_rng(0)
    options = Merge(method, **options)  # type: ignore[assignment, arg-type]
    return dense(find_method(method)(pairs, weights, options, rng))  # type: ignore[arg-type]


@pytest.fixture
def count(name: str) -> int:
    """How many experts the method is tried on."""
    return 2 if name == "slerp" else 3


@pytest.mark.parametrize("name", MERGE_METHODS)
class TestEveryMethod:
    """What holds for any merge method."""

    def test_weights_zero_give_no_delta(self, base: BaseModel, name: str, count: int) -> None:
        found = {key: (pair, 0.0) for key, (pair, _) in experts(count, base).items()}
        assert not merged(name, found).any()

    def test_one_expert_at_weight_one_is_its_delta(self, base: BaseModel, name: str) -> None:
        alone = experts(1, base)
        delta = lora_delta(alone["e0"][0])
        np.testing.assert_allclose(merged(name, alone, density=1.0), delta, rtol=1e-6)
        kept = (merged(name, alone, density=0.3) != 0).mean()
        assert kept == 1 if name in WHOLE else 0.2 < kept < 0.4

    def test_a_factor_on_the_weights_is_a_factor_on_the_delta(
        self, base: BaseModel, name: str, count: int
    ) -> None:
        found = experts(count, base)
        twice = {key: (pair, 2 * weight) for key, (pair, weight) in found.items()}
        expected = 2 * merged(name, found)
        np.testing.assert_allclose(merged(name, twice), expected, atol=1e-6)

    def test_equal_experts_at_density_one_give_themselves(
        self, base: BaseModel, name: str, count: int
    ) -> None:
        pair = experts(1, base)["e0"][0]
        found = {key: (pair, weight) for key, (_, weight) in experts(count, base).items()}
        np.testing.assert_allclose(
            merged(name, found, density=1.0), lora_delta(pair), rtol=1e-5, atol=1e-7
        )

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_is_kept(
        self, base: BaseModel, name: str, count: int, dtype: type[np.floating]
    ) -> None:
        found = {
            key: (LoraPair(pair.a.astype(dtype), pair.b.astype(dtype), pair.scale), weight)
            for key, (pair, weight) in experts(count, base).items()
        }
        assert merged(name, found).dtype == dtype

    def test_the_seed_decides(self, base: BaseModel, name: str, count: int) -> None:
        adapters = {f"e{seed}": adapter(base, seed) for seed in range(count)}
        names, weights = list(adapters), [1 / count] * count

        def delta(seed: int, module: str = MODULE) -> np.ndarray:
            found = Merger(base, adapters, Merge(name, seed=seed)).delta(module, names, weights)
            assert found is not None
            return found

        assert delta(0).tobytes() == delta(0).tobytes()
        assert (delta(0).tobytes() == delta(1).tobytes()) == (name not in SEEDED)
        up, gate = (f"model.layers.0.mlp.{part}_proj" for part in ("up", "gate"))
        if name in SEEDED:  # each tensor draws for itself
            assert ((delta(0, up) != 0) != (delta(0, gate) != 0)).any()

    def test_no_order_changes_a_bit(self, base: BaseModel, name: str, count: int) -> None:
        adapters = {f"e{seed}": adapter(base, seed) for seed in range(count)}
        shares = dict(zip(adapters, (0.5, 0.3, 0.2), strict=False))
        there = Merger(base, adapters, Merge(name))
        back = Merger(base, dict(reversed(adapters.items())), Merge(name))
        whole = [*shares], [*shares.values()]
        for module in reversed(back.modules):
            names = list(reversed(shares))
            delta = back.delta(module, names, [shares[name] for name in names])
            expected = there.delta(module, *whole)
            assert delta is not None
            assert expected is not None
            assert expected.tobytes() == delta.tobytes()

    def test_an_expert_without_weight_changes_nothing(self, base: BaseModel, name: str) -> None:
        adapters = {"a": adapter(base, 1), "b": adapter(base, 2), "c": adapter(base, 3)}
        merger = Merger(base, adapters, Merge(name))
        np.testing.assert_array_equal(
            merger.delta(MODULE, ["a", "b", "c"], [0.5, 0.0, 0.5]),
            merger.delta(MODULE, ["a", "c"], [0.5, 0.5]),
        )

    def test_what_is_not_finite_is_refused(self, base: BaseModel, name: str, count: int) -> None:
        broken = adapter(base, 0)
        broken.pairs[MODULE].b[:] = np.inf
        adapters = {"broken": broken} | {f"e{s}": adapter(base, s) for s in range(1, count)}
        merger = Merger(base, adapters, Merge(name, density=1.0))
        with (
            np.errstate(all="ignore"),
            pytest.raises(InputError, match=r"layers\.1\.mlp\.down_proj is not finite .*broken"),
        ):
            merger.delta(MODULE, list(adapters), [1 / count] * count)

    def test_it_says_whose_it_is(self, name: str) -> None:
        said = find_method(name).__doc__
        assert said
        assert any(word in said for word in ("arXiv 2", "Shoemake 1985"))


def test_a_function_that_is_no_method_is_not_found() -> None:
    with pytest.raises(InputError, match="unknown merge method 'find_method'"):
        find_method("find_method")
    with pytest.raises(InputError, match="unknown merge method 'magic'"):
        find_method("magic")


@pytest.mark.parametrize("name", ["linear", "task_arithmetic"])
def test_linear_is_the_sum_of_the_products_in_float64(base: BaseModel, name: str) -> None:
    module = "model.layers.0.self_attn.q_proj"
    pairs = [adapter(base, s, rank).pairs[module] for s, rank in ((1, 4), (2, 8), (3, 2))]
    weights = [0.2, 0.5, 0.3]
    exact = sum(
        w * p.scale * p.b.astype(np.float64) @ p.a.astype(np.float64)
        for p, w in zip(pairs, weights, strict=True)
    )
    rng = np.random.default_rng(0)
    found = dense(find_method(name)(pairs, weights, Merge(), rng))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    there_and_back = find_method(name)([pairs[0], pairs[0]], [1.0, -1.0], Merge(), rng)
    np.testing.assert_allclose(dense(there_and_back), 0, atol=1e-7)


def diagonal(*values: float) -> LoraPair:
    """A pair whose delta is a row of these values."""
    return LoraPair(np.array([values], np.float32), np.ones((1, 1), np.float32), 1.0)


def by_hand(method: str, *rows: tuple[float, ...], **options: float) -> list[float]:
    """The merge of deltas of one row, equal weights that sum to 1."""
    found = {str(i): (diagonal(*row), 1 / len(rows)) for i, row in enumerate(rows)}
    return [float(value) for value in merged(method, found, **options)[0]]


def test_ties_by_hand() -> None:
    # Kept: 4 and -3; -5 and 2. Signs elected: -1/2, -3/2, 2/2.
    rows = (4.0, -3.0, 1.0), (-5.0, 0.5, 2.0)
    assert by_hand("ties", *rows, density=0.67) == pytest.approx([-5.0, -3.0, 2.0])


def test_breadcrumbs_drop_from_both_ends() -> None:
    row = (8.0, -1.0, 4.0, -2.0)
    assert by_hand("breadcrumbs", row, density=0.5, gamma=0.25) == [0.0, 0.0, 4.0, -2.0]
    assert by_hand("breadcrumbs", row, density=0.9, gamma=0.5) == [0.0, -1.0, 4.0, -2.0]
    assert by_hand("breadcrumbs", row, density=1.0, gamma=0.5) == list(row)
    assert by_hand("breadcrumbs", row, density=0.1) == [0.0] * 4


def test_slerp_by_hand() -> None:
    half = np.sqrt(0.5)
    assert by_hand("slerp", (1.0, 0.0), (0.0, 1.0)) == pytest.approx([half, half])
    assert by_hand("slerp", (1.0, 0.0), (2.0, 0.0)) == pytest.approx([1.5, 0.0])
    assert by_hand("slerp", (1.0, 0.0), (0.0, 0.0)) == pytest.approx([0.5, 0.0])
    with pytest.raises(InputError, match="two adapters, found 3"):
        by_hand("slerp", (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della"])
def test_what_is_dropped_at_random_keeps_its_expectation(base: BaseModel, name: str) -> None:
    pair = adapter(base, 1).pairs[MODULE]
    delta = lora_delta(pair)
    options, method = Merge(name, density=0.3), find_method(name)
    draws = [method([pair], [1.0], options, np.random.default_rng(s)) for s in range(400)]
    mean, kept = np.mean(draws, axis=0), np.mean([draw != 0 for draw in draws], axis=0)
    # The standard error of a mean of 400 draws: |d| * sqrt((1 / 0.3 - 1) / 400) = 0.08 |d|.
    assert np.abs(mean - delta).mean() < 0.08 * np.abs(delta).mean()
    assert kept.mean() == pytest.approx(0.3, abs=0.01)


def test_della_spares_large_values_of_each_row(base: BaseModel) -> None:
    pair = adapter(base, 1).pairs[MODULE]
    delta = lora_delta(pair)
    options = Merge("della", density=0.3, epsilon=0.4)
    draws = [
        find_method("della")([pair], [1.0], options, np.random.default_rng(s)) for s in range(400)
    ]
    kept = np.mean([draw != 0 for draw in draws], axis=0)
    ranked = np.take_along_axis(kept, np.argsort(np.abs(delta), axis=1), axis=1).mean(axis=0)
    width = delta.shape[1]
    expected = 0.3 + 0.4 * ((np.arange(width) + 0.5) / width - 0.5)
    np.testing.assert_allclose(ranked, expected, atol=0.02)


def test_scale_reaches_every_method(base: BaseModel) -> None:
    adapters = {"a": adapter(base, 1), "b": adapter(base, 2)}
    for name in MERGE_METHODS:
        options = Merge(name)
        half = Merger(base, adapters, replace(options, scale=0.5))
        one = Merger(base, adapters, options).delta(MODULE, ["a", "b"], [0.5, 0.5])
        assert one is not None
        np.testing.assert_allclose(
            half.delta(MODULE, ["a", "b"], [0.5, 0.5]), one / 2, atol=1e-6, err_msg=name
        )


def test_two_methods_are_two(base: BaseModel) -> None:
    found = experts(2, base)
    results = {name: merged(name, found) for name in MERGE_METHODS if name != "task_arithmetic"}
    for one, other in combinations(results, 2):
        assert np.abs(results[one] - results[other]).max() > 1e-3, (one, other)
