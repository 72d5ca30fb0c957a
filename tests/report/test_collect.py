"""Which data to collect next: only from measurements, and it says if nothing can be said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from m2m.errors import NOISY, OTHER, UNSURE, WORTHLESS, WarningText
from m2m.mix.ranking import Interval
from m2m.mix.warnings import control_warnings
from m2m.pipeline.leaks import Leak
from m2m.report.page import page
from m2m.report.words import collecting, four_questions, warnings
from m2m.results.facts import Facts
from m2m.results.ranking import Ranking
from m2m.results.training import Curve
from tests.report import samples


def with_expert(passes: float | None, kept: int = 20, verdict: str = "helpful") -> Facts:
    facts = replace(samples.facts(), more_rows=None)
    ranking = facts.ranking
    assert ranking is not None
    ranking = replace(
        ranking,
        worth={"aa": Interval(0.07, 0.03, 0.12), "bb": Interval(0.0, -0.02, 0.02)},
        verdicts={"aa": verdict, "bb": "neutral"},
    )
    curve = Curve("aa", (2.0,) * 20, ((10, 0.5), (20, 0.9)), kept, 500, passes)
    return replace(facts, ranking=ranking, curves=(curve,))


@pytest.mark.parametrize(
    ("passes", "kept", "words"),
    [
        (0.4, 20, "training saw only 40% of its 100 rows: take more steps"),
        (12.0, 10, "lowest after 10 of 20 steps, so its 100 rows are used up: collect more"),
        (12.0, 20, "saw each of its 100 rows 12 times: collect more like these first"),
        (1.5, 20, "1.5 times, so more steps may help as much as more rows"),
        (None, 20, "is not known"),
    ],
)
def test_a_helpful_dataset_needs_rows_or_steps(passes: float | None, kept: int, words: str) -> None:
    said = collecting(with_expert(passes, kept))
    assert said[0].startswith("aa helps (worth +0.070, 95 % range 0.030 to 0.120)")
    assert words in said[0]
    assert "hundred more rows would bring was not measured" in said[1]
    assert not any("bb" in sentence for sentence in said[:2])
    next_steps = dict(four_questions(with_expert(passes, kept)))["What next?"]
    assert said[0] in next_steps


def test_a_measured_gain_takes_the_place_of_a_guess_from_passes() -> None:
    gains = samples.more_rows(("aa",))
    said = collecting(replace(with_expert(12.0), more_rows=gains))
    assert said[:2] == [*gains.sentences]
    assert "collect more like these" not in " ".join(said)


def test_without_a_helpful_dataset_nothing_is_said_of_rows() -> None:
    said = collecting(with_expert(5.0, verdict="neutral"))
    assert said[0].startswith("Which rows to collect cannot be said")
    assert collecting(replace(samples.facts(), ranking=None, more_rows=None)) == []


def test_the_questions_that_separate_the_best_two_follow_the_root_of_n() -> None:
    facts = with_expert(5.0)
    assert facts.ranking is not None
    first, second, *rest = facts.ranking.places
    # 0.05 behind with a standard error of 0.05 on 100 questions: 2.8 standard errors (80 % power
    # at 5 %) need 2.8 ** 2 times as many.
    span = Interval(0.05, 0.05 - 1.959964 * 0.05, 0.05 + 1.959964 * 0.05)
    places = [first, replace(second, behind=span, tied_with_best=True), *rest]
    ranking = replace(facts.ranking, places=places, different=100)
    (sentence,) = [s for s in collecting(replace(facts, ranking=ranking)) if "separate" in s]
    assert "About 790 different dev questions would separate" in sentence
    places[1] = replace(places[1], behind=Interval(0.0, -0.1, 0.1))
    alike = replace(facts, ranking=replace(ranking, places=places))
    assert "too much alike" in collecting(alike)[-1]


def test_the_gravest_warning_stands_first() -> None:
    text = [
        WarningText("Rounding to q8_0 lost part of what was learned.", NOISY),
        "Labels of aa differ only in case from others.",
        WarningText("ranking.json was made before recipe.json changed", UNSURE),
        Leak("aa", 1, (3,)).warning,
        WarningText("20 questions are too few.", NOISY),
    ]
    facts = replace(samples.facts(), warnings=text, remarks=["bb: its licence forbids selling"])
    assert [warning[:9] for warning in warnings(facts)] == [
        "1 row of ", "ranking.j", "Rounding ", "20 questi", "Labels of", "bb: its l",
    ]  # fmt: skip


def test_a_ranking_keeps_the_gravity_of_its_warnings() -> None:
    ranking = samples.ranking(("aa", "bb", "cc"))
    said = ["a pair", *control_warnings(ranking.places, {"aa", "bb", "cc"})]
    ranking = replace(ranking, warnings=said)
    written = json.loads(json.dumps(ranking.as_json()))
    assert written["warnings"] == said
    assert written["gravity"] == [OTHER, WORTHLESS]
    read = Ranking.from_json(written)
    facts = replace(samples.facts(), ranking=read, warnings=read.warnings, remarks=[])
    assert warnings(facts) == said[::-1]
    older = {key: value for key, value in written.items() if key != "gravity"}
    assert [WarningText(text).gravity for text in Ranking.from_json(older).warnings] == [OTHER] * 2


def test_the_head_has_title_project_author_and_date() -> None:
    facts = samples.facts()
    plain = page(replace(facts, day="2026-11-30"))
    assert "Which datasets? text" in plain
    assert "2026-11-30" in plain
    report = {"title": "Hausa <1>", "project": "Lab", "author": "A. B.", "date": "May 2026"}
    named = page(replace(facts, settings={**facts.settings, "report": report}, day="2026-11-30"))
    assert "<h1>Hausa &lt;1&gt;</h1>" in named
    assert "<title>Hausa &lt;1&gt;</title>" in named
    assert "Lab · A. B. · May 2026 · " in named
    assert "2026-11-30" not in named
