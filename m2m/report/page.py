"""Build the report as one HTML page: no script, and no font or image from elsewhere."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m2m.counted import counted, millions
from m2m.evaluate.same import in_words
from m2m.formats.json_fields import plain
from m2m.progress import duration
from m2m.recipe import LISTS, SECTIONS
from m2m.recipe.new_recipe import toml_value
from m2m.report.charts import (
    confirmed_chart,
    overview_chart,
    ranking_chart,
    worth_chart,
)
from m2m.report.curves import courses_chart, loss_charts, validation_chart
from m2m.report.markup import Markup, element
from m2m.report.parts import bullets, captioned, document, drawn_table, more, section
from m2m.report.words import findings, four_questions, warnings
from m2m.results.answers import Answers
from m2m.results.confirmation import confirmed_table, facet_tables
from m2m.results.courses import courses_table
from m2m.results.facts import Facts, cost_table, source_table
from m2m.results.judging import judged_table
from m2m.results.more_rows import more_rows_table
from m2m.results.ranking import Ranking, ranking_tables
from m2m.results.training import training_table
from m2m.results.validation import validation_tables

_PREDICTS = (
    "The surrogate, base + merge of the experts' deltas, predicts ranks, not scores, and for "
)
_REGIMES = {
    "until": "equal steps: the contenders are compared after the same number of steps. A longer "
    "final training can change their order.",
    "fixed": "one training budget: each mixture with the same number of steps. A longer final "
    "training can change the order.",
    "proportional": "training in proportion: k datasets with k times an expert's steps. If all "
    "mixtures get the same number of steps, mixtures of few datasets rank higher.",
}
_LIMITS = (
    "The highest of many uncertain scores is partly luck. That is why the winner is judged on test "
    "questions, and why mixtures that are too close to decide are shown as such.",
    "Intervals cover the choice of examples (a bootstrap over them, the same resamples for all "
    "mixtures), not other seeds, other prompts or another task.",
)


def page(facts: Facts) -> str:
    """Return the whole page."""
    title = facts.head("title") or f"{facts.name}: which datasets to fine-tune on"
    body = element("body", element("main", _header(facts), list(_sections(facts))))
    made_by = f"m2m {facts.versions.get('m2m', '')}".strip()
    return document(title, body, element("meta", name="generator", content=made_by))


def _header(facts: Facts) -> Markup:
    base, verdict = facts.base, facts.confirmation and facts.confirmation.verdict
    size = base.get("parameters")
    who = [facts.head("project"), facts.head("author"), facts.head("date") or facts.day]
    about = [*filter(None, who), str(base.get("name", "unknown base"))]
    if isinstance(size, int):
        about.append(f"{millions(size)} parameters")
    if facts.ranking:
        about.append(f"target {facts.ranking.target}")
    if facts.sources:
        about.append(counted(len(facts.sources), "dataset"))
    if facts.stages:
        about.append(f"{duration(facts.seconds)} of work")
    return element(
        "header",
        element("p", "m2m report", class_="kicker"),
        element("h1", facts.head("title") or f"Which datasets? {facts.name}"),
        element("p", " · ".join(about), class_="about"),
        element("p", f"Verdict: {verdict.kind}", class_="kicker") if verdict else "",
        element("div", [_answered(*pair) for pair in four_questions(facts)], class_="answer"),
        element("p", _typed(facts)) if any("RECIPE" in text for text in findings(facts)) else "",
    )


def _typed(facts: Facts) -> str:
    """Say which file RECIPE stands for in the lines to type; a page knows no command line."""
    overrides = facts.settings.get("overrides", {}).items()
    options = shlex.join(word for name, text in overrides for word in ("--set", f"{name}={text}"))
    file = re.split(r"[/\\]", str(facts.settings.get("recipe", f"{facts.name}.toml")))[-1]
    more = f", with {options} at the end of the line," if options else ""
    return f"For RECIPE type {file}{more} in the folder of that file."


def _answered(question: str, sentences: Sequence[str]) -> Markup:
    return element(
        "div",
        element("h3", question),
        [element("p", sentence) for sentence in sentences],
        class_="part",
    )


def _side_by_side(answers: Answers) -> Markup:
    """Build a block for each question, which fits on the screen of a phone."""

    def line(name: str, text: str, right: bool | None = None) -> list[Markup]:
        mark = "" if right is None else (" (right)" if right else " (wrong)")
        return [element("dt", f"{name}{mark}"), element("dd", text or "(nothing)")]

    return section(
        "Questions, with the answers of both",
        element("p", f"{answers.caption}."),
        [
            element(
                "dl",
                line("Question", row.question),
                line("Right answer", row.right),
                line("Base", row.base, row.base_right),
                line("Winner", row.winner, row.winner_right),
            )
            for row in answers.rows
        ],
    )


def _sections(facts: Facts) -> Iterator[Markup]:
    if said := warnings(facts):
        yield section(f"Warnings ({len(said)})", bullets(said), class_="warnings")
    yield from _results(facts)
    if facts.export and facts.export.serving:
        yield section("How to ask the model", bullets(facts.export.serving))
    yield from _evidence(facts)
    if facts.stages:
        yield section("Time, memory and energy", drawn_table(cost_table(facts)))
    if facts.sources:
        yield section(
            "Data and licences", _licences(facts), drawn_table(source_table(facts.sources))
        )
    searched = facts.ranking is None or facts.ranking.places
    predicts = [_predicts(facts)] if searched else []
    yield section("How to read this", bullets([*predicts, *_LIMITS]))
    yield section(
        "Recipe, seeds and versions",
        element("p", "The recipe with every default; what differs from the defaults is bold."),
        element("pre", _recipe(facts), tabindex="0"),
        bullets([f"{name}: {version}" for name, version in facts.versions.items()]),
    )


def _predicts(facts: Facts) -> str:
    budget = facts.settings.get("confirm", {}).get("budget", "fixed")
    return _PREDICTS + _REGIMES.get(budget, _REGIMES["fixed"])


def _results(facts: Facts) -> Iterator[Markup]:
    """Build the sections of confirmation and ranking."""
    if facts.confirmation:
        chart = confirmed_chart(facts.confirmation, len(facts.sources))
        legend = "Open: dev, by which the winner was chosen. Filled: test. Lines: 95 % intervals."
        table = drawn_table(confirmed_table(facts.confirmation, len(facts.sources)))
        yield section("Confirmed", captioned(chart, legend) if chart else None, table)
        if courses := facts.confirmation.courses:
            legend = (
                "Dev score after more and more steps; lines that end early stopped at a rung. The "
                "dashed line is the kept adapter. Bars: one standard error."
            )
            yield section(
                "How long to train",
                [element("p", sentence) for sentence in courses.sentences],
                captioned(courses_chart(courses, len(facts.sources)), legend),
                more("As a table", drawn_table(courses_table(courses, len(facts.sources)))),
            )
        if answers := facts.confirmation.answers:
            yield _side_by_side(answers)
    if judged := facts.judged:
        said = [element("p", sentence) for sentence in judged.sentences]
        yield section("What people prefer", said, drawn_table(judged_table(judged)))
    if facts.ranking and facts.ranking.places:
        names = [source.name for source in facts.sources] or [*facts.ranking.worth]
        legend = (
            "One row is one mixture: dots say which datasets are in it (larger: a larger weight), "
            "the line is the 95 % interval of its surrogate's score. = and full colour: too "
            "close to the best to decide. Dashed: the base model."
        )
        best, worth_table, *others = ranking_tables(facts.ranking, names)
        yield section(
            "Ranking of the mixtures",
            element("p", f"{_search(facts.ranking)} {' '.join(facts.ranking.notes)}".strip()),
            captioned(ranking_chart(facts.ranking, names), legend),
            more("As a table", drawn_table(best)),
        )
        overview = captioned(
            overview_chart(facts.ranking),
            "All mixtures, best first, with 95 % intervals. Dots: tied with the best.",
        )
        worth = facts.ranking.worth and captioned(
            worth_chart(facts.ranking),
            "The mean gain in the score when a dataset joins a mixture; right of zero it helps.",
        )
        yield section(
            "All scores, and the worth of each dataset",
            element("div", overview, worth or None, class_="side"),
            more("Worth as a table", drawn_table(worth_table)),
            [drawn_table(table) for table in others if table.rows],
        )


def _evidence(facts: Facts) -> Iterator[Markup]:
    """Build the sections of facets, validation and training."""
    if facts.confirmation and facts.confirmation.breakdowns:
        facets = facet_tables(facts.confirmation, len(facts.sources))
        yield section("By facet", *map(drawn_table, facets))
    if facts.more_rows:
        table = more_rows_table(facts.more_rows)
        yield section("What more rows would bring", drawn_table(table))
    if facts.validation and facts.validation.mixtures:
        legend = "One dot is one mixture, as a surrogate and really fine-tuned; 95 % intervals."
        yield section(
            "Do surrogates predict fine-tunes here?",
            captioned(validation_chart(facts.validation), legend),
            [drawn_table(table) for table in validation_tables(facts.validation) if table.rows],
        )
    if facts.curves:
        legend = (
            "Training loss (mean and range of neighbouring steps) in nats per trained token, all "
            "on one axis. If rows were held out, dots are their loss and the dashed line is the "
            "step that was kept."
        )
        charts = element("div", loss_charts(facts.curves), class_="many")
        table = training_table(facts.curves)
        yield section("Training", captioned(charts, legend), more("As a table", drawn_table(table)))


def _search(ranking: Ranking) -> str:
    return (
        f"Search: {ranking.strategy}, {len(ranking.places):,} of "
        f"{counted(ranking.candidates, 'mixture')}, {ranking.scored_tokens:,} scored tokens, "
        f"{in_words(ranking.examples, ranking.different, 'dev questions')} of "
        f"{ranking.target}."
    )


def _licences(facts: Facts) -> Markup:
    base = facts.base
    return element(
        "p",
        f"Base model {base.get('name', 'unknown')}: licence {base.get('licence') or 'not given'}. "
        "Licences of the data are as the recipe gives them; m2m does not read their texts.",
    )


def _recipe(facts: Facts) -> list[Markup]:
    return [
        element("b" if changed else "span", f"{line}\n")
        for line, changed in recipe_lines(facts.settings)
    ]


def recipe_lines(settings: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return each line of a recipe with these settings, and whether it differs from the default."""
    lines: list[tuple[str, bool]] = []
    for name in ("base", *LISTS, *(name for name in SECTIONS if name != "base")):
        value = settings.get(name, {})  # older runs leave out newer sections and fields
        head = f"[[{name}]]" if name in LISTS else f"[{name}]"
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, Mapping):
                lines += [(head, False), *_fields(name, table), ("", False)]
    return lines[:-1]


def _fields(section: str, table: Mapping[str, Any]) -> list[tuple[str, bool]]:
    specs = dataclasses.fields({**SECTIONS, **LISTS}[section])
    defaults = {spec.name: spec.default for spec in specs}
    # A recipe has only one of several fields that exclude each other; steps follow from epochs.
    either = [spec.name for spec in specs if "one_of" in spec.metadata]
    unused = {name for name in either if not table.get(name)}
    unused |= {"steps"} if table.get("epochs") else set()
    whole = {name: plain(default) for name, default in defaults.items() if section in SECTIONS}
    values = whole | dict(table)
    for spec in specs:
        if more := values.pop(spec.metadata.get("aligned", ""), None):
            values[spec.name] = [values[spec.name], *more]
    return [
        (f"{name} = {toml_value(value)}", plain(defaults.get(name)) != plain(value))
        for name, value in values.items()
        if value not in (None, dataclasses.MISSING)
        and name not in unused
        and (value not in ("", []) or plain(defaults.get(name)) != value)
    ]
