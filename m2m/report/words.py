"""What a run found, in sentences: the same in the report, on the terminal and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from m2m.mix.mixture import Mixture
from m2m.mix.worth import UNKNOWN, VERDICTS
from m2m.report.facts import Breakdown, Confirmation, Facts, Model, Ranking

HOW = {"base": "unchanged", "merged": "merged", "finetuned": "fine-tuned"}
COMPARED = {
    1: "is clearly better than",
    -1: "is clearly worse than",
    0: "shows no clear difference to",
}
_NO_VERDICT = "This run has no verdict: an older m2m made it. Run `m2m confirm RECIPE` again."
STANDARD_ERRORS = 2.0  # by which a model must be ahead on a facet to be named
_NAMED = 8  # mixtures or datasets that are named


def findings(facts: Facts) -> list[str]:
    """The answer first, then how sure it is."""
    said = []
    if facts.confirmation is not None:
        verdict = facts.confirmation.verdict
        said += verdict.lines if verdict else [_NO_VERDICT]
    if facts.ranking is not None:
        winner = facts.confirmation.winner.mixture if facts.confirmation else None
        said += [*_ties(facts.ranking, winner), *_worth(facts.ranking)]
    if facts.confirmation is None:
        said.append("Nothing is confirmed yet. Run `m2m confirm RECIPE`.")
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


def _ties(ranking: Ranking, winner: Mixture | None) -> list[str]:
    """What the quick search says by itself, and if the winner was not its first, where it was."""
    places, count = ranking.places, len(ranking.places)
    if count < 2:
        return []
    tied = [place.mixture.label for place in places if place.tied_with_best]
    if len(tied) == count:
        said = [f"The quick search could not separate any of the {count} mixtures."]
    elif len(tied) > 1:
        named = _listed(tied, "; ")
        said = [
            f"The quick search could not separate {len(tied)} of the {count} mixtures: {named}."
        ]
    else:
        first = places[0].mixture.label
        said = [f"In the quick search {first} scored clearly better than the other {count - 1}."]
    own = next((place for place in places if place.mixture == winner), places[0])
    if own.rank > 1:
        said.append(
            f"{own.mixture.label} was number {own.rank} there, {own.behind.estimate:.3f} behind "
            f"{places[0].mixture.label}."
        )
    return said


def _listed(names: Sequence[str], between: str) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *more])


def _worth(ranking: Ranking) -> list[str]:
    """Which datasets help, and what is too small to count."""
    by = {
        word: [name for name, found in ranking.verdicts.items() if found == word]
        for word in (*VERDICTS.values(), UNKNOWN)
    }
    if by[UNKNOWN]:
        return ["No mixture was better than guessing, so nothing can be said of single datasets."]
    up, down = ("raised", "lowered") if ranking.higher_is_better else ("improved", "worsened")
    said = [
        f"{start} {_listed(names, ', ')} {end}."
        for start, names, end in (
            ("Adding", by["helpful"], f"usually {up} the score"),
            ("Adding", by["harmful"], f"usually {down} the score"),
            ("Adding", by["neutral"], "made no clear difference"),
        )
        if names
    ]
    if said and ranking.smallest:
        said.append(f"(Changes below {ranking.smallest:.3f} do not count.)")
    return [" ".join(said)] if said else []


def _regime(facts: Facts) -> str:
    """How long the models were trained, which the answer depends on."""
    steps = facts.settings.get("train", {}).get("steps", "as many")
    budget = facts.confirmation.budget if facts.confirmation else "fixed"
    trained = {
        "fixed": f"Every model was trained for {steps} steps.",
        "proportional": f"A model on k datasets was trained for k times {steps} steps.",
    }.get(budget, f"Every fine-tune was trained for {budget} steps.")
    return f"{trained} For longer training, the answer can change."


def chosen_by(tested: bool, shared: Mapping[str, tuple[int, int]]) -> str:
    """How the winner was chosen, and what its test score is worth."""
    if not tested:
        return (
            "Best on the dev questions. No test questions checked it. This score is too optimistic."
        )
    if shared:
        counts = ", ".join(f"{count} of {of} of {name}" for name, (count, of) in shared.items())
        return (
            "Best on the dev questions. Some test questions helped to choose it, because they are "
            f"also dev questions: {counts}."
        )
    return "Best on the dev questions. The test questions did not help to choose it."
