"""The parts of every page that m2m draws: the document itself, sections, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2m.report.glossary import explanation
from m2m.report.markup import Child, Markup, element, join
from m2m.results.table import Table

_STYLE = Path(__file__).with_name("style.css")
# The browser loads nothing and runs nothing, even if a text slipped through the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: Markup, *extra: Markup) -> str:
    """Return a whole page; `extra` are more elements of its head."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        extra,
        element("title", title),
        element("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *content: Child, class_: str | None = None) -> Markup:
    """Return a section with its heading."""
    return element("section", element("h2", title), content, class_=class_)


def bullets(items: Sequence[str]) -> Markup:
    """Return a list of sentences."""
    return element("ul", [element("li", item) for item in items])


def captioned(chart: Markup, legend: str) -> Markup:
    """Return a chart with its legend."""
    scroll = element("div", chart, class_="scroll")
    return element("figure", scroll, element("figcaption", legend))


def more(title: str, content: Markup) -> Markup:
    """Return content that opens when it is clicked."""
    return element("details", element("summary", title), content)


def drawn_table(table: Table) -> Markup:
    """Draw a table with its caption and the meaning of its heads.

    A narrow screen shows each row as a list, with the heads.
    """
    heads = table.heads

    def class_of(i: int) -> str | None:
        return "number" if table.numeric[i] else None

    def cell(content: str, i: int) -> Markup:
        return element("td", content, class_=class_of(i), data_head=heads[i])

    head = element(
        "tr", [element("th", h, class_=class_of(i), scope="col") for i, h in enumerate(heads)]
    )
    rows = [
        element(
            "tr",
            [cell(content, i) for i, content in enumerate(row)],
            class_="strong" if strong else None,
        )
        for row, strong in table.shown()
    ]
    drawn = element(
        "table",
        element("caption", element("span", f"{table.caption}.")),
        element("thead", head),
        element("tbody", rows),
    )
    named = {"role": "region", "aria_label": table.caption, "tabindex": "0"}
    return join([element("div", drawn, class_="scroll", **named), _meanings(table)])


def _meanings(table: Table) -> Markup | None:
    """Explain the heads of a table, under it; those of facets are the user's own words."""
    heads = [] if table.name.startswith("facets-") else table.heads
    known = [(head, text) for head in heads if head and (text := explanation(head))]
    words = [[element("dt", head), element("dd", text)] for head, text in known]
    return more("What the words mean", element("dl", words)) if words else None
