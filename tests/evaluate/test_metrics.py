from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.evaluate.metrics import (
    AUTO,
    METRICS,
    Metric,
    Scores,
    check_metric,
    measure_all,
    metrics_for,
)

seeds = st.integers(0, 10_000)
every = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)


def drawn(seed: int, n: int = 14, kind: str = "choices", ragged: bool = True) -> Scores:
    """Scores of a middling model; some examples have three choices."""
    rng = np.random.default_rng(seed)
    k = 1 if kind == "text" else 4
    gold = rng.integers(0, min(k, 3), n)
    tokens = rng.integers(1, 6, (n, k)).astype(float)
    size = np.ceil(tokens * rng.uniform(2, 5, (n, k)))
    loglik = -tokens * rng.uniform(0.5, 4, (n, k))
    loglik[np.arange(n), gold] += 0.5 * size[np.arange(n), gold] * rng.uniform(0, 2, n)
    loglik = np.minimum(loglik, -1e-3)
    if ragged and k > 1:
        for array in (loglik, size, tokens):
            array[::3, 3] = np.nan
    return Scores(kind, loglik, size, tokens, gold)


def scores_for(metric: Metric, seed: int) -> Scores:
    return drawn(seed, kind=metric.kinds[0])


@every
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_weights_are_repeated_rows(metric: Metric, seed: int) -> None:
    scores = scores_for(metric, seed)
    counts = np.random.default_rng(seed).multinomial(14, np.full(14, 1 / 14), size=3)
    weighted = metric.value(scores, counts.astype(float))
    for value, count in zip(weighted, counts, strict=True):
        rows = np.repeat(np.arange(14), count)
        repeated = Scores(
            scores.kind,
            scores.loglik[rows],
            scores.bytes[rows],
            scores.tokens[rows],
            scores.gold[rows],
        )
        assert metric.value(repeated, None)[0] == pytest.approx(value, abs=1e-7)


@every
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_mean_of_the_examples_is_the_value_where_it_says_so(metric: Metric, seed: int) -> None:
    scores = scores_for(metric, seed)
    each = metric.per_example(scores)
    assert each.shape == (14,)
    if metric.mean or metric.name in ("choice_bits", "contrast_bits"):
        assert metric.value(scores, None)[0] == pytest.approx(each.mean(), abs=1e-9)
    if metric.mean:
        assert metric.stderr(scores) == pytest.approx(each.std(ddof=1) / np.sqrt(14))


bits = METRICS["choice_bits"]


@settings(max_examples=40, deadline=None)
@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_choice_bits_does_not_depend_on_the_scale(seed: int, factor: float) -> None:
    scores = drawn(seed)
    scaled = replace(scores, loglik=scores.loglik * factor)
    assert bits.value(scaled, None)[0] == pytest.approx(bits.value(scores, None)[0], abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_choice_bits_is_never_negative_and_at_most_log2_k(seed: int) -> None:
    scores = drawn(seed)
    draws = np.random.default_rng(seed).multinomial(14, np.full(14, 1 / 14), size=20)
    values = bits.value(scores, draws.astype(float))
    assert (values >= 0).all()
    assert (values <= draws @ np.log2(scores.choices) / 14 + 1e-12).all()


def test_choice_bits_of_a_model_without_knowledge_and_of_a_perfect_one() -> None:
    scores = drawn(0, n=40, ragged=False)
    ignorant = replace(scores, loglik=-scores.bytes * 0.7)
    assert bits.value(ignorant, None)[0] == pytest.approx(0.0, abs=1e-12)
    right = np.arange(4) == scores.gold[:, None]
    perfect = replace(scores, loglik=-scores.bytes * np.where(right, 0.5, 0.6))
    assert bits.value(perfect, None)[0] == pytest.approx(2.0, abs=1e-6)
    misled = replace(scores, loglik=-scores.bytes * np.where(right, 0.6, 0.5))
    assert bits.value(misled, None)[0] == 0.0


def test_choice_bits_is_the_formula_at_the_best_temperature() -> None:
    scores = drawn(7, n=30, ragged=False)
    rate = scores.loglik / scores.bytes
    entropies = []
    for t in np.geomspace(1e-3, 1e3, 20001):
        logits = rate / t
        logits = logits - logits.max(axis=1, keepdims=True)
        share = np.exp(logits)
        share /= share.sum(axis=1, keepdims=True)
        entropies.append(-np.log2(share[np.arange(30), scores.gold] + 1e-300).mean())
    assert bits.value(scores, None)[0] == pytest.approx(2.0 - min(entropies), abs=1e-6)


def test_accuracy_counts_and_halves_ties() -> None:
    nan = np.nan
    scores = Scores(
        "choices",
        loglik=np.array([[-1.0, -2.0, nan], [-3.0, -2.0, -2.0], [-5.0, -1.0, -4.0]]),
        bytes=np.array([[1.0, 4.0, nan], [1.0, 1.0, 1.0], [5.0, 1.0, 1.0]]),
        tokens=np.array([[1.0, 1.0, nan], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
        gold=np.array([0, 1, 0]),
    )
    assert METRICS["accuracy"].per_example(scores).tolist() == [1.0, 0.5, 0.0]
    # per byte: -1 against -0.5; a tie; -1 against -1 (and -4): a tie
    assert METRICS["accuracy_norm"].per_example(scores).tolist() == [0.0, 0.5, 0.5]
    assert METRICS["accuracy"].chance(scores) == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 3)


def test_bits_per_byte_and_perplexity_are_ratios_of_sums() -> None:
    scores = Scores(
        "text",
        loglik=np.array([[-6.0], [-2.0]]),
        bytes=np.array([[4.0], [12.0]]),
        tokens=np.array([[2.0], [2.0]]),
        gold=np.array([0, 0]),
    )
    assert METRICS["bits_per_byte"].value(scores, None)[0] == pytest.approx(8 / 16 / np.log(2))
    assert METRICS["perplexity"].value(scores, None)[0] == pytest.approx(np.exp(2.0))
    assert not METRICS["perplexity"].higher_is_better


@every
def test_a_bootstrap_error_shrinks_with_the_examples_and_follows_its_seed(metric: Metric) -> None:
    few, many = (drawn(3, n=n, kind=metric.kinds[0]) for n in (40, 640))
    errors = [metric.stderr(s, np.random.default_rng(1)) for s in (few, many)]
    assert 0 < errors[1] < 0.6 * errors[0]
    assert metric.stderr(few, np.random.default_rng(1)) == errors[0]
    assert np.isnan(metric.stderr(drawn(0, n=1, kind=metric.kinds[0])))


@pytest.mark.parametrize("kind", AUTO)
def test_every_kind_has_a_default_that_leads_its_list(kind: str) -> None:
    names = [m.name for m in metrics_for(kind)]
    assert check_metric("auto", kind, "t.jsonl").name == names[0]
    assert list(measure_all(drawn(1, kind=kind))) == names


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match=r'dev.jsonl: metric "accuracy".*"text"') as caught:
        check_metric("accuracy", "text", "dev.jsonl")
    assert "bits_per_byte" in (caught.value.hint or "")
    with pytest.raises(InputError, match="choice_bit"):
        check_metric("choice_bit", "choices", "dev.jsonl")


@given(seed=seeds)
def test_scores_survive_json_to_the_last_digit(seed: int) -> None:
    scores = replace(
        drawn(seed), decoded_tokens=7, separate_tokens=9, facets=("a", None, *["b"] * 12)
    )
    back = Scores.from_json(json.loads(json.dumps(scores.to_json())))
    for name in ("loglik", "bytes", "tokens", "gold"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scores, name))
    assert (back.kind, back.facets) == (scores.kind, scores.facets)
    assert (back.decoded_tokens, back.separate_tokens) == (7, 9)


def test_facets_are_scores_of_their_own() -> None:
    scores = replace(drawn(2, n=4), facets=("a", "b", "a", None))
    parts = scores.by_facet()
    assert list(parts) == ["a", "b"]
    np.testing.assert_array_equal(parts["a"].loglik, scores.loglik[[0, 2]])
    assert parts["b"].gold.tolist() == [scores.gold[1]]
    assert drawn(2).by_facet() == {}
