from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.dataset.sameness import normalize, repeated_text
from m2m.evaluate.overlap import answer_match, chrf, chrf_counts, token_f1, words

GOLDEN = Path(__file__).parent.parent / "golden" / "chrf.json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  CAT, sat. ", "the cat sat"),  # articles stay: this is not English only
        ("Ng\u2019ombe ng\u02bcambo 'ndio'", "ng'ombe ng'ambo ndio"),
        ("3.5 kg, 1,000; v. 2.", "3.5 kg 1,000 v 2"),
        ("-5 \u2212 7 a-b 3-4", "-5 - 7 a b 3 4"),
        (
            "\u1230\u120b\u121d\u1361\u12d3\u1208\u121d\u1362",
            "\u1230\u120b\u121d \u12d3\u1208\u121d",
        ),
        ("e\u0323\u0301 \u1eb9\u0301", "\u1eb9\u0301 \u1eb9\u0301"),  # Yoruba, composed or not
        ("\uff21\uff22\uff11", "ab1"),
        ("STRASSE stra\u00dfe", "strasse strasse"),
        ("so\u00adft zero\u200bwidth", "soft zerowidth"),
        ("\u00bfQu\u00e9? \u2026 \u060c \u3002", "qu\u00e9"),
        ("5 \u20ac + 2", "5 \u20ac + 2"),
        ("6 /  2 * -3, 3*4 and/or \u00bd", "6 / 2 * -3 3*4 and or 1/2"),
        ("...", "..."),
        (" \u2026 ?\u200b", "... ?"),
        ("\u200b", ""),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    assert normalize(text) == expected


@given(st.text())
def test_the_normal_form_is_stable(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once


def test_two_texts_are_the_same_by_the_normal_form() -> None:
    assert repeated_text(["a", "b", "A.", "B"]) == ("a", "A.")
    assert repeated_text(["-5", "5", "3.5", "3 5", "a+b", "a-b", "?", "!"]) is None


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert words("Habari za asubuhi") == ["habari", "za", "asubuhi"]
    assert words("\u6771\u4eac tower") == ["\u6771", "\u4eac", "tower"]
    assert words("abc\u6771d") == ["abc", "\u6771", "d"]
    assert words("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48") == [
        "\u0e17\u0e35\u0e48",
        "\u0e19\u0e35\u0e48",
    ]


def test_answer_match_and_f1() -> None:
    assert answer_match("Shule!", ["school", "shule"]) == 1.0
    assert answer_match("shule kubwa", ["shule"]) == 0.0
    assert token_f1("the big red house", ["a red house"]) == pytest.approx(2 * 2 / 7)
    assert token_f1("red red", ["red"]) == pytest.approx(2 / 3)
    assert token_f1("x", ["a red house", "x y"]) == pytest.approx(2 / 3)
    assert token_f1("", ["a"]) == 0.0
    assert token_f1("...", ["\u2026"]) == 1.0
    assert answer_match("?", ["!"]) == answer_match("", ["?"]) == token_f1("...", ["!"]) == 0.0


@given(st.text("ab cd", max_size=12), st.text("ab cd", max_size=12))
def test_a_perfect_answer_has_full_marks(said: str, other: str) -> None:
    assert answer_match(said, [other, said]) == token_f1(said, [other, said]) == 1.0
    best = float(chrf(chrf_counts(said, [other, said])))
    assert best == pytest.approx(100.0 if said.strip() else float(chrf(chrf_counts(said, [other]))))
    assert 0 <= token_f1(said, [other]) <= 1


def golden() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["corpora"]
    return cases


@pytest.mark.parametrize("corpus", golden(), ids=lambda c: c["name"])
def test_chrf_is_what_sacrebleu_recorded(corpus: dict[str, Any]) -> None:
    counts = np.array(
        [chrf_counts(row["said"], row["right"]) for row in corpus["rows"]], dtype=float
    )
    assert float(chrf(counts.sum(axis=0))) == pytest.approx(corpus["corpus"], abs=1e-9)
    np.testing.assert_allclose(chrf(counts), [row["chrf"] for row in corpus["rows"]], atol=1e-9)
