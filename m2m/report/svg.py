"""Draw SVG: a figure with title and description, scales with round ticks, axes, marks.

m2m has its own code for this, because a plotting package would bring many others along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from m2m.report.markup import Child, Markup, element

TICK = 4.0  # length of a tick, in user units as everywhere here (1 = 1 CSS pixel at full width)
LINE = 13.0  # between two lines of one text
CHARACTER = 7.0  # width of a character of the figures' text, in a wide font


@dataclass(frozen=True)
class Scale:
    """A linear map from values to places on the page."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value; values outside stay at the border."""
        fraction = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + fraction * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values within the scale."""
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def scale(values: Iterable[float], start: float, end: float, room: float = 0.03) -> Scale:
    """Make a scale that holds all finite `values`, with some room at both ends."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    spread = (high - low) or abs(high)
    spread = spread if spread > 1e-300 else 1.0  # parts of a smaller spread are zero
    return Scale(low - room * spread, high + room * spread, start, end)


def _round_step(step: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * 0.999)


def number(value: float) -> str:
    """Format a tick's value: as short as its precision allows, with a real minus sign."""
    return f"{round(value, 10):.6g}".replace("-", "\N{MINUS SIGN}")


def figure(name: str, size: tuple[float, float], titles: tuple[str, str], *marks: Child) -> Markup:
    """Make an `<svg>` that screen readers can name.

    Args:
        name: unique on the page.
        size: (width, height); it shrinks with the page down to three quarters of the width.
        titles: its subject in a few words, and in a sentence.
        marks: the content.
    """
    width, height = size
    return element(
        "svg",
        element("title", titles[0], id=f"{name}-title"),
        element("desc", titles[1], id=f"{name}-desc"),
        marks,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        style=f"max-width:{width:g}px;min-width:{min(0.75 * width, width):g}px",
    )


def text(x: float, y: float, content: str, class_: str = "label", **more: str | float) -> Markup:
    """Draw a line of text."""
    return element("text", content, x=x, y=y, class_=class_, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, radius: float, class_: str) -> Markup:
    """Draw a filled circle."""
    return element("circle", cx=x, cy=y, r=radius, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, close: bool = False) -> Markup:
    """Draw a line through points."""
    drawn = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("path", d=f"M{drawn}{'Z' if close else ''}", class_=class_)


def group(*marks: Child, title: str | None = None, class_: str | None = None) -> Markup:
    """Group marks that belong together; `title` appears under the pointer."""
    named = element("title", title) if title else None
    return element("g", named, marks, class_=class_)


def interval(x: Scale, y: float, low: float, value: float, high: float, class_: str) -> Markup:
    """Draw a dot with its interval on a horizontal axis."""
    return group(line(x(low), y, x(high), y, "range"), dot(x(value), y, 4, "dot"), class_=class_)


def axis_below(
    x: Scale, y: float, label: str, top: float | None = None, count: int = 5
) -> list[Markup]:
    """Draw a horizontal axis at height y; with `top`, grid lines up to there."""
    marks = [line(x.start, y, x.end, y, "axis")]
    for tick in x.ticks(count):
        at = x(tick)
        if top is not None:
            marks.append(line(at, top, at, y, "grid"))
        marks.append(line(at, y, at, y + TICK, "axis"))
        marks.append(text(at, y + 16, number(tick), "tick", text_anchor="middle"))
    middle = (x.start + x.end) / 2
    return [*marks, text(middle, y + 33, label, "title", text_anchor="middle")]


def axis_left(
    y: Scale, x: float, label: str, right: float | None = None, count: int = 4
) -> list[Markup]:
    """Draw a vertical axis at x; with `right`, grid lines up to there."""
    marks = [line(x, y.start, x, y.end, "axis")]
    for tick in y.ticks(count):
        at = y(tick)
        if right is not None:
            marks.append(line(x, at, right, at, "grid"))
        marks.append(line(x - TICK, at, x, at, "axis"))
        marks.append(text(x - 7, at + 4, number(tick), "tick", text_anchor="end"))
    if label:
        marks.append(text(x - 7, min(y.start, y.end) - 9, label, "title"))
    return marks


def paragraph(
    x: float, y: float, content: str, characters: int, class_: str = "label"
) -> list[Markup]:
    """Draw all of a text in lines of at most this many characters, `LINE` apart."""
    parts = wrap(content, characters) or [content]
    return [text(x, y + LINE * i, part, class_) for i, part in enumerate(parts)]
