"""The confirmed models' scores by facet: for each language, subject or source of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m2m.evaluate.scores import Scores
from m2m.mix.standing import Aim


def by_facet(
    models: Sequence[Mapping[str, Scores]], aims: Sequence[Aim], parts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each target's metric by facet, for the last of `parts` that it has scores of.

    Args:
        models: per-example scores by target name with a part's prefix, one mapping per model.
        aims: targets and metrics.
        parts: prefix by the part's name, such as {"dev": "dev:", "test": "test:"}.

    Returns:
        `{"target", "part", "metric", "higher_is_better", "facets": [{"name", "examples",
        "values"}]}` for each target whose examples have facets; values are `{"value", "stderr"}`
        in the order of `models`.
    """
    found = []
    for aim in aims:
        keys = {part: prefix + aim.target for part, prefix in parts.items()}
        part, key = [(part, key) for part, key in keys.items() if key in models[0]][-1]
        split = [model[key].by_facet() for model in models]
        facets = [
            {
                "name": name,
                "examples": len(scores),
                "values": [aim.metric.measure(each[name]) for each in split],
            }
            for name, scores in split[0].items()
        ]
        if facets:
            found.append({
                "target": aim.target,
                "part": part,
                "metric": aim.metric.name,
                "higher_is_better": aim.metric.higher_is_better,
                "facets": facets,
            })  # fmt: skip
    return found
