"""Filters of written answers; the expected values are those of lm-eval 0.4.13's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.answer_filters import WHOLE, exact_matches, filtered, pipelines_of

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "metrics.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))
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
    (pipeline,), notes = pipelines_of({"filter_list": [{"name": "f", "filter": steps}]})
    assert (pipeline.name, notes) == ("f", ())
    assert filtered([text], [{}], pipeline.steps, "t.yaml") == [expected]


@pytest.mark.parametrize("case", CASES["filters"], ids=lambda case: case["filter"][0]["function"])
def test_filters_give_what_the_harness_gave(case: dict[str, Any]) -> None:
    """By lm-eval's own FilterEnsemble: tests/peer/test_harness_metrics.py."""
    (pipeline,), _ = pipelines_of({"filter_list": [{"name": "f", "filter": case["filter"]}]})
    rows = [{"choices": choices} for choices in case["choices"]]
    found = filtered(case["texts"], rows, pipeline.steps, "t.yaml")
    assert found == ["" if text is None else text for text in case["filtered"]]


@pytest.mark.parametrize("case", CASES["exact_match"], ids=lambda case: str(case["options"])[:60])
def test_exact_match_is_the_harnesses(case: dict[str, Any]) -> None:
    found = exact_matches(case["predictions"], case["references"], case["options"], "t.yaml")
    assert [float(hit) for hit in found] == case["values"]


def test_lists_of_filters_keep_their_names() -> None:
    custom = {"name": "own", "filter": [{"function": "custom"}]}
    pipelines, notes = pipelines_of({"filter_list": [custom]})
    assert (pipelines, "custom is not supported; a child file" in notes[0]) == ([WHOLE], True)
    strict = {"name": "strict", "filter": [{"function": "take_first"}]}
    loose = {"name": "loose", "filter": [{"function": "take_first_k", "k": 1}]}
    pipelines, notes = pipelines_of({"filter_list": [strict, custom, loose]})
    assert [each.name for each in pipelines] == ["strict", "loose"]
    assert len(notes) == 1
    assert notes[0].startswith("filter_list: own: the filter custom is not supported; ")
    assert pipelines_of({}) == ([WHOLE], ())


@pytest.mark.parametrize("kind", ["regex", "multi_choice_regex"])
def test_a_malformed_pattern_is_refused(kind: str) -> None:
    steps = [{"function": kind, "regex_pattern": "("}]
    with pytest.raises(InputError, match="filter_list"):
        filtered(["x"], [{"choices": ["a", "b"]}], steps, "t.yaml")
    with pytest.raises(InputError, match=r"exact_match.*unterminated"):
        exact_matches(["x"], [["y"]], {"regexes_to_ignore": ["("]}, "t.yaml")
