from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2m.mix.mixture import Mixture
from m2m.report.charts import confirmed_chart, overview_chart, ranking_chart, shown, worth_chart
from m2m.report.curves import loss_charts, validation_chart
from m2m.report.svg import Scale, number, scale
from m2m.results.training import Curve
from tests.report import samples

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("aa", "bb", "cc", "dd")


def parsed(chart: str | None) -> ElementTree.Element:
    assert chart is not None
    return ElementTree.fromstring(chart)


def classed(chart: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in chart.iter() if name in (each.get("class") or "").split()]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.integers(2, 8),
)
def test_scales_hold_their_values_and_ticks_are_round(values: list[float], count: int) -> None:
    found = scale(values, 10.0, 110.0)
    assert all(10.0 <= found(v) <= 110.0 for v in values)
    ticks = found.ticks(count)
    assert 1 <= len(ticks) <= count + 2
    assert all(found.low - 1e-6 <= t <= found.high + 1e-6 for t in ticks) or len(set(values)) == 1


def test_ticks_of_a_usual_scale() -> None:
    assert Scale(-0.02, 0.66, 0, 100).ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert number(-0.05) == "\N{MINUS SIGN}0.05"


def test_the_ranking_shows_what_is_in_each_mixture_and_its_interval() -> None:
    ranking = samples.ranking(NAMES)
    chart = parsed(ranking_chart(ranking, NAMES))
    places = shown(ranking)
    assert len(classed(chart, "present")) == sum(len(p.mixture.datasets) for p in places)
    assert len(classed(chart, "absent")) == sum(4 - len(p.mixture.datasets) for p in places)
    assert len(classed(chart, "tied")) == 2
    titles = [each.text or "" for each in chart.iter(f"{SVG}title")]
    assert any(t.startswith("1. aa: 0.500, 95 % interval 0.400 to 0.600") for t in titles)
    ends = [(float(e.get("x1", 0)), float(e.get("x2", 0))) for e in classed(chart, "range")]
    middles = [float(e.get("cx", 0)) for e in classed(chart, "dot")]
    assert all(low < middle < high for (low, high), middle in zip(ends, middles, strict=True))
    assert middles == sorted(middles, reverse=True)


def test_a_larger_share_is_a_larger_dot() -> None:
    ranking = samples.ranking(NAMES)
    first = dataclasses.replace(ranking.places[0], mixture=Mixture(("aa", "bb"), (0.9, 0.1)))
    chart = parsed(ranking_chart(dataclasses.replace(ranking, places=(first,)), NAMES))
    radii = [float(each.get("r", 0)) for each in classed(chart, "present")]
    assert radii[0] > radii[1]


def test_mixtures_between_are_counted() -> None:
    names = tuple(f"d{i}" for i in range(8))
    assert "73 mixtures between" in ranking_chart(samples.ranking(names), names)


def test_worth_is_coloured_by_its_sign_and_sorted() -> None:
    chart = parsed(worth_chart(samples.ranking(NAMES)))
    assert [len(classed(chart, kind)) for kind in ("good", "unclear", "bad")] == [1, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_all_figures_are_well_formed_with_title_and_description(count: int) -> None:
    names = tuple(f"set{i}" for i in range(count))
    ranking = samples.ranking(names)
    charts = [
        ranking_chart(ranking, names),
        overview_chart(ranking),
        worth_chart(ranking),
        confirmed_chart(samples.confirmation((*names, "x")), count),
        *loss_charts(samples.facts(names).curves),
        validation_chart(samples.facts(names).validation or pytest.fail()),
    ]
    for chart in map(parsed, charts):
        named = (chart.get("aria-labelledby") or "").split()
        ids = {each.get("id"): each.text for each in chart if each.get("id")}
        assert len(named) == 2
        assert all(ids[name] for name in named)
        assert "nan" not in ElementTree.tostring(chart, encoding="unicode")


def test_a_long_training_is_drawn_with_few_points() -> None:
    curve = Curve("long", tuple(3 + math.sin(i) for i in range(50_000)), (), 50_000, 1)
    chart = loss_charts([curve])[0]
    assert len(chart) < 8000
    assert re.search(r'class="band"', chart)


def test_empty_and_single_values_draw() -> None:
    loss_charts([Curve("none", (), (), 0, 0), Curve("one", (1.0,), (), 1, 1)])
    validation_chart(dataclasses.replace(samples.validation(NAMES), mixtures=()))
