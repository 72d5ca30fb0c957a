"""A checkpoint that somebody changed is refused in words, not gone on from."""

from __future__ import annotations

import math
from typing import Any

import pytest

from m2m.tuner.trainer import read_progress

GOOD: dict[str, Any] = {
    "step": 2,
    "position": [0, 5],
    "tokens": 10,
    "losses": [1.5, 1.25],
    "held_out": [[2, 1.5]],
}


def test_a_checkpoint_is_read() -> None:
    done = read_progress(GOOD, 3, 8)
    assert (done.step, done.position, done.held_out) == (2, (0, 5), [(2, 1.5)])


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("step", "2", "step is '2', expected a whole number from 0 to 3"),
        ("step", True, "step is True"),
        ("step", 4, "step is 4"),
        ("position", [0], "position has 1 entries, expected 2"),
        ("position", [0, 9], "position is 9"),
        ("position", [-1, 0], "position has -1 to 0"),
        ("tokens", 1e9, "tokens is 1000000000.0"),
        ("losses", [1.5], "losses has 1 entries, expected 2"),
        ("losses", [1.5, math.inf], "losses is inf, expected a finite number"),
        ("losses", None, "losses is None, expected a list"),
        ("held_out", [[1]], "held_out has 1 entries, expected 2"),
        ("held_out", [[1.5, 1.5]], "held_out is 1.5"),
    ],
)
def test_a_wrong_value_is_named(name: str, wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read_progress(GOOD | {name: wrong}, 3, 8)
