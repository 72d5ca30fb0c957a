"""Languages are told apart on the example's own files: Swahili, Chichewa, Hausa and English."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.dataset.grams import without_frame
from m2m.dataset.language import OTHER_LANGUAGE, Languages, tag
from m2m.dataset.rows import load_dataset

FOLDER = Path(__file__).parent.parent.parent / "examples" / "swahili" / "datasets"


@pytest.fixture(scope="module")
def questions() -> dict[str, list[str]]:
    names = ("sw_school", "sw_things", "ny_school", "ha_things", "en_definitions")
    rows = {name: load_dataset(FOLDER / f"{name}.jsonl") for name in names}
    return {name: without_frame([row.sides[0] for row in found]) for name, found in rows.items()}


def profiles(questions: dict[str, list[str]]) -> Languages:
    return Languages({(name, "questions"): texts for name, texts in questions.items()})


def test_files_of_one_language_are_near_and_others_far(questions: dict[str, list[str]]) -> None:
    found = profiles(questions)

    def distance(one: str, other: str) -> float:
        apart = found.distance((one, "questions"), (other, "questions"))
        assert apart is not None
        return apart

    assert distance("sw_school", "sw_things") < OTHER_LANGUAGE
    assert distance("sw_school", "ny_school") > OTHER_LANGUAGE
    assert distance("sw_school", "ha_things") < distance("sw_school", "en_definitions")
    assert distance("sw_school", "sw_school") == 0


@pytest.mark.parametrize("other", ["ny_school", "en_definitions", "ha_things"])
def test_planted_rows_of_another_language_are_found(
    questions: dict[str, list[str]], other: str
) -> None:
    planted = {i * 9: questions[other][i * 3] for i in range(40)}
    mixed = [planted.get(i, text) for i, text in enumerate(questions["sw_school"])]
    suspects = profiles({**questions, "sw_school": mixed}).suspects(("sw_school", "questions"))
    found = {each.row for each in suspects}
    # Too short a row cannot be told; a loanword may be told wrongly.
    long = {i for i in planted if len(planted[i]) > 10}
    assert len(found & long) > 0.85 * len(long)
    assert len(found - planted.keys()) < 0.02 * len(mixed)
    assert all(each.like[0] == other for each in suspects[:10])


def test_a_small_part_is_not_judged(questions: dict[str, list[str]]) -> None:
    found = profiles({**questions, "few": questions["ha_things"][:20]})
    assert found.suspects(("few", "questions")) == []
    assert found.distance(("few", "questions"), ("sw_school", "questions")) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sw_school", "sw"), ("hau-things", "hau"), ("school_sw", None), ("sw", None), ("x1_a", None)],
)
def test_the_language_that_a_name_gives(name: str, expected: str | None) -> None:
    assert tag(name) == expected
