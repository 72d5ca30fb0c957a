"""The facts as flat records, one CSV file for each kind."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from m2m.escaping import csv_text
from m2m.report.facts import Facts, Model

Value = str | int | float | bool | None
Record = Mapping[str, Value]


def records(facts: Facts) -> dict[str, list[Record]]:
    """All records that there are facts for, by the name of their file."""
    every = {
        "ranking": _ranking(facts),
        "worth": _worth(facts),
        "confirmed": _confirmed(facts),
        "facets": _facets(facts),
        "losses": _losses(facts),
        "validation": _validation(facts),
        "data": _data(facts),
        "costs": _costs(facts),
    }
    return {name: found for name, found in every.items() if found}


def as_csv(found: Sequence[Record]) -> str:
    """CSV with a header (RFC 4180, but with plain line ends); unknown numbers are empty."""
    out = io.StringIO()
    heads = list(dict.fromkeys(key for record in found for key in record))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, heads))
    writer.writerows([_cell(record.get(head)) for head in heads] for record in found)
    return out.getvalue()


def _cell(value: Value) -> Value:
    if isinstance(value, str):
        return csv_text(value)
    return "" if isinstance(value, float) and not math.isfinite(value) else value


def _names(facts: Facts) -> list[str]:
    return [source.name for source in facts.sources]


def _ranking(facts: Facts) -> list[Record]:
    if facts.ranking is None:
        return []
    found: list[Record] = []
    for place in facts.ranking.places:
        shares = place.mixture.shares
        record: dict[str, Value] = {
            "rank": place.rank,
            "tied_with_best": int(place.tied_with_best),
            "mixture": place.mixture.label,
            facts.ranking.metric: place.score,
            "stderr": place.stderr,
            "low": place.ci95[0],
            "high": place.ci95[1],
            "examples": place.examples,
        }
        record |= {f"behind_{part}": v for part, v in vars(place.behind).items()}
        found.append(record | {f"share of {name}": shares.get(name, 0.0) for name in _names(facts)})
    return found


def _worth(facts: Facts) -> list[Record]:
    worth = facts.ranking.worth if facts.ranking else {}
    return [{"dataset": name, **vars(span)} for name, span in worth.items()]


def _confirmed(facts: Facts) -> list[Record]:
    found: list[Record] = []
    for model in facts.confirmation.models if facts.confirmation else ():
        for part, scores in (("dev", model.dev), ("test", model.test)):
            for metric, (value, error) in scores.items():
                scored: Record = {"part": part, "metric": metric, "value": value, "stderr": error}
                found.append({**_model(model), **scored})
    return found


def _model(model: Model) -> dict[str, Value]:
    return {
        "model": model.label,
        "how": model.how,
        "mixture": model.mixture.label,
        "winner": int(model.winner),
    }


def _facets(facts: Facts) -> list[Record]:
    models = facts.confirmation.models if facts.confirmation else ()
    return [
        {
            **_model(model),
            "target": breakdown.target,
            "part": breakdown.part,
            "facet": facet.name,
            "examples": facet.examples,
            "metric": breakdown.metric,
            "value": facet.values[i][0],
            "stderr": facet.values[i][1],
        }
        for breakdown in facts.breakdowns
        for facet in breakdown.facets
        for i, model in enumerate(models)
    ]


def _losses(facts: Facts) -> list[Record]:
    found: list[Record] = []
    for curve in facts.curves:
        held_out = dict(curve.held_out)
        found += [
            {"trained_on": curve.name, "step": i, "loss": loss, "held_out": held_out.get(i)}
            for i, loss in enumerate(curve.losses, 1)
        ]
    return found


def _validation(facts: Facts) -> list[Record]:
    return [
        {
            "mixture": pair.mixture.label,
            "surrogate": pair.surrogate[0],
            "surrogate_stderr": pair.surrogate[1],
            "finetuned": pair.finetuned[0],
            "finetuned_stderr": pair.finetuned[1],
        }
        for pair in (facts.validation.pairs if facts.validation else ())
    ]


def _data(facts: Facts) -> list[Record]:
    return [{**vars(source), "languages": " ".join(source.languages)} for source in facts.sources]


def _costs(facts: Facts) -> list[Record]:
    return [{**vars(cost), "kwh": facts.energy_kwh(cost.seconds)} for cost in facts.costs]
