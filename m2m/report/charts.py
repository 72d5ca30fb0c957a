"""The figures of the ranking: mixtures with their datasets, all scores by rank, dataset worth."""

from __future__ import annotations

from collections.abc import Sequence

from m2m.counted import counted
from m2m.evaluate.score import Score
from m2m.mix.ranking import Ranked
from m2m.report.markup import Markup
from m2m.report.svg import (
    CHARACTER,
    LINE,
    Scale,
    axis_below,
    axis_left,
    dot,
    figure,
    group,
    interval,
    line,
    paragraph,
    path,
    scale,
    text,
)
from m2m.results.confirmation import Confirmation
from m2m.results.ranking import BOTTOM, TOP, Ranking

ROW = 21.0
_COLUMN = 20.0
_PLOT = 360.0
_POINTS = 240  # points of the curve over all mixtures


def shown(ranking: Ranking) -> list[Ranked]:
    """Return the top and the bottom of the ranking."""
    places = ranking.places
    return [*places] if len(places) <= TOP + BOTTOM else [*places[:TOP], *places[-BOTTOM:]]


def ranking_chart(ranking: Ranking, names: Sequence[str]) -> Markup:
    """Draw top and bottom mixtures: their datasets (dots), score and 95 % interval."""
    places = shown(ranking)
    longest = 0.75 * CHARACTER * max(map(len, names))  # of the slanted names
    header = 14 + longest
    digits = len(str(max(place.rank for place in places)))
    first = 32 + CHARACTER * 1.1 * digits  # x of the first dataset's column
    left = first + _COLUMN * len(names) + 6
    values = [v for p in places for v in p.ci95]
    base = ranking.base_score
    x = scale([*values, base], left, left + _PLOT)
    gap = _gap(places)
    rows = [header + ROW * (i + 0.5) + (12 if gap is not None and i >= gap else 0)
            for i in range(len(places))]  # fmt: skip
    bottom = rows[-1] + ROW * 0.7
    marks: list[Markup] = [*axis_below(x, bottom, f"{ranking.metric} on dev", header)]
    marks += [_heading(first + _COLUMN * i, header - 6, name) for i, name in enumerate(names)]
    marks += [line(x(base), header, x(base), bottom, "reference"),
              text(x(base), header - 6, "base", "tick", text_anchor="middle")]  # fmt: skip
    marks += [_place(place, y, x, names, first) for place, y in zip(places, rows, strict=True)]
    if gap is not None:
        left_out = f"{counted(len(ranking.places) - TOP - BOTTOM, 'mixture')} between"
        marks.append(text(x.end, rows[gap] - ROW * 0.72, left_out, "tick", text_anchor="end"))
    size = (max(x.end + 16, left + longest), bottom + 40)
    description = (
        f"Surrogate scores of the best {min(TOP, len(places))} of "
        f"{counted(len(ranking.places), 'mixture')}, "
        "and of the last ones; a dot under a dataset's name says that it is in the mixture"
    )
    return figure("ranking", size, ("Ranking of the mixtures", description), *marks)


def _gap(places: Sequence[Ranked]) -> int | None:
    """Return the index of the first row after the left-out mixtures; None if none are left out."""
    ranks = [place.rank for place in places]
    return next((i for i in range(1, len(ranks)) if ranks[i] > ranks[i - 1] + 1), None)


def _heading(x: float, y: float, name: str) -> Markup:
    return text(x, y, name, "label", transform=f"rotate(-45 {x:g} {y:g})")


def _place(place: Ranked, y: float, x: Scale, names: Sequence[str], first: float) -> Markup:
    """Draw one row: rank, dots of the datasets, interval."""
    mark = "=" if place.tied_with_best else ""
    weights = place.mixture.weight_by_dataset
    most = max(weights.values(), default=1.0)
    at = {name: first + _COLUMN * i for i, name in enumerate(names)}
    inside = [at[name] for name in weights if name in at]
    marks = [text(first - 24, y + 4, f"{place.rank}", "label", text_anchor="end"),
             text(first - 21, y + 4, mark, "label")]  # fmt: skip
    marks += [dot(at[name], y, 1.6, "absent") for name in names if name not in weights]
    if len(inside) > 1:
        marks.append(line(min(inside), y, max(inside), y, "link"))
    radius = {name: 2.5 + 3 * (weight / most) ** 0.5 for name, weight in weights.items()}
    marks += [dot(at[name], y, radius[name], "present") for name in weights if name in at]
    kind = "tied" if place.tied_with_best else "behind"
    low, high = place.ci95
    marks.append(interval(x, y, low, place.score, high, kind))
    title = (
        f"{place.rank}. {place.mixture.label}: {place.score:z.3f}, 95 % interval "
        f"{low:z.3f} to {high:z.3f}"
    )
    if place.tied_with_best and place.rank > 1:
        title += "; too close to the best to decide"
    return group(*marks, title=title)


def overview_chart(ranking: Ranking) -> Markup:
    """Draw the scores of all mixtures by rank, with their 95 % intervals as a band."""
    every = max(1, -(-len(ranking.places) // _POINTS))
    places = [*ranking.places[::every]]
    width, height, left, top, bottom = 420.0, 270.0, 52.0, 26.0, 226.0
    x = Scale(1, max(2, len(ranking.places)), left, width - 12)
    y = scale([v for p in places for v in p.ci95], bottom, top)
    marks = [*axis_left(y, left, ranking.metric, width - 12), *axis_below(x, bottom, "rank")]
    upper = [(x(p.rank), y(p.ci95[1])) for p in places]
    lower = [(x(p.rank), y(p.ci95[0])) for p in reversed(places)]
    marks.append(path([*upper, *lower], "band", close=True))
    at = y(ranking.base_score)
    marks += [line(left, at, width - 12, at, "reference"),
              text(left + 5, at - 5, "base", "tick")]  # fmt: skip
    marks.append(path([(x(p.rank), y(p.score)) for p in places], "curve"))
    tied = [p for p in places if p.tied_with_best]
    marks += [dot(x(p.rank), y(p.score), 2.6, "present") for p in tied]
    description = (
        f"Scores of {counted(len(ranking.places), 'mixture')} by rank, best first, with intervals"
    )
    return figure("overview", (width, height), ("All mixtures by rank", description), *marks)


def worth_chart(ranking: Ranking) -> Markup:
    """Draw each dataset's average effect with its interval; zero is marked."""
    worth = sorted(ranking.worth.items(), key=lambda item: -item[1].estimate)
    left, top = 16 + CHARACTER * max(len(name) for name, _ in worth), 8.0
    width = max(420.0, left + 222)
    bottom = top + ROW * len(worth) + 4
    values = [v for _, span in worth for v in (span.low, span.high)]
    x = scale([0.0, *values], left, width - 12)
    marks = axis_below(x, bottom, f"worth in {ranking.metric}", top)
    marks.append(line(x(0), top, x(0), bottom, "reference"))
    for i, (name, span) in enumerate(worth):
        y = top + ROW * (i + 0.5)
        kind = {"helpful": "good", "harmful": "bad"}.get(ranking.verdicts.get(name, ""), "unclear")
        marks.append(group(
            text(left - 10, y + 4, name, "label", text_anchor="end"),
            interval(x, y, span.low, span.estimate, span.high, kind),
            title=f"{name}: {span.in_full}",
        ))  # fmt: skip
    description = "Average gain in the score when a dataset joins a mixture, with 95 % intervals"
    return figure("worth", (width, bottom + 40), ("Worth of each dataset", description), *marks)


def confirmed_chart(confirmation: Confirmation, datasets: int) -> Markup | None:
    """Draw the confirmed models on dev (open) and test (filled) with 95 % intervals."""
    metric = confirmation.metric
    rows = [model for model in confirmation.models if metric in model.dev]
    if not rows:
        return None
    width, high, top = 460.0, 46.0, 6.0
    parts = [part for model in rows for part in (model.dev, model.test) if metric in part]
    ends = [end for part in parts for end in part[metric].ends]
    x = scale(ends, 12, width - 12)
    marks: list[Markup] = []
    y = top
    for model in rows:
        kind = "label strong" if model is confirmation.winner else "label"
        name = f"{model.mixture.short(datasets)} ({model.described})"
        words = paragraph(14, y + 13, name, 62, kind)
        marks += words
        y += LINE * (len(words) - 1)
        for part, at, split in ((model.dev, y + 23, "dev"), (model.test, y + 35, "test")):
            if metric in part:
                marks.append(_estimate(x, at, part[metric], split, name))
        y += high
    bottom = y + 4
    marks = [*axis_below(x, bottom, metric, top), *marks]
    description = (
        f"{metric} of each confirmed model, on dev above and on test below, with intervals"
    )
    return figure("confirmed", (width, bottom + 40), ("Confirmed models", description), *marks)


def _estimate(x: Scale, y: float, score: Score, kind: str, name: str) -> Markup:
    low, high = score.ends
    marks = interval(x, y, low, score.value, high, kind)
    return group(marks, title=f"{kind}: {score.text()}, {name}")
