"""No regular expression of the package takes more than linear time, whatever the text is."""

from __future__ import annotations

import re
from functools import cache

import pytest

from m2m.dataset.shapes import ABOUT_TASK, SHAPES
from m2m.recipe.reader import TOML_MISTAKES
from m2m.tokenizer import expressions as cuts
from tests.linear import ROOT, Expression, expressions, is_slow, slow_text

# Expressions that only the running program knows, and why they are linear.
_RUNNING = {
    "m2m/adapter.py": "a pattern of an adapter's config, which `_is_simple` checks",
    "m2m/dataset/class_names.py": "a name with `re.escape`, which is matched at one place",
    "m2m/dataset/guess.py": "the table of shapes, which is tried below",
    "m2m/evaluate/set_features.py": "a name with `re.escape`, at the beginning of a line",
    "m2m/evaluate/task_sets.py": "patterns of names of files, which are short",
    "m2m/formats/yaml.py": "a key of the program, whose lines are read once each",
    "m2m/recipe/reader.py": "a table of TOML mistakes, which is tried below",
    "m2m/report/words.py": "the names of datasets, each with `re.escape`",
    "m2m/templates/sandbox.py": "a template's own, in the child whose processor time is limited",
    "m2m/tokenizer/expressions.py": "the cuts of vocabularies, which are tried below",
    "m2m/tokenizer/spm.py": "the signs of a vocabulary, each with `re.escape`",
}
_ROOMS = sorted(
    {path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py") if "__init__" not in path.name}
)


@cache
def _all() -> tuple[Expression, ...]:
    return tuple(expressions())


# 7: no divisor of the numbers of beginnings, parts and ends that a text is made of.
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("room", _ROOMS)
def test_every_expression_is_linear(room: str, every: int) -> None:
    for expression in _all():
        if expression.place.split("/")[1].partition(":")[0] == room and expression.pattern:
            text = slow_text(expression, every)
            assert text is None, f"{expression.place} is slow for texts such as {text!r:.80}"


def test_only_known_expressions_are_made_by_the_running_program() -> None:
    running = {each.place.partition(":")[0] for each in _all() if each.pattern is None}

    assert running == _RUNNING.keys()


def test_the_tables_of_expressions_are_linear() -> None:
    shapes = [pattern for s in SHAPES for pattern in s.columns.values()]
    shapes += [ABOUT_TASK, *(s.about.removeprefix(ABOUT_TASK).lstrip("|") for s in SHAPES)]
    toml = [pattern for _, pattern, _ in TOML_MISTAKES]
    tables = (("SHAPES", dict.fromkeys(shapes), "fullmatch"), ("TOML_MISTAKES", toml, "search"))
    for table, patterns, function in tables:
        slow = [p for p in patterns if slow_text(Expression(table, p, 0, (function,)))]
        assert slow == []


_UNITS = ("a", "A", "Aa", "0", " ", "\n", " \n", "\u0301", "a\u0301", "\u4e00", ".", "'", "'s",
          "a "," .", "\u00a0", "\u0e01", "\U0001f600")  # fmt: skip


def test_the_cuts_of_vocabularies_are_linear() -> None:
    steps = {id(step): step for value in vars(cuts).values() if isinstance(value, tuple)
             for step in value if isinstance(step, cuts.Cutter)}  # fmt: skip
    assert len(steps) > 20
    for step in steps.values():
        for unit in _UNITS:
            for end in ("", "a", ".", "\n"):
                assert not _takes_long(step, unit, end), (step, unit, end)


def _takes_long(step: cuts.Cutter, unit: str, end: str) -> bool:
    return is_slow(step.cut, lambda count: unit * (count // len(unit)) + end)


@pytest.mark.parametrize(
    ("pattern", "function"),
    [
        (r"\s+$", "search"),
        (r"(a+)+b", "match"),
        (r"(a|a)*b", "fullmatch"),
        pytest.param(r"<!--.*?-->", "sub", marks=pytest.mark.slow),
        (r"\w+@\w+\.com", "search"),
        (r"\S\s*\n\s*\n\s*\S", "search"),
        (r"(\d+)?,?(\d+)?;", "search"),
    ],
)
def test_a_slow_expression_is_found(pattern: str, function: str) -> None:
    assert slow_text(Expression("here", pattern, re.DOTALL, (function,))) is not None
