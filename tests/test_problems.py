"""Mistakes are raised together; those of many lines that are the same are one."""

from __future__ import annotations

import pytest

from m2m.errors import InputError, Problems


def raised(*messages: str) -> str:
    problems = Problems()
    for message in messages:
        problems.add(message)
    with pytest.raises(InputError) as error:
        problems.raise_if_any(InputError, "rows.csv")
    return error.value.message


def test_equal_mistakes_of_many_lines_are_one_with_a_count() -> None:
    rows = [f"line {number}: completion is empty" for number in range(1, 31)]
    assert raised(*rows, "line 7: no question").split("\n") == [
        "rows.csv: 31 problems",
        "  - 30 lines (1, 2, 3, 4, 5, ...): completion is empty",
        "  - line 7: no question",
    ]
    assert raised(rows[0], rows[4]).endswith("  - lines 1, 5: completion is empty")
    assert raised(rows[0]) == "rows.csv: line 1: completion is empty"


def test_those_that_are_not_shown_are_counted() -> None:
    told = raised(
        *(f"line {number}: {number} columns" for number in range(1, 26)), "line 3: 3 columns"
    )
    assert told.count("\n  - line") == 20
    assert told.endswith("  - and 5 more")
    assert not Problems()
    Problems().raise_if_any(InputError, "nothing")
