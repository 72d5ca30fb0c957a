"""What a run found, in sentences: the same in the report, on the terminal and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from m2m.mix.worth import VERDICTS
from m2m.report.facts import Breakdown, Confirmation, Facts, Model, Ranking

HOW = {"base": "unchanged", "merged": "merged", "finetuned": "fine-tuned"}
COMPARED = {1: "is better than", -1: "is worse than", 0: "cannot be told from"}
STANDARD_ERRORS = 2.0  # by which a model must be ahead on a facet to be named
_NAMED = 8  # mixtures or datasets that are named


def findings(facts: Facts) -> list[str]:
    """The answer first, then how sure it is."""
    said = []
    if facts.confirmation is not None:
        said += _answer(facts.confirmation, len(facts.sources))
    if facts.ranking is not None:
        said += [*_ties(facts.ranking), *_worth(facts.ranking)]
    if facts.confirmation is None:
        said.append("Nothing is confirmed yet: surrogates predict ranks, not scores (m2m confirm).")
    elif facts.ranking is not None:
        said.append(_regime(facts))
    if facts.confirmation is not None:
        for each in facts.breakdowns:
            said += _facets(each, facts.confirmation, len(facts.sources))
    tested = (facts.export or {}).get("self_test") or {}
    return [*said, *([str(tested["sentence"])] if tested.get("sentence") else [])]


def how(model: Model) -> str:
    """ "top 1, fine-tuned"; of the base only "unchanged"."""
    done = HOW.get(model.how, model.how)
    return done if model.how == "base" else f"{model.label}, {done}"


def plus_minus(found: tuple[float, float] | None, digits: int = 3) -> str:
    """A value with its standard error."""
    if found is None:
        return "-"
    value, error = found
    return f"{value:.{digits}f} ± {error:.{digits}f}" if error == error else f"{value:.{digits}f}"


def energy(kwh: float) -> str:
    """ "24.9 Wh" or "1.2 kWh"."""
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{1000 * kwh:.3g} Wh"


def _answer(found: Confirmation, datasets: int) -> list[str]:
    winner, metric = found.winner, found.metric
    part = "test" if metric in winner.test else "dev"
    base = next((model for model in found.models if model.how == "base"), None)
    scores = {"dev": winner.dev, "test": winner.test}[part]
    against = ""
    if base is not None and metric in (of := base.test if part == "test" else base.dev):
        against = f"; the unchanged base gets {plus_minus(of[metric])}"
    tail = f": {plus_minus(scores[metric])} {metric} on {part}{against}" if metric in scores else ""
    said = [f"Fine-tune on {winner.mixture.label}{tail}."]
    compared = [m for m in found.models if m.ahead and not m.winner and m.how != "merged"]
    for sign, words in COMPARED.items():
        others = [m for m in compared if m.ahead and m.ahead.sign == sign]
        if others:
            named = "; ".join(
                f"{_named(m, datasets)} by {m.ahead.signed}" for m in others if m.ahead
            )
            said.append(f"On test it {words}: {named}.")
    if not compared:
        said.append("There is no test set: this score chose the winner, and so flatters it.")
    return said


def _named(model: Model, datasets: int) -> str:
    return "the unchanged base" if model.how == "base" else model.mixture.short(datasets)


def _facets(found: Breakdown, confirmation: Confirmation, datasets: int) -> list[str]:
    """Where another fine-tune is clearly better than the winner on one kind of examples."""
    models, sign = confirmation.models, 1 if found.higher_is_better else -1
    said = []
    for facet in found.facets:
        scored = [(m, v) for m, v in zip(models, facet.values, strict=True) if m.how == "finetuned"]
        own = next((value for model, value in scored if model.winner), None)
        if own is None:
            continue
        model, (value, error) = max(scored, key=lambda each: sign * each[1][0])
        if sign * (value - own[0]) > STANDARD_ERRORS * math.hypot(error, own[1]):
            said.append(
                f"But on the facet {facet.name} {model.mixture.short(datasets)} looks better: "
                f"{plus_minus((value, error))} against {plus_minus(own)}."
            )
    return said


def _ties(ranking: Ranking) -> list[str]:
    tied = [place for place in ranking.places if place.tied_with_best]
    if len(tied) <= 1:
        return [f"Its surrogate is ahead of all other {len(ranking.places) - 1} at 95 %."]
    named = _listed([place.mixture.label for place in tied], "; ")
    return [
        f"By their surrogates {len(tied)} of {len(ranking.places)} mixtures cannot be told from "
        f"the best (95 %, all considered): {named}."
    ]


def _listed(names: Sequence[str], between: str) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *more])


def _worth(ranking: Ranking) -> list[str]:
    said = []
    for sign, words in VERDICTS.items():
        names = [name for name, span in ranking.worth.items() if span.sign == sign]
        if names:
            said.append(f"{words.capitalize()}: {_listed(names, ', ')}")
    return [f"On average over mixtures. {'. '.join(said)}."] if said else []


def _regime(facts: Facts) -> str:
    budget = facts.confirmation.budget if facts.confirmation else "fixed"
    trained = {
        "fixed": "every fine-tune had as many steps as one expert, whatever its mixture",
        "proportional": "a fine-tune had an expert's steps times the number of its datasets",
    }.get(budget, f"every fine-tune had {budget} steps")
    return f"This holds for the budget that was asked about: {trained}."
