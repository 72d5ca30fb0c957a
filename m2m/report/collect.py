"""Say which data to collect next, from what a run has measured and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from m2m.counted import counted
from m2m.mix.verdict import questions_needed
from m2m.results.facts import DatasetFacts, Facts
from m2m.results.training import Curve

_MOST = 3  # datasets that are named
_USED_UP = 3.0  # passes from which more rows are likelier to help than more steps


def collecting(facts: Facts) -> list[str]:
    """Return sentences on the rows and questions to collect; [] before anything is ranked."""
    return [*_rows(facts), *_questions(facts)]


def _rows(facts: Facts) -> Iterator[str]:
    ranking = facts.ranking
    if ranking is None or not ranking.worth:
        return
    helpful = [name for name, verdict in ranking.verdicts.items() if verdict == "helpful"]
    helpful.sort(key=lambda name: -ranking.worth[name].estimate)
    if not helpful:
        yield (
            "Which rows to collect cannot be said: no dataset clearly raised the score. Try data "
            "of another kind, or more questions."
        )
        return
    curves = {curve.name: curve for curve in facts.curves}
    sources = {source.name: source for source in facts.sources}
    for name in helpful[:_MOST]:
        span = ranking.worth[name]
        start = f"{name} helps (worth {span.estimate:+z.3f}, 95 % range {span.ends})"
        yield _row_sentence(start, sources.get(name), curves.get(name))
    yield (
        "What a hundred more rows would bring was not measured: for that, an expert of half of the "
        "rows has to be trained and compared."
    )


def _row_sentence(start: str, source: DatasetFacts | None, curve: Curve | None) -> str:
    """Say whether a helpful dataset needs more rows or more steps."""
    if source is None or source.rows is None or curve is None or curve.passes is None:
        return (
            f"{start}; how often its rows were seen is not known, so it cannot be said whether it "
            "needs rows or steps."
        )
    rows, passes = counted(source.rows, "row"), curve.passes
    if passes < 1:
        return (
            f"{start}, but training saw only {passes:.0%} of its {rows}: take more steps ([train] "
            "steps) before you collect more of it."
        )
    turned = bool(curve.held_out) and curve.kept_step < curve.held_out[-1][0]
    if turned:
        return (
            f"{start}. Its loss on held-out rows was lowest after {curve.kept_step:,} of "
            f"{counted(curve.held_out[-1][0], 'step')}, so its {rows} are used up: collect more "
            "like these."
        )
    if passes >= _USED_UP:
        return (
            f"{start}. Training saw each of its {rows} {passes:.2g} times: collect more like these "
            "first."
        )
    return (
        f"{start}. Training saw each of its {rows} {passes:.2g} times, so more steps may help as "
        "much as more rows."
    )


def _questions(facts: Facts) -> Iterator[str]:
    """Say how many questions would separate the two best mixtures of the quick search."""
    ranking = facts.ranking
    if ranking is None or len(ranking.places) < 2 or not ranking.places[1].tied_with_best:
        return
    first, second = ranking.places[:2]
    needed = questions_needed(second.behind, ranking.different)
    names = f"{first.mixture.label} from {second.mixture.label}"
    if needed:
        yield f"About {needed:,} different dev questions would separate {names} in the search."
    else:
        yield f"More dev questions would hardly separate {names}: they are too much alike."
