"""The findings of a run in sentences: the same in the report and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from m2m.mix.facets import Breakdown
from m2m.mix.mixture import Mixture
from m2m.mix.worth import UNKNOWN, VERDICTS
from m2m.results.confirmation import Confirmation
from m2m.results.facts import Facts
from m2m.results.ranking import NOT_SEARCHED, Ranking

COMPARED = {
    1: "is clearly better than",
    -1: "is clearly worse than",
    0: "shows no clear difference to",
}
STANDARD_ERRORS = 2.0  # a model is named if it is ahead on a facet by this many
_NAMED = 8  # mixtures or datasets that are named


def findings(facts: Facts) -> list[str]:
    """Return the answer first, then how sure it is."""
    sentences = []
    if facts.confirmation is not None:
        sentences += facts.confirmation.verdict.lines
    if facts.ranking is not None:
        winner = facts.confirmation.winner.mixture if facts.confirmation else None
        sentences += [*_ties(facts.ranking, winner), *_worth(facts.ranking)]
        if not facts.ranking.places:
            sentences.append(NOT_SEARCHED)
    if facts.confirmation is None:
        sentences.append("Nothing is confirmed yet. Run `m2m confirm RECIPE`.")
    elif facts.ranking is not None:
        sentences.append(_regime(facts))
    if facts.confirmation is not None:
        for breakdown in facts.confirmation.breakdowns:
            sentences += _facets(breakdown, facts.confirmation, len(facts.sources))
    return [*sentences, *([facts.export.self_test.sentence] if facts.export else [])]


def _facets(breakdown: Breakdown, confirmation: Confirmation, datasets: int) -> list[str]:
    """Name the kinds of examples on which another fine-tune is clearly better than the winner."""
    models, sign = confirmation.models, 1 if breakdown.higher_is_better else -1
    sentences = []
    for facet in breakdown.facets:
        scored = [(m, v) for m, v in zip(models, facet.values, strict=True) if m.how == "finetuned"]
        own = facet.values[confirmation.winning]
        model, score = max(scored, key=lambda pair: sign * pair[1].value)
        errors = math.hypot(score.stderr, own.stderr)
        if sign * (score.value - own.value) > STANDARD_ERRORS * errors:
            sentences.append(
                f"But on the facet {facet.name} {model.mixture.short(datasets)} looks better: "
                f"{score.text()} against {own.text()}."
            )
    return sentences


def _ties(ranking: Ranking, winner: Mixture | None) -> list[str]:
    """Say how clear the quick search is, and the winner's rank in it if it was not first."""
    places, count = ranking.places, len(ranking.places)
    if count < 2:
        return []
    tied = [place.mixture.label for place in places if place.tied_with_best]
    if len(tied) == count:
        sentences = [f"The quick search could not separate any of the {count} mixtures."]
    elif len(tied) > 1:
        named = _listed(tied, "; ")
        sentences = [
            f"The quick search could not separate {len(tied)} of the {count} mixtures: {named}."
        ]
    else:
        first = places[0].mixture.label
        sentences = [
            f"In the quick search {first} scored clearly better than the other {count - 1}."
        ]
    own = next((place for place in places if place.mixture == winner), places[0])
    if own.rank > 1:
        sentences.append(
            f"{own.mixture.label} was number {own.rank} there, {own.behind.estimate:z.3f} behind "
            f"{places[0].mixture.label}."
        )
    return sentences


def _listed(names: Sequence[str], between: str) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *more])


def _worth(ranking: Ranking) -> list[str]:
    """Say which datasets help, and which effects are too small to count."""
    by = {
        word: [name for name, verdict in ranking.verdicts.items() if verdict == word]
        for word in (*VERDICTS.values(), UNKNOWN)
    }
    if by[UNKNOWN]:
        return ["No mixture was better than guessing, so nothing can be said of single datasets."]
    up, down = ("raised", "lowered") if ranking.higher_is_better else ("improved", "worsened")
    sentences = [
        f"{start} {_listed(names, ', ')} {end}."
        for start, names, end in (
            ("Adding", by["helpful"], f"usually {up} the score"),
            ("Adding", by["harmful"], f"usually {down} the score"),
            ("Adding", by["neutral"], "made no clear difference"),
        )
        if names
    ]
    if sentences and ranking.smallest_effect:
        sentences.append(f"(Changes below {ranking.smallest_effect:z.3f} do not count.)")
    return [" ".join(sentences)] if sentences else []


def _regime(facts: Facts) -> str:
    """Say how long the models were trained, because the answer depends on it."""
    steps = facts.settings.get("train", {}).get("steps", "as many")
    budget = facts.confirmation.budget if facts.confirmation else "fixed"
    trained = {
        "until": f"Every contender was trained for {steps} steps, the better half for twice as "
        "many, and so on; the last one as long as it paid.",
        "fixed": f"Every model was trained for {steps} steps.",
        "proportional": f"A model on k datasets was trained for k times {steps} steps.",
    }.get(str(budget), f"Every fine-tune was trained for {budget} steps.")
    return f"{trained} For longer training, the answer can change."
