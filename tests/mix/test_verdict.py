from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores, padded
from m2m.mix.evidence import Evidence, JudgedRival, weigh
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Trial
from m2m.mix.verdict import LEAST, Verdict, judge

UP, LEVEL, DOWN = Interval(0.4, 0.3, 0.5), Interval(0.1, -0.1, 0.3), Interval(-0.4, -0.5, -0.3)
SAME = Interval(0.0, 0.0, 0.0)
LOWER = Interval(-0.131, -0.418, 0.072)


def judged(
    name: str, base: Interval = UP, chance: Interval | None = UP, behind: Interval = SAME
) -> JudgedRival:
    over = {} if chance is None else {"swahili": chance}
    return JudgedRival(name, {"swahili": 0.5}, {"swahili": 30.0}, base, over, behind)


def evidence(
    winner: JudgedRival, *others: JudgedRival, base: Interval | None = LEVEL, **changes: Any
) -> Evidence:
    found = Evidence(
        part="test",
        metrics={"swahili": "choice_bits"},
        questions=60,
        different=60,
        base=dataclasses.replace(judged("the base model", SAME, base), right={"swahili": 12.0}),
        winner=winner,
        others=others,
    )
    return dataclasses.replace(found, **changes)


X = judged("x")
RIVAL = judged("y", behind=LEVEL)
CASES: list[tuple[str, Evidence]] = [
    ("clear", evidence(X)),
    ("clear", evidence(X, judged("y", behind=UP))),
    ("clear", evidence(X, judged("y", LEVEL, behind=LEVEL))),  # no tie: y does not beat the base
    ("clear", evidence(judged("x", chance=None), base=None)),
    ("tie inside", evidence(X, RIVAL)),
    ("tie inside", evidence(X, judged("y", behind=DOWN))),  # y is better on test
    ("tie inside", evidence(X, judged("y", behind=SAME))),  # no number of questions would tell
    ("tie inside", evidence(X, RIVAL, judged("z", behind=SAME), judged("v", behind=UP))),
    ("unclear", evidence(judged("x", LEVEL))),
    ("unclear", evidence(judged("x", LEVEL), judged("y", UP, behind=LEVEL))),
    ("unclear", evidence(judged("x", UP, LEVEL), base=UP)),
    ("unclear", evidence(judged("x", UP, LEVEL), judged("y"))),  # another is above chance
    ("unclear", evidence(X, different=LEAST - 1)),
    ("unclear", evidence(judged("x", DOWN, DOWN), different=4, questions=40)),
    ("unverified", evidence(X, part="dev")),
    ("unverified", evidence(judged("x", LEVEL), part="dev")),
    ("unverified", evidence(X, part="dev", different=4)),
    ("nothing learned", evidence(judged("x", UP, LEVEL))),  # the base is worse than guessing
    ("nothing learned", evidence(judged("x", LEVEL, LEVEL), judged("y", LEVEL, DOWN))),
    ("nothing learned", evidence(judged("x", LEVEL, LEVEL), part="dev")),
    ("nothing learned", evidence(judged("x", SAME, chance=None), base=None)),
    ("nothing learned", evidence(judged("x", SAME), base=UP)),
    ("keep the base", evidence(judged("x", LOWER), base=UP)),
    ("keep the base", evidence(judged("x", DOWN), base=UP)),
    ("keep the base", evidence(judged("x", DOWN, LEVEL), base=UP)),
    ("keep the base", evidence(judged("x", DOWN), part="dev", base=UP)),
    ("keep the base", evidence(judged("x", DOWN, chance=None), base=None)),
    ("suspect", evidence(X, leaks={"pc": 1})),
    ("suspect", evidence(judged("x", DOWN), leaks={"pc": 5}, part="dev")),
    ("suspect", evidence(X, RIVAL, shared={"swahili": (4, 60)})),
    ("clear", evidence(X, shared={"swahili": (3, 60)})),  # a twentieth
    ("clear", evidence(X, leaks={}, shared={})),
]


@pytest.mark.parametrize(("kind", "found"), CASES)
def test_each_kind_is_told_from_the_others(kind: str, found: Evidence) -> None:
    verdict = judge(found)
    assert verdict.kind == kind
    assert verdict.withheld == (kind in ("nothing learned", "keep the base", "suspect"))
    assert verdict.sentence.startswith(
        {
            "clear": "Fine-tune on x. On 60 test questions",
            "tie inside": "Fine-tune on x or on ",
            "unclear": "No clear result yet. Best tried: x.",
            "unverified": "Not verified. Best on the dev questions: x.",
            "nothing learned": "Nothing was learned. ",
            "keep the base": "Keep the base model. Best tried: x.",
            "suspect": "Do not trust this result. Best tried: x.",
        }[kind].replace("on y", "")
        if kind != "tie inside" or len(found.others) < 3
        else "Fine-tune on x, on y or on z. All are better"
    )
    assert Verdict.from_json(json.loads(json.dumps(verdict.as_json(), allow_nan=False))) == verdict
    if kind not in ("clear",):
        assert verdict.advice
        assert verdict.lines[-1].startswith("Next: ")


def test_the_sentences_are_plain() -> None:
    clear = judge(evidence(X, judged("y", behind=UP)))
    assert clear.lines == [
        "Fine-tune on x. On 60 test questions x has 30 right (choice_bits 0.500); the base "
        "model 12 (0.500).",
        "x is clearly better than the base model (0.400 better; 95 % range +0.300 to +0.500).",
        "x is clearly better than y (0.400 better; 95 % range +0.300 to +0.500).",
    ]
    keep = judge(evidence(judged("x", LOWER), base=UP))
    assert keep.reasons == (
        "There is no clear difference to the base model (x is 0.131 worse; 95 % range -0.418 to "
        "+0.072).",
    )
    leak = judge(evidence(X, leaks={"pc": 1, "radio": 5}))
    assert leak.reasons == (
        "1 row of pc is also a dev or test question, so the model has seen the answer.",
        "5 rows of radio are also dev or test questions, so the model has seen the answers.",
    )
    assert "m2m data check" in leak.advice
    copies = judge(evidence(X, questions=480))
    assert "On 480 test questions, 60 of them different, x has 30 right" in copies.sentence
    few = judge(evidence(X, different=8, questions=64))
    assert few.reasons == (
        "64 test questions, 8 of them different, are too few to decide anything.",
    )
    assert few.needed == 100


def test_files_that_were_made_all_the_same_say_so_in_their_names() -> None:
    assert judge(evidence(judged("x", DOWN), base=UP)).tag == "KEEP-THE-BASE"
    assert judge(evidence(X, leaks={"pc": 1})).tag == "SUSPECT"
    assert judge(evidence(X)).tag == ""


def test_a_difference_that_never_shows_gets_no_number() -> None:
    tiny = judge(evidence(judged("x", Interval(1e-3, -0.2, 0.2))))
    assert tiny.needed is None
    assert "too small to matter" in tiny.advice


def test_what_prints_as_nothing_is_no_difference() -> None:
    """All questions agree that y is 0.0001 better: nobody would choose by that."""
    sure = Interval(0.0001, 0.0001, 0.0001)
    worse = Interval(-0.0001, -0.0001, -0.0001)
    tie = judge(evidence(X, judged("y", behind=sure), judged("z", behind=worse)))
    assert tie.kind == "tie inside"
    assert "clearly" not in tie.reasons[-1]
    assert judge(evidence(judged("x", sure), base=UP)).kind == "nothing learned"
    over_base = Interval(0.0001, -0.1, 0.1)
    assert judge(evidence(judged("x", over_base), base=UP)).kind == "keep the base"


def test_targets_without_test_questions_are_named() -> None:
    two = {"swahili": "choice_bits", "hausa": "accuracy"}
    models = [dataclasses.replace(m, scores=dict.fromkeys(two, 0.5)) for m in (X, judged("y"))]
    found = evidence(models[0], part="dev", metrics=two, untested=["hausa"])
    said = judge(dataclasses.replace(found, base=models[1]))
    assert said.kind == "unverified"
    assert said.reasons[0].startswith("You gave no test questions for hausa. ")


def test_a_fine_tune_that_saw_the_questions_is_no_rival() -> None:
    said = judge(evidence(X, leaked=["y", "all rows"]))
    assert said.kind == "clear"
    assert said.reasons[-1] == (
        "Not compared, because they were trained on dev or test questions: y, all rows."
    )


def trial(mixture: Mixture, targets: Mapping[str, Scores]) -> Trial:
    return Trial(mixture, targets, {}, 1, 0.0)


def answers(skill: float, seed: int, count: int = 80, common: int = 0) -> Scores:
    """Four choices a question; `skill` nats lift the right one."""
    gold = np.random.default_rng(common).integers(4, size=count)
    loglik = np.random.default_rng(seed).normal(-20, 1.0, (count, 4))
    loglik[np.arange(count), gold] += skill
    size = padded([[10.0] * 4] * count)
    return Scores("choices", loglik, size, size, gold)


def texts(bits: float, seed: int, count: int = 80) -> Scores:
    nats = -np.log(2) * 10 * (bits + np.random.default_rng(seed).normal(0, 0.1, (count, 1)))
    size = padded([[10.0]] * count)
    return Scores("text", nats, size, size, np.zeros(count, np.int64))


A, B = Mixture.uniform(["a"]), Mixture.uniform(["b"])


def found(
    base: Scores, one: Scores, other: Scores, metric: str = "choice_bits", part: str = "test"
) -> Verdict:
    key = f"{part}:t"
    trials = [trial(m, {key: s}) for m, s in ((BASE, base), (A, one), (B, other))]
    names = ["the base model", "a", "b"]
    return judge(weigh(trials, names, 1, [Objective(key, METRICS[metric])], seed=0))


@pytest.mark.parametrize("metric", ["choice_bits", "accuracy", "accuracy_norm"])
@pytest.mark.parametrize(
    ("kind", "skills"),
    [
        ("clear", (0.0, 3.0, 0.0)),
        ("tie inside", (0.0, 3.0, 3.0)),
        ("nothing learned", (0.0, 0.0, 0.0)),
        ("keep the base", (3.0, 1.0, 1.0)),
    ],
)
def test_real_scores_give_the_verdict_that_made_them(
    metric: str, kind: str, skills: tuple[float, float, float]
) -> None:
    scores = [answers(skill, seed) for seed, skill in enumerate(skills, 1)]
    assert found(*scores, metric=metric).kind == kind
    if kind in ("clear", "tie inside"):
        assert found(*scores, metric=metric, part="dev").kind == "unverified"


@pytest.mark.parametrize("metric", ["bits_per_byte", "perplexity"])
def test_less_may_be_better(metric: str) -> None:
    worse, better = texts(2.0, 1), texts(1.5, 2)
    clear = found(worse, better, worse, metric)
    assert clear.kind == "clear"
    assert " better; 95 % range +" in clear.reasons[0]
    assert "right" not in clear.sentence
    assert found(better, worse, worse, metric).kind == "keep the base"
    assert found(worse, better, texts(1.5, 3), metric).kind == "tie inside"
    assert found(worse, worse, worse, metric).kind == "nothing learned"


def test_several_targets_count_together_and_each_is_named() -> None:
    objectives = [
        Objective("test:up", METRICS["accuracy"]),
        Objective("test:down", METRICS["bits_per_byte"]),
    ]

    def both(*pairs: tuple[float, float]) -> Verdict:
        trials = [
            trial(mix, {"test:up": answers(skill, i + 1), "test:down": texts(bits, i + 9)})
            for i, (mix, (skill, bits)) in enumerate(zip((BASE, A, B), pairs, strict=True))
        ]
        return judge(weigh(trials, ["the base model", "a", "b"], 1, objectives, seed=0))

    good = both((0.0, 2.0), (3.0, 1.5), (0.0, 2.0))
    assert good.kind == "clear"
    assert "On 160 test questions a has 73 right (accuracy 0.912) on up, the base" in good.sentence
    assert "; bits_per_byte 1.473 on down, the base model 1.990." in good.sentence
    assert both((3.0, 1.5), (0.0, 2.0), (0.0, 2.0)).kind == "keep the base"
    half = both((0.0, 2.0), (0.0, 1.0), (0.0, 2.0))  # only the texts were learned
    assert half.kind == "clear"
    assert "a is not clearly better than guessing on up." in half.reasons


def test_copies_of_the_questions_change_no_verdict() -> None:
    def copied(scores: Scores, times: int = 8) -> Scores:
        places = np.repeat(np.arange(len(scores)), times)
        return dataclasses.replace(scores.take(places.tolist()), same=tuple(places.tolist()))

    scores = [answers(skill, seed, 20) for seed, skill in ((1, 0.8), (2, 1.3), (3, 1.0))]
    one, many = found(*scores), found(*map(copied, scores))
    assert one.kind == many.kind == "unclear"
    assert one.needed == many.needed
    blind = [dataclasses.replace(copied(each), same=()) for each in scores]
    assert found(*blind).kind != "unclear"


@pytest.mark.slow
def test_the_number_of_questions_that_would_tell_does_tell() -> None:
    """Worlds in which a is better than the base, seen through too few questions first."""
    needed = []
    for seed in range(40):
        few = [answers(skill, 3 * seed + i, 40, seed) for i, skill in enumerate((1.0, 1.5, 0.0))]
        verdict = found(*few, metric="accuracy")
        if verdict.kind == "unclear" and verdict.needed:
            needed.append(verdict.needed)
    count = int(np.median(needed))
    told = [
        found(
            *(
                answers(skill, 5000 + 3 * s + i, count, s)
                for i, skill in enumerate((1.0, 1.5, 0.0))
            ),
            metric="accuracy",
        ).kind
        in ("clear", "tie inside")
        for s in range(30)
    ]
    assert np.mean(told) > 0.6
