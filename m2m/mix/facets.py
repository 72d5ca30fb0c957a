"""Score the confirmed models by facet: by language, subject or source of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2m.evaluate.score import Score
from m2m.evaluate.scores import Scores
from m2m.formats.json_fields import JsonFields
from m2m.mix.scoreboard import Objective


@dataclass(frozen=True)
class Facet(JsonFields):
    """One kind of examples of a target, with the score of each model on them."""

    name: str
    examples: int
    values: tuple[Score, ...]


@dataclass(frozen=True)
class Breakdown(JsonFields):
    """A metric by facet on one part ("dev", "test") of a target, for the confirmed models."""

    target: str
    part: str
    metric: str
    higher_is_better: bool
    facets: tuple[Facet, ...]


def by_facet(
    models: Sequence[Mapping[str, Scores]],
    objectives: Sequence[Objective],
    parts: Mapping[str, str],
) -> list[Breakdown]:
    """Return each target's metric by facet, on the last of `parts` for which it has scores.

    Args:
        models: per-example scores by target name with a part's prefix, one mapping per model.
        objectives: targets and metrics.
        parts: prefix by the part's name, such as {"dev": "dev:", "test": "test:"}.

    Returns:
        A breakdown per target whose examples have facets; scores in the order of `models`.
    """
    breakdowns = []
    for objective in objectives:
        keys = {part: prefix + objective.target for part, prefix in parts.items()}
        part, key = [(part, key) for part, key in keys.items() if key in models[0]][-1]
        split = [model[key].by_facet() for model in models]
        facets = tuple(
            Facet(
                name,
                len(scores),
                tuple(objective.metric.measure(by_name[name]) for by_name in split),
            )
            for name, scores in split[0].items()
        )
        if facets:
            metric = objective.metric
            breakdowns.append(
                Breakdown(objective.target, part, metric.name, metric.higher_is_better, facets)
            )
    return breakdowns
