from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.escaping import visible
from m2m.report.markup import Markup, element, escape, join


class Reader(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text())
def test_text_of_any_kind_stays_text(text: str) -> None:
    found = Reader(element("p", text, title=text))
    assert found.elements == ["p"]
    assert [name for name, _ in found.attributes] == ["title"]
    assert found.text == html.unescape(escape(text)) == visible(text)


def test_control_characters_are_written_out_and_quotes_escaped() -> None:
    assert escape("a\x00\x1b[31m\x7fb\ud800") == r"a\x00\x1b[31m\x7fb\ud800"
    assert escape("<\"'&>") == "&lt;&quot;&#x27;&amp;&gt;"


def test_markup_is_taken_as_it_is_and_nothing_is_left_out() -> None:
    inner = element("b", "x < y")
    assert element("p", inner, None, ["z", [inner]]) == ("<p><b>x &lt; y</b>z<b>x &lt; y</b></p>")
    assert join(None) == ""
    assert isinstance(join("text"), Markup)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (element("circle", cx=1.005, r=2.0, class_="dot"), '<circle cx="1" r="2" class="dot"/>'),
        (element("td", class_=None), "<td></td>"),
        (element("text", "a", text_anchor="end", x=12345.678), None),
        (element("meta", name="generator"), '<meta name="generator"/>'),
    ],
)
def test_attributes(made: str, expected: str | None) -> None:
    assert made == (expected or '<text text-anchor="end" x="12345.7">a</text>')
