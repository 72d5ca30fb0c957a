"""Which cases of a long table run in the quick tier of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Mark all cases but the first of `every` as slow; each is a value, a tuple or a `param`."""
    marked = []
    for number, case in enumerate(cases):
        if number % every:
            known = case if hasattr(case, "marks") else None
            values = known.values if known else case if isinstance(case, tuple) else (case,)
            marks = (*(known.marks if known else ()), pytest.mark.slow)
            case = pytest.param(*values, marks=marks, id=known.id if known else None)
        marked.append(case)
    return marked


def rotated(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Combine two tables: each value of the first is quick with one of the second, else slow.

    Values that are tuples are several parameters.
    """
    others = [*second]
    return [
        pytest.param(
            *_values(one), *_values(two), marks=[pytest.mark.slow] * (i % len(others) != j)
        )
        for i, one in enumerate(first)
        for j, two in enumerate(others)
    ]


def _values(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
