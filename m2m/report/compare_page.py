"""Draw a comparison of runs as one HTML page."""

from __future__ import annotations

from m2m.counted import counted
from m2m.report.markup import Markup, element
from m2m.report.parts import bullets, captioned, document, drawn_table, section
from m2m.report.svg import LINE, axis_below, dot, figure, group, interval, paragraph, scale
from m2m.results.compared import Compared, Contest

_ROW = 46.0
_LEGEND = "Filled: the winner, with its 95 % interval. Open: the base model."


def compare_page(compared: Compared) -> str:
    """Return the whole page."""
    title = f"{counted(len(compared.runs), 'run')} compared"
    tables = compared.tables
    charts = [
        section(contest.title, captioned(_chart(contest, number), _LEGEND), drawn_table(table))
        for number, (contest, table) in enumerate(zip(compared.contests, tables, strict=False))
    ]
    others = [section("Differences", drawn_table(t)) for t in tables[len(compared.contests) :]]
    warned = [section("Warnings", bullets(compared.warnings), class_="warnings")]
    head = element("header", element("p", "m2m compare", class_="kicker"), element("h1", title))
    shown = warned if compared.warnings else []
    return document(title, element("body", element("main", head, shown, charts, others)))


def _chart(contest: Contest, number: int) -> Markup:
    width, top = 460.0, 6.0
    values = [v for e in contest.entries for v in (e.score.low, e.score.high, e.base.estimate)]
    x = scale(values, 12, width - 12)
    marks: list[Markup] = []
    y = top
    for entry in contest.entries:
        words = paragraph(14, y + 13, f"{entry.name}: {', '.join(entry.mixtures)}", 62)
        marks += words
        y += LINE * (len(words) - 1)
        span = entry.score
        own = interval(x, y + 29, span.low, span.estimate, span.high, "test")
        base = group(dot(x(entry.base.estimate), y + 29, 4, "dot"), class_="dev")
        told = f"{entry.name}: {span}; base {entry.base.estimate:z.3f}"
        marks.append(group(base, own, title=told))
        y += _ROW
    bottom = y + 4
    marks = [*axis_below(x, bottom, contest.metric, top), *marks]
    titles = (contest.title, f"Scores of {len(contest.entries)} recipes with 95 % intervals")
    return figure(f"contest{number}", (width, bottom + 40), titles, *marks)
