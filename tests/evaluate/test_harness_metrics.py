"""Metrics of lm-evaluation-harness, against the values that lm-eval 0.4.13 itself recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.evaluate.edit_rate import edit_counts, edit_rate
from m2m.evaluate.harness_metrics import theirs
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "metrics.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))


def chosen(case: dict[str, Any]) -> Scores:
    texts = [row["choices"] for row in case["rows"]]
    size = padded([[len(text.encode()) for text in row] for row in texts])
    return Scores(
        "choices",
        padded([[nats for nats, _ in result] for result in case["results"]]),
        size,
        size,
        np.array([row["gold"] for row in case["rows"]]),
        chars=padded([[len(text) for text in row] for row in texts]),
        likeliest=np.array([[greedy for _, greedy in result] for result in case["results"]]),
    )


@pytest.mark.parametrize("case", CASES["choices"], ids=lambda case: f"{case['rows'][0]!s:.40}")
def test_choices(case: dict[str, Any]) -> None:
    scores = chosen(case)
    count = scores.loglik.shape[1]
    for name, value in case["metrics"].items():
        short, _, aggregation = name.removesuffix("_stderr").partition(" ")
        metric = theirs("multiple_choice", short, aggregation, [], count)
        assert metric is not None, name
        measured = metric.measure(scores)
        found = measured.stderr if name.endswith("_stderr") else measured.value
        assert found == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("case", CASES["written"], ids=lambda case: str(len(case["predictions"])))
def test_written_texts(case: dict[str, Any]) -> None:
    nothing = np.ones((len(case["predictions"]), 1))
    scores = Scores(
        *("answer", -nothing, nothing, nothing, np.zeros(len(nothing), int)),
        predictions=tuple(case["predictions"]),
        references=tuple(map(tuple, case["references"])),
    )
    for name, value in case["metrics"].items():
        assert METRICS[name].value(scores, None)[0] == pytest.approx(value, abs=1e-9), name
        assert METRICS[name].higher_is_better == (name != "ter")


@pytest.mark.parametrize("case", CASES["f1"], ids=lambda case: case["name"])
def test_f1_by_a_function_of_the_harness(case: dict[str, Any]) -> None:
    nothing = np.ones((len(case["predictions"]), 1))
    scores = Scores(
        *("answer", -nothing, nothing, nothing, np.zeros(len(nothing), int)),
        predictions=tuple(case["predictions"]),
        references=tuple((text,) for text in case["references"]),
    )
    metric = theirs("generate_until", "f1", case["name"], [], 1)
    assert metric is not None
    assert metric.value(scores, None)[0] == pytest.approx(case["value"], abs=1e-12)
    assert 0 < metric.measure(scores).stderr < 0.5
    assert metric.written and metric.higher_is_better


@pytest.mark.parametrize("case", CASES["texts"], ids=lambda case: case["kind"])
def test_one_text_a_row(case: dict[str, Any]) -> None:
    size = padded([[len(text.encode())] for text in case["texts"]])
    nats = np.array(case["nats"])[:, None]
    scores = Scores(
        *("answer", nats, size, size, np.zeros(len(nats), int)),
        likeliest=np.array(case["greedy"])[:, None],
    )
    for name, value in case["metrics"].items():
        metric = theirs(case["kind"], name.removesuffix("_stderr"), "", case["texts"], 1)
        assert metric is not None
        measured = metric.measure(scores)
        found = measured.stderr if name.endswith("_stderr") else measured.value
        assert found == pytest.approx(value, abs=1e-12), name


def test_a_metric_that_m2m_does_not_have_is_none() -> None:
    assert theirs("multiple_choice", "f1", "", [], 4) is None  # scikit-learn refuses it, too
    assert theirs("multiple_choice", "f1", "own_score", [], 2) is None
    assert theirs("multiple_choice", "acc", "median", [], 2) is None
    assert theirs("generate_until", "rougeL", "", [], 1) is None
    assert theirs("generate_until", "acc", "", [], 1) is None
    assert theirs("generate_until", "f1", "", [], 1) is None


def test_edit_rate_of_nothing() -> None:
    assert float(edit_rate(edit_counts("", [""]))) == 0.0
    assert float(edit_rate(edit_counts("a b", [""]))) == 100.0
    assert float(edit_rate(edit_counts("", ["a b"]))) == 100.0
    assert float(edit_rate(edit_counts("c d a b", ["a b c d"]))) == 25.0  # one move
