from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from m2m.report.page import page
from m2m.results.facts import Facts
from tests.report import samples
from tests.report.test_markup import Reader

_VOID = {"meta", "br"}


class Balance(HTMLParser):
    """Notes elements that are closed in another order than they were opened."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [tag] if tag not in _VOID else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("text", ["text", samples.EVIL])
def test_strangers_text_makes_no_element_and_no_attribute(text: str) -> None:
    tame, found = Reader(page(samples.facts())), Reader(page(samples.facts(text=text)))
    assert found.elements == tame.elements
    assert [name for name, _ in found.attributes] == [name for name, _ in tame.attributes]
    assert not {"script", "img", "iframe", "link", "object"} & set(found.elements)
    assert not [name for name, _ in found.attributes if name.startswith("on")]


def test_hostile_names_are_shown_as_they_are() -> None:
    names = ("<b>a</b>", "b&amp;", '"c"')
    found = page(samples.facts(names))
    assert "<b>a</b>" not in found
    assert "&lt;b&gt;a&lt;/b&gt;" in found
    assert "b&amp;amp;" in found


def test_nothing_is_loaded_from_elsewhere() -> None:
    source = page(samples.facts())
    linked = re.findall(r"(?:src|href|action)=|url\(|@import|https?://[^\"]*", source)
    assert set(linked) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in source.replace("&#x27;", "'")


def test_it_is_well_formed_and_named_for_screen_readers() -> None:
    source = page(samples.facts())
    balance = Balance(source)
    assert balance.wrong == []
    assert balance.open == []
    assert source.count("<table>") == source.count("<caption>") > 5
    assert source.count("<svg") == source.count('role="img"') > 5
    identities = re.findall(r' id="([^"]+)"', source)
    assert len(identities) == len(set(identities))
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source


def test_it_says_everything_once_there_are_facts() -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page(samples.facts()))
    assert headings == [
        "Warnings (1)",
        "Confirmed",
        "Questions, with the answers of both",
        "What people prefer",
        "Ranking of the mixtures",
        "All scores, and the worth of each dataset",
        "By facet",
        "What more rows would bring",
        "Do surrogates predict fine-tunes here?",
        "Training",
        "Time, memory and energy",
        "Data and licences",
        "How to read this",
        "Recipe, seeds and versions",
    ]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("fixed", "each mixture with the same number of steps"),
        ("proportional", "k datasets with k times an expert&#x27;s steps"),
        ("900", "each mixture with the same number of steps"),
    ],
)
def test_what_a_surrogate_predicts_goes_by_the_regime(budget: str, said: str) -> None:
    settings = {**samples.facts().settings, "confirm": {"budget": budget}}
    assert page(samples.facts(settings=settings)).count(said) == 1


def test_an_unfinished_run_has_a_report_too() -> None:
    source = page(Facts("begun", {"name": "base"}, {"base": {"model": "base"}}, {}))
    assert "Nothing is confirmed yet" in source
    assert Balance(source).wrong == []


def test_it_says_which_file_the_lines_to_type_mean() -> None:
    settings = {**samples.facts().settings, "recipe": "data/hausa.toml"}
    source = page(samples.facts(settings=settings, confirmation=None))
    assert "m2m confirm RECIPE" in source
    assert "For RECIPE type hausa.toml in the folder of that file." in source
    settings["overrides"] = {"train.seed": "1"}
    source = page(samples.facts(settings=settings, confirmation=None))
    assert "hausa.toml, with --set train.seed=1 at the end of the line, in the folder" in source


def test_only_the_others_are_too_close_to_the_best() -> None:
    assert page(samples.facts()).count("; too close to the best to decide") == 1, "two are tied"


def test_the_same_facts_give_the_same_bytes() -> None:
    assert page(samples.facts()) == page(samples.facts())


def test_many_datasets_stay_under_a_megabyte() -> None:
    names = tuple(f"a_rather_long_name_of_dataset_{i}" for i in range(24))
    big = samples.facts(names, ranking=samples.ranking(names, largest=4))
    assert big.ranking is not None
    assert len(big.ranking.places) > 12_000
    assert len(page(big).encode("utf-8")) < 1_000_000


def test_the_words_of_a_table_are_explained_under_it() -> None:
    source = page(samples.facts())
    assert source.count("What the words mean") >= 5
    for word in ("winner ahead (95 %)", "test choice_bits", "peak memory"):
        assert re.search(rf"<dt>{re.escape(word)}</dt><dd>[A-Z][^<]+\.</dd>", source), word


def test_the_charts_show_the_whole_names_of_datasets() -> None:
    names = tuple(f"{place}_messages_of_an_offline_school_platform_2024" for place in "abc")
    said = page(samples.facts(names))
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    chart = said.split("Confirmed models", 1)[1].split("</svg>", 1)[0]
    lines = re.findall(r'class="label[^"]*">([^<]*)<', chart)
    assert " + ".join(names) in " ".join(lines)
    assert max(map(len, lines)) <= 62
