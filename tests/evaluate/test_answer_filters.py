"""Filters of written answers; the expected values are those of lm-eval 0.4.13's own classes."""

from __future__ import annotations

from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.answer_filters import filtered, steps_of

REGEX: dict[str, Any] = {"function": "regex", "regex_pattern": "(\\d+)|(zero)", "group_select": -1}


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ([{"function": "regex"}], "so #### 1,200 and #### 3", "1,200"),
        ([{"function": "regex"}], "nothing", "[invalid]"),
        ([REGEX], "1 or 22 or zero", "zero"),
        ([REGEX, {"function": "uppercase"}], "1 or zero", "ZERO"),
        ([REGEX | {"fallback": "no"}], "", "no"),
        ([{"function": "remove_whitespace"}, {"function": "lowercase"}], " ÈJÌ \n", "èjì"),
        ([{"function": "map", "mapping_dict": {"a": "one"}}], "a", "one"),
        ([{"function": "map", "mapping_dict": {"a": "one"}}], "b", ""),
        ([{"function": "take_first"}, {"function": "majority_vote"}], " x ", " x "),
    ],
)
def test_each_filter(steps: list[dict[str, Any]], text: str, expected: str) -> None:
    used, note = steps_of({"filter_list": [{"name": "f", "filter": steps}]})
    assert (filtered([text], used, "t.yaml"), note) == ([expected], "")


def test_what_is_left_out_is_said() -> None:
    steps, note = steps_of({"filter_list": [{"name": "f", "filter": [{"function": "custom"}]}]})
    assert (steps, "custom is not supported" in note) == ([], True)
    take = [{"function": "take_first"}]
    two = [{"name": "strict", "filter": take}, {"name": "loose", "filter": take}]
    assert steps_of({"filter_list": two}) == (
        [],
        "of 2 lists of filters the first one counts: strict",
    )
    assert steps_of({}) == ([], "")


def test_a_malformed_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="filter_list"):
        filtered(["x"], [{"function": "regex", "regex_pattern": "("}], "t.yaml")
