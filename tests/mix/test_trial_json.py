"""Journal lines that somebody changed: a value is right, or refused with file, line and field."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.metrics import measure_all
from m2m.formats.journal import Journal
from m2m.mix.mixture import Mixture
from m2m.mix.study import Study
from m2m.mix.trial import Places, Trial
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "study.jsonl"
WRONG: list[Any] = [
    None, True, "x", "1", 0, -1, -7.5, 1e9, 1 << 70, math.inf, math.nan, [], [[]], {}, [None],
    [[1.0, [2.0]]], {"a": {}}, [["a"]],
]  # fmt: skip


def golden() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def block() -> dict[str, Any]:
    """A line of three of the sixteen examples, with what a model wrote."""
    whole = golden()[2]
    line: dict[str, Any] = Trial.from_json(whole).take({"copying": (5, 0, 9)}).as_json()
    scores = line["scores"]["copying"]
    scores |= {"predictions": ["a", "b", "c"], "references": [["a"], ["b", "x"], []]}
    scores |= {"cut": [False, True, False], "limit": 4, "longest": 2, "facets": ["f", None, "g"]}
    return {"schema": 2, "key": whole["key"], **line}


def places_of(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON, two of each list."""
    if at:
        yield at
    if isinstance(value, dict):
        for name in value:
            yield from places_of(value[name], (*at, name))
    elif isinstance(value, list):
        for i in range(min(2, len(value))):
            yield from places_of(value[i], (*at, i))


def changed(line: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    line = copy.deepcopy(line)
    inside: Any = line
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = value
    return line


class _Sizes:
    def __init__(self) -> None:
        self.examples = {"copying": 16}

    def key(self, mixture: Mixture) -> str:
        return str(golden()[2]["key"])

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        raise AssertionError("nothing is scored here")


def test_old_journals_are_read_as_they_were() -> None:
    trials = [Trial.from_json(line) for line in golden()]
    assert [len(trial.scores["copying"]) for trial in trials] == [16] * 3
    for trial, line in zip(trials, golden(), strict=True):
        again = trial.as_json()
        assert again["scores"]["copying"]["loglik"] == line["scores"]["copying"]["loglik"]
        assert again["mixture"] == line["mixture"]


@pytest.mark.parametrize("at", [*places_of(block())], ids=str)
def test_every_value_is_checked(at: tuple[Any, ...]) -> None:
    """What is accepted can be measured and joined without an error; the rest is named."""
    for wrong in WRONG:
        line = changed(block(), at, wrong)
        try:
            trial = Trial.from_json(line, "study.jsonl:7")
        except InputError as error:
            assert error.message.startswith("study.jsonl:7: not a scored mixture: ")
            continue
        assert json.dumps(trial.as_json(), allow_nan=False)
        for scores in trial.scores.values():
            measure_all(scores)


@pytest.mark.parametrize(
    ("at", "wrong", "said"),
    [
        (("scores", "copying", "loglik", 0, 0), 1e999, "loglik has a value that is not from"),
        (("scores", "copying", "loglik", 0, 0), 0.5, "loglik has a value that is not from"),
        (("scores", "copying", "loglik", 0, 0), True, "loglik has a value that is not a number"),
        (("scores", "copying", "loglik", 0), [-1.0], "other lengths"),
        (("scores", "copying", "gold", 0), 4, "a choice that its example does not have"),
        (("scores", "copying", "gold", 0), -1, "gold has -1 to"),
        (("scores", "copying", "same"), [1, 2], "same has 2 entries, expected 3"),
        (("scores", "copying", "kind"), "guess", "kind is 'guess'"),
        (("scores",), {}, "scores is empty"),
        (("places", "copying", 0), -1, "places of copying has -1 to"),
        (("places", "copying", 0), 9, "places of copying has one twice"),
        (("places", "copying"), [1], "places of copying has 1 entries, expected 3"),
        (("places",), {"other": [0, 1, 2]}, "other targets"),
        (("mixture", "weights", 0), math.inf, "weights is inf"),
        (("mixture", "datasets"), "abc", "datasets is 'abc', expected a list"),
        (("seconds",), -1, "seconds is -1"),
        (("survival",), {"gain": "1"}, "gain is '1', expected a finite number"),
    ],
)
def test_the_message_names_the_field(at: tuple[Any, ...], wrong: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Trial.from_json(changed(block(), at, wrong))
    assert said in caught.value.message


def test_one_long_row_does_not_take_memory_for_all() -> None:
    """100,001 rows, one of them of 100,000 choices: 80 GB as one array."""
    rows = [[-1.0]] * 100_000 + [[-1.0] * 100_000]
    line = block()
    line["scores"]["copying"] |= {"loglik": rows}
    with pytest.raises(InputError, match="far more than the others"):
        Trial.from_json(line)


def study(path: Path, *lines: dict[str, Any]) -> Study:
    for line in lines:
        Journal(path).append(line)
    return Study(Journal(path), _Sizes())


def test_places_are_held_against_the_task(tmp_path: Path) -> None:
    """A line whose key is right and whose places are not: there are sixteen examples."""
    mixture = Trial.from_json(block()).mixture
    wrong = changed(block(), ("places", "copying", 0), 16)
    with pytest.raises(InputError, match=r"s\.jsonl:2: scores example 17 of copying, which has 16"):
        study(tmp_path / "s.jsonl", block(), wrong).known(mixture)
    wrong = {**block(), "places": {}}
    with pytest.raises(InputError, match=r"a\.jsonl:1: scores example 3 of copying, which has 16"):
        study(tmp_path / "a.jsonl", wrong).known(mixture)


def test_examples_that_come_twice_count_once(tmp_path: Path) -> None:
    """Lines that overlap: the first one counts, and those of this machine before claimed ones."""
    whole = golden()[2]
    claimed = changed(whole, ("scores", "copying", "loglik", 1), [-1.0] * 4) | {"elsewhere": "usb"}
    trial = Trial.from_json(whole)
    own = {"schema": 2, "key": whole["key"], **trial.take({"copying": (1, 3)}).as_json()}
    found = study(tmp_path / "s.jsonl", claimed, own, own).known(trial.mixture)
    assert found is not None
    assert found.complete
    assert found.elsewhere
    np.testing.assert_array_equal(found.scores["copying"].loglik, trial.scores["copying"].loglik)
