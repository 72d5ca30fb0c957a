"""Kind: rows that say the same thing again are no new evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metric import Metric, resample
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.same import groups, in_words, question_keys
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import load_task
from m2m.formats.gguf import GGUFFile
from m2m.mix.estimate import Draws, estimate
from m2m.mix.example_order import ExampleOrder
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.ranking import ahead, rank
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.trial import Trial
from m2m.mix.warnings import mixture_warnings
from m2m.pipeline.inputs import make_formatter
from tests.evaluate.test_metrics import drawn
from tests.mix.planted import BITS, World
from tests.tiny import pico_gguf, write_jsonl

every = pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)


def copied(scores: Scores, times: int | list[int] = 8) -> Scores:
    """The questions again and again, known to be the same ones."""
    places = np.repeat(np.arange(len(scores)), times)
    return dataclasses.replace(scores.take(places.tolist()), same=tuple(places.tolist()))


@every
def test_copies_of_a_whole_set_leave_value_and_error_as_they_were(metric: Metric) -> None:
    scores = drawn(3, kind=metric.kinds[-1])
    again = copied(scores)
    assert (len(again), again.different) == (8 * len(scores), len(scores))
    # BLEU puts a value that depends on the number of words for counts of 0 (Chen and Cherry 2014).
    within = 2e-3 if metric.name.startswith("bleu") else 1e-6
    assert metric.value(again, None) == pytest.approx(metric.value(scores, None), rel=within)
    assert metric.stderr(again) == pytest.approx(metric.stderr(scores), rel=within)
    unaware = dataclasses.replace(again, same=())
    assert metric.stderr(unaware) < 0.5 * metric.stderr(scores)


def test_the_closed_form_is_what_resampling_whole_questions_gives() -> None:
    rng = np.random.default_rng(0)
    times = rng.integers(1, 6, 40)
    metric, scores = METRICS["accuracy"], copied(drawn(1, n=40), times.tolist())
    each = metric.per_example(scores)
    questions = [np.flatnonzero(scores.clusters == i) for i in range(40)]
    means = []
    for _ in range(4000):
        rows = np.concatenate([questions[i] for i in rng.integers(0, 40, 40)])
        means.append(each[rows].mean())
    assert metric.stderr(scores) == pytest.approx(np.std(means), rel=0.06)


def test_one_question_many_times_has_no_error() -> None:
    one = dataclasses.replace(drawn(0, n=6), same=(4,) * 6)
    assert all(np.isnan(METRICS[name].stderr(one)) for name in ("accuracy", "choice_bits"))


def test_a_tie_stays_a_tie() -> None:
    world = World({"a": 1.0, "b": 0.4}, examples=30)
    trials = [world.score(Mixture.uniform([name])) for name in "ab"]

    def best(wanted: list[Trial]) -> tuple[bool, int]:
        found = scoreboard(wanted, [BITS], seed=0)
        both = rank(found.mixtures, found.points, found.replicates)
        lead = ahead(found.points, found.replicates, found.best)
        return both[1].tied_with_best, max(each.sign for each in lead)

    again = [dataclasses.replace(t, scores={"t": copied(t.scores["t"])}) for t in trials]
    blind = [
        dataclasses.replace(t, scores={"t": dataclasses.replace(t.scores["t"], same=())})
        for t in again
    ]
    assert best(trials) == best(again) == (True, 0)
    assert best(blind) == (False, 1)
    assert [
        each
        for each in mixture_warnings(again, [BITS])
        if "240 questions, 30 of them different" in each
    ]


def test_a_race_spends_its_first_questions_on_different_ones_and_loses_nothing() -> None:
    world, base = World({"a": 1.0, "b": 0.5}, examples=12), Mixture.uniform(["a"])
    times = [1, 9, 2, 5, 1, 1, 3, 1, 4, 1, 1, 7]
    whole = dataclasses.replace(
        world.score(base), scores={"t": copied(world.score(base).scores["t"], times)}
    )
    order = ExampleOrder.stratified(whole, [BITS], seed=0)
    first = order.first(12)["t"]
    assert len({whole.scores["t"].same[place] for place in first}) == 12
    clusters = whole.scores["t"].clusters
    draws = Draws(clusters, resample(clusters, np.random.default_rng(0), 50))
    found = estimate([whole, whole.take({"t": first})], "t", BITS.metric, draws, None)
    assert found.points[1] == pytest.approx(found.points[0])
    part = estimate([whole.take({"t": first})], "t", BITS.metric, draws, None, of_these=True)
    assert np.ptp(part.replicates) == 0


def test_races_on_copies_choose_as_on_the_questions_themselves() -> None:
    world = World({"a": 1.5, "b": 0.5, "c": 0.1}, examples=40)
    trials = [world.score(mix) for mix in (BASE, *subsets(tuple(world.effects)))]
    again = [dataclasses.replace(t, scores={"t": copied(t.scores["t"], 3)}) for t in trials]
    one, many = (scoreboard(each, [BITS], seed=0) for each in (trials, again))
    np.testing.assert_allclose(one.points, many.points, atol=1e-7)
    np.testing.assert_allclose(one.replicates, many.replicates, atol=1e-7)


ROWS = [
    {"question": "Ni nini?", "choices": ["paka", "mbwa"], "answer": 0},
    {"question": "ni  NINI", "choices": ["mbwa", "Paka!"], "answer": 1},
    {"question": "Ni nini?", "choices": ["paka", "mbwa"], "answer": 1},
    {"question": "What is 3.5?", "choices": ["a", "b"], "answer": 0},
    {"question": "What is 35?", "choices": ["a", "b"], "answer": 0},
    {"question": "🙂", "choices": ["a", "b"], "answer": 0},
    {"question": "?!", "choices": ["a", "b"], "answer": 0},
    {"question": "?", "choices": ["a", "b"], "answer": 0},
]


def test_equal_means_question_and_right_answer_in_one_normal_form(tmp_path: Path) -> None:
    task = load_task(write_jsonl(tmp_path / "t.jsonl", ROWS))
    assert groups(question_keys(task)) == (0, 0, 2, 3, 4, 5, 6, 7)
    formatter = make_formatter(GGUFFile(pico_gguf(tmp_path / "p.gguf")), "chat")
    one = Evaluator(task, formatter)
    two = Evaluator(dataclasses.replace(task, examples=task.examples[1:]), formatter)
    assert one._same == (0, 0, 2, 3, 4, 5, 6, 7)
    assert two._same == ()
    assert in_words(8, 7) == "8 questions, 7 of them different"
    assert in_words(7, 7) == "7 questions"
    assert in_words(1, 1, "test questions") == "1 test question"


def test_the_journal_keeps_which_are_the_same() -> None:
    scores = copied(drawn(0, n=5), 2)
    again = Scores.from_json(scores.to_json())
    assert again.same == scores.same
    assert Scores.join([scores.take([0, 3]), scores.take([1])]).same == (0, 1, 0)
    assert "same" not in drawn(0).to_json()
    assert Objective("t", METRICS["accuracy"]).metric.stderr(again) > 0
