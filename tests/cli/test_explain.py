"""Every word that reports and tables print has an explanation."""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from typing import get_args

import pytest
from click.testing import CliRunner

from m2m.cli.data import COSTS, COUNTS
from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.evaluate.metrics import METRICS
from m2m.llamacpp.filetypes import FILE_TYPES
from m2m.mix.verdict import Kind
from m2m.mix.worth import UNKNOWN, VERDICTS
from m2m.recipe.strategies import STRATEGIES
from m2m.report.glossary import find, glossary
from m2m.results.compared import Compared, Contest, Entry
from m2m.results.facts import csv_tables
from tests.conftest import REPOSITORY
from tests.report import samples

# Words that say by themselves what they are.
PLAIN = {"model", "of", "note", "notes", "source", "languages", "licence", "time", "run", "runs",
         "pairs", "other", "same answer", "winner against", "needs", "field",
         "one", "two"}  # fmt: skip


def test_every_head_of_every_table_is_explained() -> None:
    contest = Contest("t", "test", "accuracy", True, 20, 20, [Entry("a", 1, [], *[None] * 4, [])])  # type: ignore[arg-type]
    compared = Compared(["one", "two"], [contest], {"train.steps": ["1", "2"]}, [])
    tables = [*csv_tables(samples.facts()), *compared.tables]
    heads = {column.head for table in tables for column in table.columns if column.head}
    assert len(heads) > 50
    heads.update(COUNTS, COSTS)
    for head in heads - PLAIN - {"text (40)"}:
        find(re.sub(r"^(dev|test) |, (dev|test)$", "", head))


@pytest.mark.parametrize(
    "words", [METRICS, get_args(Kind), [*VERDICTS.values(), UNKNOWN], STRATEGIES, FILE_TYPES]
)
def test_every_metric_verdict_and_effect_has_an_entry(words: list[str]) -> None:
    for word in words:
        assert find(word) == word or find(word) in ("it is", "type")


def test_a_word_has_one_meaning_in_at_most_three_sentences() -> None:
    spelled = [name for key, entry in glossary().items() for name in (key, *entry["also"])]
    assert [name for name, count in Counter(map(str.casefold, spelled)).items() if count > 1] == []
    for name, entry in glossary().items():
        sentences = re.findall(r"[.](?:\s|$)", entry["text"])
        assert 1 <= len(sentences) <= 3, name
        assert entry["text"].endswith("."), name
        assert not re.search(r"\b(told|beside|lies)\b", entry["text"]), name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("choice_bits", "choice_bits"),
        ("Choice Bits", "choice_bits"),
        ("winner ahead (95 %)", "ahead"),
        ("held_out", "held-out"),
        ("=", "tied with the best"),
        ("TIE INSIDE", "tie inside"),
    ],
)
def test_a_word_is_found_as_it_is_printed(typed: str, meant: str) -> None:
    assert find(typed) == meant
    found = CliRunner().invoke(cli, ["explain", *typed.split()])
    assert (found.exit_code, found.stdout) == (0, f"{meant}: {glossary()[meant]['text']}\n")


def test_a_misspelt_word_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no explanation of 'surogate'") as refused:
        find("surogate")
    assert refused.value.hint == "did you mean surrogate?"
    found = CliRunner().invoke(cli, ["explain", "xyzzy"])
    assert (found.exit_code, found.stdout) == (1, "")
    assert "lists all of them" in found.stderr


def test_all_words_are_listed_and_are_those_of_the_page() -> None:
    listed = CliRunner().invoke(cli, ["explain"]).stdout.splitlines()
    assert set(listed) == set(glossary())
    assert json.loads(CliRunner().invoke(cli, ["explain", "--json"]).stdout) == glossary()
    docs = runpy.run_path(str(REPOSITORY / "scripts" / "docs.py"))
    page = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert docs["current"](page) == page, "run scripts/docs.py"
