from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.evaluate.metric import Metric
from m2m.evaluate.metrics import ASKED_FOR, AUTO, METRICS, check_metric, measure_all, metrics_for
from m2m.evaluate.scores import Scores
from m2m.recipe.data_fields import METRICS as RECIPE_METRICS

seeds = st.integers(0, 10_000)
every = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)


def drawn(seed: int, n: int = 14, kind: str = "choices", ragged: bool = True) -> Scores:
    """Scores of a middling model; some examples have three choices."""
    rng = np.random.default_rng(seed)
    k = 1 if kind == "text" else 4
    ragged = ragged and kind != "labels"
    gold = rng.integers(0, min(k, 3), n)
    tokens = rng.integers(1, 6, (n, k)).astype(float)
    size = np.ceil(tokens * rng.uniform(2, 5, (n, k)))
    loglik = -tokens * rng.uniform(0.5, 4, (n, k))
    loglik[np.arange(n), gold] += 0.5 * size[np.arange(n), gold] * rng.uniform(0, 2, n)
    loglik = np.minimum(loglik, -1e-3)
    if ragged and k > 1:
        for array in (loglik, size, tokens):
            array[::3, 3] = np.nan
    if kind != "answer":
        return Scores(kind, loglik, size, tokens, gold)
    letters = np.array(list("ab c "))
    written = ["".join(rng.choice(letters, 20)) for _ in range(3 * n)]
    said = [w if rng.random() < 0.4 else v for w, v in zip(written[:n], written[n:], strict=False)]
    references = tuple(zip(written[:n], written[2 * n :], strict=True))
    return Scores(
        *(kind, loglik, size, tokens, gold), predictions=tuple(said), references=references
    )


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
        repeated = scores.take(rows)
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


informed = pytest.mark.parametrize(
    ("bits", "kind"),
    [
        (METRICS["choice_bits"], "choices"),
        (METRICS["choice_bits"], "labels"),
        (METRICS["contrast_bits"], "answer"),
    ],
    ids=["choices", "labels", "contrast"],
)


@informed
@settings(max_examples=40, deadline=None)
@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_information_does_not_depend_on_the_scale(
    bits: Metric, kind: str, seed: int, factor: float
) -> None:
    scores = drawn(seed, kind=kind)
    scaled = replace(scores, loglik=scores.loglik * factor)
    assert bits.value(scaled, None)[0] == pytest.approx(bits.value(scores, None)[0], abs=1e-7)


@informed
@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_information_is_never_negative_and_at_most_log2_k(
    bits: Metric, kind: str, seed: int
) -> None:
    scores = drawn(seed, kind=kind)
    draws = np.random.default_rng(seed).multinomial(14, np.full(14, 1 / 14), size=20)
    values = bits.value(scores, draws.astype(float))
    assert (values >= 0).all()
    assert (values <= draws @ np.log2(scores.choices) / 14 + 1e-12).all()


@informed
@settings(max_examples=40, deadline=None)
@given(seed=seeds, choices=st.integers(2, 6), rate=st.floats(0.05, 5.0))
def test_information_of_no_knowledge_is_zero_and_of_perfect_knowledge_log2_k(
    bits: Metric, kind: str, seed: int, choices: int, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 30, (40, choices)).astype(float)
    gold = rng.integers(0, choices, 40)
    right = np.arange(choices) == gold[:, None]

    def value(nats_per_byte: np.ndarray) -> float:
        scores = Scores(kind, -size * nats_per_byte, size, size, gold)
        return float(bits.value(scores, None)[0])

    assert value(np.full((40, choices), rate)) == pytest.approx(0.0, abs=1e-9)
    assert value(np.where(right, rate, 1.1 * rate)) == pytest.approx(np.log2(choices), abs=1e-6)
    assert value(np.where(right, 1.1 * rate, rate)) == pytest.approx(0.0, abs=1e-9)
    # Liking some places more, where the right choice is in each equally often, is no knowledge.
    placed = np.broadcast_to(rng.uniform(0.5, 1.5, choices), (choices, choices))
    each = Scores(kind, -placed, np.ones_like(placed), np.ones_like(placed), np.arange(choices))
    assert bits.value(each, None)[0] == pytest.approx(0.0, abs=1e-9)


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
    value = METRICS["choice_bits"].value(scores, None)[0]
    assert value == pytest.approx(2.0 - min(entropies), abs=1e-6)


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
    scores = drawn(1, kind=kind)
    assert list(measure_all(scores)) == [n for n in names if n not in ASKED_FOR]
    assert set(measure_all(scores, also="ter")) - set(measure_all(scores)) == (
        {"ter"} if kind == "answer" else set()
    )
    silent = replace(scores, predictions=(), references=())
    assert not any(METRICS[n].written for n in measure_all(silent))


def test_a_recipe_knows_every_metric() -> None:
    assert set(RECIPE_METRICS) == {"auto", *METRICS}


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match=r'dev.jsonl: metric "accuracy".*"text"') as caught:
        check_metric("accuracy", "text", "dev.jsonl")
    assert "bits_per_byte" in (caught.value.hint or "")
    assert check_metric("exact_match", "answer", "dev.jsonl").name == "answer_match"
    assert check_metric("exact_match", "answer", "t.yaml", task_file=True).name == "exact_match"
    with pytest.raises(InputError, match="choice_bit"):
        check_metric("choice_bit", "choices", "dev.jsonl")


@given(seed=seeds)
def test_scores_survive_json_to_the_last_digit(seed: int) -> None:
    scores = replace(
        drawn(seed, kind="answer"),
        decoded_tokens=7,
        separate_tokens=9,
        facets=("a", None, *["b"] * 12),
    )
    back = Scores.from_json(json.loads(json.dumps(scores.to_json())))
    for name in ("loglik", "bytes", "tokens", "gold"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scores, name))
    assert (back.kind, back.facets) == (scores.kind, scores.facets)
    assert (back.predictions, back.references) == (scores.predictions, scores.references)
    assert (back.decoded_tokens, back.separate_tokens) == (7, 9)


def test_facets_are_scores_of_their_own() -> None:
    scores = replace(drawn(2, n=4), facets=("a", "b", "a", None))
    parts = scores.by_facet()
    assert list(parts) == ["a", "b"]
    np.testing.assert_array_equal(parts["a"].loglik, scores.loglik[[0, 2]])
    assert parts["b"].gold.tolist() == [scores.gold[1]]
    assert drawn(2).by_facet() == {}


def test_scores_of_an_older_journal_load() -> None:
    line = drawn(3).to_json()
    assert not {"predictions", "references"} & line.keys()
    assert Scores.from_json(line).predictions == ()


def test_macro_f1_is_the_mean_of_the_labels_that_occur() -> None:
    # gold a a a b, said a a b b, and a label c that never occurs
    loglik = np.array([[-1, -2, -9], [-1, -2, -9], [-2, -1, -9], [-5, -1, -9]], float)
    size = np.ones_like(loglik)
    scores = Scores("labels", loglik, size, size, np.array([0, 0, 0, 1]))
    metric = METRICS["macro_f1"]
    assert metric.value(scores, None)[0] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    tied = replace(scores, loglik=np.where(loglik > -9, -1.0, -9.0))
    assert metric.value(tied, None)[0] == pytest.approx((2 * 1.5 / 5 + 2 * 0.5 / 3) / 2)
    # Guessing evenly gets less than saying a all the time: 2 * 3 / 7 for a, 0 for b.
    assert metric.value(replace(scores, loglik=np.zeros((4, 3))), None)[0] < 3 / 7
    constant = replace(scores, loglik=np.tile([-1.0, -2.0, -9.0], (4, 1)))
    assert metric.value(constant, None)[0] == pytest.approx(3 / 7)
    assert metric.chance(scores) == pytest.approx(3 / 7)


@pytest.mark.parametrize("metric", ["accuracy", "accuracy_norm", "choice_bits", "macro_f1"])
@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.5, 0.5), (0.6, 0.3, 0.1), (0.4, 0.3, 0.3)])
def test_one_answer_to_every_question_is_guessing(metric: str, shares: tuple[float, ...]) -> None:
    """No model that does not look at the question is better than guessing."""
    gold = np.repeat(np.arange(len(shares)), (np.array(shares) * 400).round().astype(int))
    rng = np.random.default_rng(0)
    size = np.ones((len(gold), len(shares)))
    level = METRICS[metric].chance(Scores("labels", size, size, size, gold))
    assert level is not None
    tries = [np.log(shares), *(5 * np.eye(len(shares))), *np.zeros((1, len(shares)))]
    tries += [*rng.normal(0, 3, (200, len(shares)))]
    drawn_from = (np.tile(row, (len(gold), 1)) for row in tries)
    found = [
        METRICS[metric].value(Scores("labels", r, size, size, gold), None)[0] for r in drawn_from
    ]
    assert max(found) == pytest.approx(level, abs=0.004)


def test_a_written_answer_that_many_questions_have_is_guessing() -> None:
    size = np.ones((10, 1))
    right = (*[("Yes.", "yes")] * 6, *[("no",)] * 4)
    scores = Scores("answer", size, size, size, np.zeros(10, np.int64), references=right)
    assert METRICS["exact_match"].chance(scores) == pytest.approx(5 / 9)
    other = replace(scores, references=tuple((f"answer {i}",) for i in range(10)))
    assert METRICS["answer_match"].chance(other) == 0.0


def test_calibration_error_is_confidence_against_hits_bin_by_bin() -> None:
    share = np.array([0.95, 0.92, 0.65, 0.61])
    loglik = np.log(np.stack([share, 1 - share], axis=1)) - 7  # a common factor changes nothing
    size = np.ones_like(loglik)
    scores = Scores("choices", loglik, size, size, np.array([0, 1, 0, 0]))
    high, low = abs(0.95 + 0.92 - 1), abs(0.65 + 0.61 - 2)
    metric = METRICS["ece"]
    assert metric.value(scores, None)[0] == pytest.approx((high + low) / 4)
    assert metric.per_example(scores).mean() == pytest.approx((high + low) / 4)
    sure = replace(scores, loglik=np.array([[0.0, -800.0]] * 4), gold=np.zeros(4, int))
    assert metric.value(sure, None)[0] == 0.0


def test_parts_of_some_scores_join_to_the_whole() -> None:
    """Parts of different widths, one of them without names for its facets."""
    scores = replace(drawn(4), facets=tuple("ab"[i % 2] for i in range(14)))
    plain = scores.take([5, 0, 9])
    narrow = replace(
        plain,
        facets=(),
        **{name: getattr(plain, name)[:, :3] for name in ("loglik", "bytes", "tokens")},
    )
    joined = Scores.join([scores.take([1, 2]), narrow])
    assert len(joined) == 5
    assert joined.facets == ("b", "a", None, None, None)
    np.testing.assert_array_equal(joined.gold, scores.gold[[1, 2, 5, 0, 9]])
    np.testing.assert_array_equal(joined.loglik[2:, :3], scores.loglik[[5, 0, 9], :3])
    assert np.isnan(joined.loglik[2:, 3]).all()
    both = Scores.join([scores.take(range(6)), scores.take(range(6, 14))])
    np.testing.assert_array_equal(both.loglik, scores.loglik)
