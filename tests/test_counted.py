"""Printed numbers: a noun that agrees, and never a minus before nothing but zeros."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import m2m
from m2m.counted import counted, millions
from m2m.evaluate.score import Score
from m2m.mix.ranking import Interval


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 mixtures"), (1, "1 mixture"), (2, "2 mixtures"), (1255, "1,255 mixtures")],
)
def test_a_noun_agrees_with_its_number(count: int, words: str) -> None:
    assert counted(count, "mixture") == words


@pytest.mark.parametrize(
    ("count", "words"), [(52_336, "52,336"), (134_515_008, "135 M"), (3_200_000_000, "3,200 M")]
)
def test_no_model_has_zero_million_parameters(count: int, words: str) -> None:
    assert millions(count) == words


def test_no_score_is_printed_as_minus_zero() -> None:
    span = Interval(-0.0001, -0.0004, -0.00001)
    shown = [
        str(span),
        span.signed,
        span.in_full,
        Score(-0.0001, 0.2).text(),
        Score(-1e-9, 0.0).text(4),
    ]
    assert not [text for text in shown if "-0.0" in text]
    assert span.signed == "+0.000 (+0.000 to +0.000)"
    assert str(Interval(-0.001, -0.2, 0.1)) == "-0.001 (-0.200 to 0.100)"


def test_every_format_of_a_score_drops_the_sign_of_zero() -> None:
    """Scores have three or four digits; `z` in their format is the one rule for all of them."""
    texts = {path: path.read_text("utf-8") for path in Path(m2m.__file__).parent.rglob("*.py")}
    assert any(re.search(r":[+]?z[.][34]f", text) for text in texts.values())
    assert not [path for path, text in texts.items() if re.search(r":[+]?[.][34]f", text)]


_NOUNS = (
    "rows|files|questions|examples|lines|labels|datasets|tokens|steps|mixtures|answers|targets|"
    "texts|columns|models|runs|characters|choices|adapters|checks|sheets|contenders|pairs|entries"
)
_PLURAL = re.compile(rf" (?:\w+ )?(?:{_NOUNS})\b")
_NO_NUMBERS = re.compile(
    r"\w*(?:name|label|many|part|number|stem|run|kind|per_word)|in_rows\(.*|[_A-Z]+"
)
_BARE = 71  # numbers of which nobody has checked that they are never 1


@pytest.mark.slow  # reads every module
def test_no_new_message_writes_1_rows() -> None:
    """A number before a plural noun is written by `counted`, which knows the singular."""
    found = []
    for path in sorted(Path(m2m.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for value, text in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                    name = ast.unparse(value.value)
                    if name.startswith("counted("):
                        continue
                    name = name.rpartition(".")[2]
                    if _PLURAL.match(text.value) and not _NO_NUMBERS.fullmatch(name):
                        found.append(f"{path.name}:{node.lineno}: {{{name}}}{text.value[:30]}")
    assert len(found) <= _BARE, "\n".join(found)
    assert len(found) > _BARE - 5, f"lower _BARE to {len(found)}"


@pytest.mark.slow  # reads every module
def test_no_message_has_a_plural_in_brackets() -> None:
    for path in Path(m2m.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"[a-z]{3}\(s\)(?![?|])", node.value), (path, node.value)
