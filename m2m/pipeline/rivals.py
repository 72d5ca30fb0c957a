"""Compare the merge with its rivals on the fine-tunes of a validation.

Predictions are compared on all fine-tunes of the recipe's regime. Picks are compared at equal cost:
each is fine-tuned for as many steps as the merge's pick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from m2m.counted import counted
from m2m.formats.journal import Journal
from m2m.mix.agreement import LEAST, ScoredPair
from m2m.mix.comparison import apart, foresight
from m2m.mix.halving_rival import halving
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.rival_predictors import (
    HALVING,
    MERGE,
    NESTED,
    RANDOM,
    RIVALS,
    UNION,
    KnownScores,
    nested,
)
from m2m.mix.scoreboard import metric_name
from m2m.mix.study import Study
from m2m.mix.validation_plan import SURROGATE
from m2m.pipeline.equal_cost import Pool
from m2m.pipeline.finetunes import training_rows
from m2m.pipeline.likeness import hidden_features, token_features
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.trained_run import TrainedRun
from m2m.results.rivals import Pick, RivalResult, Rivals

_WRITTEN = "not for a metric of written answers"
_UNREAD = "not measured"
_SHORTER = (
    "needs four of these mixtures fine-tuned for fewer steps too: m2m validate RECIPE --budget N"
)


@dataclass(frozen=True)
class FineTunes:
    """Real fine-tunes of n mixtures.

    Attributes:
        steps: (n,) of each.
        judged_on: split of the questions that they are scored on.
        real: their scores.
    """

    mixtures: Sequence[Mixture]
    steps: Sequence[int]
    judged_on: str
    real: ScoredPair


def known_scores(run: TrainedRun) -> KnownScores:
    """Score base and experts on all dev questions, if the search did not, and read the texts."""
    inputs = run.inputs
    with open_scorer(inputs, run.experts, inputs.dev, scratch=run.own) as scorer:
        study = Study(Journal(run.files.study), scorer)
        base = study.trial(BASE)
        singles = {name: study.trial(Mixture.uniform([name])) for name in run.experts}
    return KnownScores(
        base,
        singles,
        inputs.objectives,
        inputs.recipe.growth,
        inputs.recipe.search.seed,
        training_rows(inputs, run.experts),
        token_features(inputs),
        hidden_features(inputs),
        inputs.controls,
    )


def compare(
    known: KnownScores,
    predicted: Mapping[str, ScoredPair],
    tuned: FineTunes,
    picks: Mapping[str, Mixture],
    pool: Pool,
    budget: int,
) -> Rivals:
    """Return how well the merge and each rival predict and choose.

    Args:
        known: the scores that rivals predict from.
        predicted: scores of the mixtures in `tuned`, by predictor, the surrogate's first.
        tuned: fine-tunes of the recipe's regime.
        picks: by rival.
        pool: fine-tunes of the picks and others, of one length.
        budget: training steps of a whole run, for rivals that fine-tune many mixtures.
    """
    places = np.flatnonzero([len(mixture.datasets) > 1 for mixture in tuned.mixtures])
    lengths = [tuned.steps[int(place)] for place in places] or [pool.steps]
    metric = metric_name(known.objectives)
    guesses = {
        MERGE if name == SURROGATE else name: scores[places] for name, scores in predicted.items()
    }
    foreseen = foresight(guesses, tuned.real[places], apart(metric), known.seed)
    rows = []
    for name in (MERGE, *RIVALS):
        if name == UNION and name not in picks:
            continue  # datasets of one size: all rows are all datasets in equal proportions
        pick, note = _pick(name, known, picks, pool, budget)
        if name != MERGE and RIVALS[name].predict and name not in guesses:
            note = _WRITTEN if known.written else _UNREAD
        rows.append(RivalResult(name, foreseen.get(name), pick, note))
    return Rivals(
        judged_on=tuned.judged_on,
        metric=metric,
        lengths=(min(lengths), max(lengths)),
        apart=apart(metric),
        steps=pool.steps,
        pool=len(pool.mixtures),
        rows=rows,
    )


def _pick(
    name: str, known: KnownScores, picks: Mapping[str, Mixture], pool: Pool, budget: int
) -> tuple[Pick | None, str]:
    """Return a way's pick at equal cost, and a note about it."""
    merge = pool.mixtures.index(picks[MERGE])
    if name in picks:
        return pool.pick(pool.places([picks[name]]), [1.0], merge), ""
    if name == NESTED:
        places = pool.places(nested(known))
        best = places[int(np.argmax(pool.dev.points[places]))]
        sizes = sorted(len(pool.mixtures[place].datasets) for place in places)
        note = f"best on dev of k = {', '.join(map(str, sizes))}"
        return pool.pick([best], [1.0], merge), note
    if name == RANDOM:
        places = pool.places([*filter(known.is_right, pool.mixtures)])
        return pool.pick(places, [1.0] * len(places), merge), f"mean of all {len(places)}"
    if name == HALVING:
        return _halved(known, pool, merge, budget)
    return None, ""


def _halved(known: KnownScores, pool: Pool, merge: int, budget: int) -> tuple[Pick | None, str]:
    """Return the expected pick of successive halving with the steps that a whole run takes."""
    common = {*filter(known.is_right, pool.mixtures)}
    lengths = []
    for length, scores in sorted(pool.shorter.items(), key=lambda item: -len(item[1])):
        if len(common & scores.keys()) >= LEAST:
            common &= scores.keys()
            lengths.append(length)
    order = [mixture for mixture in pool.mixtures if mixture in common]
    places = pool.places(order)
    dev = {
        length: np.array([pool.shorter[length][mixture] for mixture in order]) for length in lengths
    }
    dev[pool.steps] = pool.dev.points[places]
    race = halving(dev, budget, known.seed, continued=pool.continued)
    if race is None:
        return None, _SHORTER
    note = (
        f"mean over random starts: {race.starters} of {counted(len(order), 'mixture')}, rungs of "
        f"{', '.join(map(str, race.lengths))} steps, {race.steps:,} in all"
    )
    taken = [i for i, fraction in enumerate(race.picks) if fraction]
    weights = [float(race.picks[i]) for i in taken]
    return pool.pick([places[i] for i in taken], weights, merge), note
