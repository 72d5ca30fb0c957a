"""The findings of a run in sentences: the same in the report and on the terminal."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence

from m2m.counted import counted
from m2m.errors import WarningText
from m2m.mix.facets import Breakdown
from m2m.mix.mixture import Mixture
from m2m.mix.verdict import questions_needed
from m2m.mix.worth import UNKNOWN, VERDICTS
from m2m.progress import duration
from m2m.results.confirmation import Confirmation
from m2m.results.facts import DatasetFacts, Facts, energy_text
from m2m.results.ranking import NOT_SEARCHED, Ranking
from m2m.results.stage import GIB
from m2m.results.training import Curve

COMPARED = {
    1: "is clearly better than",
    -1: "is clearly worse than",
    0: "shows no clear difference to",
}
STANDARD_ERRORS = 2.0  # a model is named if it is ahead on a facet by this many
_NAMED = 8  # mixtures or datasets that are named
_MOST = 3  # helpful datasets whose rows are judged
_USED_UP = 3.0  # passes from which more rows are likelier to help than more steps


def four_questions(facts: Facts) -> list[tuple[str, list[str]]]:
    """Return the questions that a reader has, each with its answer in sentences."""
    return [
        ("What should we train on?", _answer(facts)),
        ("How sure is this?", _certainty(facts)),
        ("What did it cost?", _cost(facts)),
        ("What next?", _next(facts)),
    ]


def findings(facts: Facts) -> list[str]:
    """Return all answers, the most important first."""
    return [sentence for _, sentences in four_questions(facts) for sentence in sentences]


def warnings(facts: Facts) -> list[str]:
    """Return the warnings, gravest first; those that say the same of datasets are one sentence."""
    listed = sorted(facts.warnings, key=lambda text: WarningText(text).gravity)
    every = dict.fromkeys([*listed, *facts.remarks])
    names = sorted((source.name for source in facts.sources), key=len, reverse=True)
    if not names:
        return [*every]
    name = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
    groups: dict[str, list[tuple[str, str]]] = {}  # (text, its only dataset) by form
    for text in every:
        found = name.findall(text)
        alone = found[0] if len(set(found)) == 1 else ""
        groups.setdefault(name.sub("\0", text) if alone else text, []).append((text, alone))
    return [
        same[0][0]
        if len(same) == 1
        else form.replace("\0", _listed([of for _, of in same], ", "), 1).replace(
            "\0", "each of them"
        )
        for form, same in groups.items()
    ]


def _answer(facts: Facts) -> list[str]:
    sentences = []
    if facts.confirmation is not None:
        sentences.append(facts.confirmation.verdict.sentence)
    if facts.ranking is not None:
        if facts.confirmation is None and facts.ranking.places:
            best = facts.ranking.places[0].mixture.label
            sentences.append(f"The quick search proposes {best}. Nothing is confirmed yet.")
        sentences += _worth(facts.ranking)
    if facts.confirmation is not None:
        for breakdown in facts.confirmation.breakdowns:
            sentences += _facets(breakdown, facts.confirmation, len(facts.sources))
    return sentences or ["Nothing is confirmed yet."]


def _certainty(facts: Facts) -> list[str]:
    sentences = [*facts.confirmation.verdict.reasons] if facts.confirmation else []
    if facts.ranking is not None:
        winner = facts.confirmation.winner.mixture if facts.confirmation else None
        sentences += _ties(facts.ranking, winner)
        if not facts.ranking.places:
            sentences.append(NOT_SEARCHED)
    if facts.confirmation is not None and facts.ranking is not None:
        sentences.append(_regime(facts))
    if facts.judged:
        sentences += facts.judged.sentences
    if facts.export:
        sentences.append(facts.export.self_test.sentence)
    count = len(warnings(facts))
    return [*sentences, *([f"{counted(count, 'warning')} below."] if count else [])]


def _cost(facts: Facts) -> list[str]:
    if not facts.stages:
        return ["No time was noted."]
    peak = max(stage.peak_rss_bytes for stage in facts.stages) / GIB
    memory = f", {peak:.1f} GiB of memory at most" if peak else ""
    energy = energy_text(facts.energy_kwh(facts.total))
    drawn = f" (about {energy}, if the machine draws {facts.watts:g} W{facts.gpu_note})"
    watts = drawn if facts.watts else ""
    longest = max(facts.stages, key=lambda stage: stage.seconds)
    most = f" The longest step was {longest.name}: {duration(longest.seconds)}."
    more = most if len(facts.stages) > 1 else ""
    return [f"{duration(facts.seconds)} of work{memory}{watts}.{more}"]


def _next(facts: Facts) -> list[str]:
    confirmation, more = facts.confirmation, collecting(facts)
    if confirmation is None:
        return ["Run `m2m confirm RECIPE`: it fine-tunes the best mixtures for real.", *more]
    advice = confirmation.verdict.advice
    sentences = [f"{advice[:1].upper()}{advice[1:]}"] if advice else []
    sentences += more
    if confirmation.courses:
        sentences += confirmation.courses.outlook
    if facts.export:
        sentences += [
            "Try the model, in the recipe's folder: "
            f"`m2m chat {shlex.quote(str(facts.export.gguf))}`.",
            "Let people who speak the language judge its answers: `m2m judge RECIPE --pairs 40`.",
        ]
    return sentences


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
        sentences = [f"The quick search could not separate any of the {counted(count, 'mixture')}."]
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
        sentences.append(f"(Changes below {ranking.smallest_effect:.2g} do not count.)")
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


def collecting(facts: Facts) -> list[str]:
    """Return sentences on the rows and questions to collect; [] before anything is ranked."""
    return [*_rows(facts), *_questions(facts)]


def _rows(facts: Facts) -> Iterator[str]:
    found = facts.more_rows
    if found:
        yield from found.sentences
    measured = {gain.dataset for gain in found.datasets} if found else set()
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
    for name in [name for name in helpful if name not in measured][:_MOST]:
        span = ranking.worth[name]
        start = f"{name} helps (worth {span.estimate:+z.3f}, 95 % range {span.ends})"
        yield _row_sentence(start, sources.get(name), curves.get(name))
    if not found:
        yield (
            "What a hundred more rows would bring was not measured. `m2m more-rows RECIPE` "
            "measures it."
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
    if UNKNOWN in ranking.verdicts.values():
        return  # nothing was learned, so nothing is to be separated
    first, second = ranking.places[:2]
    needed = questions_needed(second.behind, ranking.different)
    names = f"{first.mixture.label} from {second.mixture.label}"
    if needed:
        yield f"About {needed:,} different dev questions would separate {names} in the search."
    else:
        yield f"More dev questions would hardly separate {names}: they are too much alike."
