"""The figures of the training: loss curves, and surrogates against real fine-tunes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from m2m.counted import counted
from m2m.evaluate.score import Score
from m2m.report.markup import Markup
from m2m.report.svg import (
    LINE,
    Scale,
    axis_below,
    axis_left,
    dot,
    figure,
    group,
    line,
    paragraph,
    path,
    scale,
)
from m2m.results.courses import Courses
from m2m.results.training import Curve
from m2m.results.validation import Validation

_BINS = 60  # points of a loss curve
_SEEN = 0.02  # fraction of the losses at either end that the common axis may cut off


def loss_charts(curves: Sequence[Curve]) -> list[Markup]:
    """Draw a small figure for each training, all with the same axis of losses."""
    losses = sorted(loss for curve in curves for loss in _thinned(curve.losses)[0])
    held_out = [loss for curve in curves for _, loss in curve.held_out]
    skipped = int(_SEEN * len(losses))
    seen = losses[skipped : len(losses) - skipped]
    return [
        _loss_chart(curve, [0.0, *seen, *held_out], f"loss{i}") for i, curve in enumerate(curves)
    ]


def _loss_chart(curve: Curve, values: Sequence[float], name: str) -> Markup:
    words = paragraph(36, 14, curve.name, 28, "label strong")
    more = LINE * (len(words) - 1)
    width, height, left, top, bottom = 252.0, 168.0 + more, 36.0, 30.0 + more, 126.0 + more
    x = Scale(0, max(1, len(curve.losses)), left, width - 10)
    y = scale(values, bottom, top)
    marks = [
        *words,
        *axis_left(y, left, "", width - 10, 3),
        *axis_below(x, bottom, "step", count=3),
    ]
    means, lows, highs = _thinned(curve.losses)
    size = len(curve.losses) / max(1, len(means))
    steps = [size * (i + 0.5) for i in range(len(means))]
    if means:
        upper = [(x(s), y(v)) for s, v in zip(steps, highs, strict=True)]
        lower = [(x(s), y(v)) for s, v in zip(steps, lows, strict=True)]
        marks.append(path([*upper, *lower[::-1]], "band", close=True))
        marks.append(path([(x(s), y(v)) for s, v in zip(steps, means, strict=True)], "curve"))
    if curve.held_out:
        points = [(x(step), y(loss)) for step, loss in curve.held_out]
        marks.append(path(points, "heldout"))
        marks += [dot(px, py, 2.2, "heldout") for px, py in points]
        marks.append(line(x(curve.kept_step), top, x(curve.kept_step), bottom, "reference"))
    last = f"{means[-1]:.2f}" if means else "unknown"
    description = f"Training loss over {len(curve.losses)} steps, at the end {last} nats per token"
    return figure(name, (width, height), (f"Loss of {curve.name}", description), *marks)


def _thinned(losses: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
    """Return mean, lowest and highest loss of consecutive steps, at most `_BINS` of each."""
    size = max(1, math.ceil(len(losses) / _BINS))
    bins = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [sum(b) / len(b) for b in bins], [min(b) for b in bins], [max(b) for b in bins]


def validation_chart(validation: Validation) -> Markup:
    """Draw each mixture's surrogate (across) and real fine-tune (up), with 95 % intervals."""
    width, height, left, top, bottom = 430.0, 350.0, 54.0, 28.0, 306.0
    judged_on = validation.judged_on
    pairs = [
        (validated.mixture.label, validated.surrogate, validated.real[judged_on])
        for validated in validation.mixtures
    ]
    x = scale(_ends([surrogate for _, surrogate, _ in pairs]), left, width - 14, 0.06)
    y = scale(_ends([tuned for _, _, tuned in pairs]), bottom, top, 0.06)
    metric = validation.metric
    marks = axis_left(y, left, f"{metric} fine-tuned, on {judged_on}", width - 14)
    marks += axis_below(x, bottom, f"{metric} surrogate, on dev", top)
    marks += [_pair(*pair, x, y) for pair in pairs]
    description = f"Scores of {counted(len(pairs), 'mixture')} as surrogates and really fine-tuned"
    titles = ("Surrogate against fine-tuned", description)
    return figure("validation", (width, height + 2), titles, *marks)


def courses_chart(courses: Courses, datasets: int) -> Markup:
    """Draw the dev scores of all contenders by steps; the winner's stands out."""
    width, height, left, top, bottom = 560.0, 330.0, 54.0, 28.0, 286.0
    scores = [check.dev for course in courses.courses for check in course.checks]
    x = Scale(0, max(1, courses.steps), left, width - 14)
    y = scale([end for score in scores for end in _bar(score)], bottom, top, 0.06)
    marks = axis_left(y, left, f"{courses.metric} on dev", width - 14)
    marks += axis_below(x, bottom, "step", top)
    order = sorted(range(len(courses.courses)), key=lambda place: place == courses.winner)
    for place in order:
        course, wins = courses.courses[place], place == courses.winner
        points = [(x(check.steps), y(check.dev.value)) for check in course.checks]
        bars = [
            line(x(check.steps), y(low), x(check.steps), y(high), "range")
            for check in course.checks
            for low, high in [_bar(check.dev)]
        ]
        values = ", ".join(f"{check.dev.value:z.3f} at {check.steps:,}" for check in course.checks)
        marks.append(
            group(
                path(points, "curve" if wins else "course"),
                *(dot(px, py, 3.2, "dot") for px, py in points),
                *bars,
                title=f"{course.mixture.short(datasets)}: {values}",
                class_=f"{'tied' if wins else 'behind'} cross",
            )
        )
    marks.append(line(x(courses.best), top, x(courses.best), bottom, "reference"))
    description = f"Dev scores of {counted(len(courses.courses), 'contender')} by training steps"
    return figure("courses", (width, height), ("How long to train", description), *marks)


def _bar(score: Score) -> tuple[float, float]:
    """Return the ends of a bar of one standard error."""
    error = score.stderr if math.isfinite(score.stderr) else 0.0
    return score.value - error, score.value + error


def _ends(scores: Sequence[Score]) -> list[float]:
    return [end for score in scores for end in score.ends]


def _pair(label: str, surrogate: Score, tuned: Score, x: Scale, y: Scale) -> Markup:
    px, py = x(surrogate.value), y(tuned.value)
    (left, right), (low, high) = surrogate.ends, tuned.ends
    marks = [
        line(x(left), py, x(right), py, "range"),
        line(px, y(low), px, y(high), "range"),
        dot(px, py, 4, "dot"),
    ]
    title = f"{label}: surrogate {surrogate.value:z.3f}, fine-tuned {tuned.value:z.3f}"
    return group(*marks, title=title, class_="tied cross")
