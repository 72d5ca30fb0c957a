"""Warn in words when a ranking cannot be trusted: each warning has a reason and the next step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.counted import are
from m2m.errors import NOISY, UNSURE, WORTHLESS, WarningText
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.same import in_words
from m2m.export.merged_gguf import LOW_SURVIVAL
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import CONFIDENCE, Ranked
from m2m.mix.scoreboard import Objective, Scoreboard, scoreboard
from m2m.mix.trial import Trial

FEW_EXAMPLES = 30  # with fewer, intervals of a bootstrap are too narrow to be shown alone
ROUNDING = 1e-9
# At least this fraction of the spread of mixtures' scores must be real. If not, a warning names the
# number of examples that would be enough.
RELIABLE = 0.8
# Of the norm of all changed weights: experts beyond this are too far from the base for averages of
# models to work (over-trained experts merge worse: arXiv 2506.14126).
FAR = 0.1
UNEVEN = 3.0  # longest to shortest delta
EQUAL = 0.95  # cosine of two deltas
# Mean cosine of the deltas. The mean of k orthogonal ones is only 1/sqrt(k) as long as they are.
ORTHOGONAL = 0.1
SAME_LENGTH = 0.5  # growth at which the merge of orthogonal deltas is as long as one of them


@dataclass(frozen=True)
class Deltas:
    """The geometry of the experts' deltas: names, (N, N) inner products, and the base's norm."""

    names: Sequence[str]
    gram: NDArray[np.float64]
    base: float

    @property
    def norms(self) -> NDArray[np.float64]:
        """Return the (N,) lengths, as fractions of the base's."""
        lengths: NDArray[np.float64] = np.sqrt(self.gram.diagonal()) / self.base
        return lengths

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Return the (N, N) cosines; 0 if a delta is zero."""
        lengths = np.sqrt(np.outer(self.gram.diagonal(), self.gram.diagonal()))
        return np.divide(self.gram, lengths, out=np.zeros_like(self.gram), where=lengths > 0)


def above_chance(
    boards: Sequence[Scoreboard], trials: Sequence[Trial], objectives: Sequence[Objective]
) -> dict[str, frozenset[Mixture] | None]:
    """Return by target the mixtures that are better than guessing; None if guessing has no score.

    Better means that the 95 % interval is. The interval is one-sided and corrected for the number
    of mixtures, because of hundreds some look better by luck.

    Args:
        boards: the trials' scoreboard on each target by itself.
        trials: n of them; those that were scored in part are left out.
        objectives: targets and metrics.
    """
    better: dict[str, frozenset[Mixture] | None] = {}
    tried = [i for i, trial in enumerate(trials) if trial.complete and trial.mixture != BASE]
    for own, objective in zip(boards, objectives, strict=True):
        level = (
            objective.metric.chance(trials[tried[0]].scores[objective.target]) if tried else None
        )
        if level is None:
            better[objective.target] = None
            continue
        ahead = own.sign * (own.replicates[tried] - level)
        lowest = np.quantile(ahead, (1 - CONFIDENCE) / 2 / len(tried), axis=1)
        better[objective.target] = frozenset(
            trials[i].mixture for i, low in zip(tried, lowest, strict=True) if low > ROUNDING
        )
    return better


def few_questions(target: str, examples: int, different: int) -> list[str]:
    """Warn if a target has fewer different questions than `FEW_EXAMPLES`."""
    if different >= FEW_EXAMPLES:
        return []
    count = in_words(examples, different)
    return _noisy([f"{count} of {target} are too few. Write at least {FEW_EXAMPLES}, better 100."])


def mixture_warnings(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    seed: int = 0,
    above: Mapping[str, frozenset[Mixture] | None] | None = None,
) -> list[str]:
    """Return all warnings about some trials, which include the base model's.

    Args:
        trials: scored on all examples.
        objectives: targets and metrics.
        seed: of the resamples.
        above: the result of `above_chance`; None: compute it.
    """
    if above is None:
        above = above_chance(
            [scoreboard(trials, [objective], seed) for objective in objectives], trials, objectives
        )
    warnings = _noisy(_survival(trials))
    mixed = [trial for trial in trials if trial.mixture != BASE]
    for objective in objectives:
        warnings += _repeated(trials, objective)
        if mixed and objective.metric.written:
            best = mixed[scoreboard(mixed, [objective], 0).best]
            warnings += _noisy(cut_answers(best, [objective]))
        warnings += [
            *_chance(trials, above[objective.target], objective),
            *_likelihood(trials, objective),
        ]
    if len(mixed) > 2 and all(len(trial.scores[objectives[0].target]) > 1 for trial in mixed):
        examples = sum(mixed[0].scores[objective.target].different for objective in objectives)
        warnings += _noisy(_examples(scoreboard(mixed, objectives, seed), examples))
    return warnings


def _noisy(warnings: Sequence[str]) -> list[str]:
    return [WarningText(text, NOISY) for text in warnings]


def _survival(trials: Sequence[Trial]) -> list[str]:
    kept = [min(trial.survival.values()) for trial in trials if trial.survival]
    low = float(np.median(kept)) if kept else 1.0
    if low >= LOW_SURVIVAL:
        return []
    return [
        f"Rounding lost part of what was learned ({low:z.2f} kept, {LOW_SURVIVAL:z.2f} needed). "
        "Small differences in the ranking are not real. Score in a finer type ([quantize] type), "
        "or train longer."
    ]


def _repeated(trials: Sequence[Trial], objective: Objective) -> list[str]:
    """Warn of equal questions, which would make all errors too small if counted separately."""
    scores = max((trial.scores[objective.target] for trial in trials), key=len)
    if scores.different == len(scores):
        return []
    count = in_words(len(scores), scores.different)
    return [
        f"{objective.target} has {count}. Equal questions count as one in every error and "
        "interval. Keep one of each."
    ]


def cut_answers(trial: Trial, objectives: Sequence[Objective]) -> list[str]:
    """Warn if written answers that count for an objective reached the limit of tokens."""
    scores = {
        objective.target: trial.scores.get(objective.target)
        for objective in objectives
        if objective.metric.written
    }
    cut = {name: answers.cut_in_words for name, answers in scores.items() if answers}
    return [f"{trial.mixture.label} on {name}: {words}" for name, words in cut.items() if words]


def _chance(
    trials: Sequence[Trial], above: frozenset[Mixture] | None, objective: Objective
) -> list[str]:
    """Warn if nothing is better than guessing."""
    if above is None or above:
        return []
    if (
        objective.metric.written
        and (scores := trials[0].scores[objective.target]).longest > scores.limit
    ):
        return []  # `cut_answers` gives the reason
    return [
        WarningText(
            f"On {objective.target} no model was clearly better than guessing. Do not use this "
            "ranking. Train longer ([train] steps), or write more dev questions.",
            WORTHLESS,
        )
    ]


def _likelihood(trials: Sequence[Trial], objective: Objective) -> list[str]:
    """Warn if the likelihood of the right answer would order the datasets differently."""
    singles = [trial for trial in trials if len(trial.mixture.datasets) == 1]
    if objective.metric.name == "bits_per_byte" or len(singles) < 2:
        return []
    own = scoreboard(singles, [objective], seed=0)
    other = scoreboard(singles, [Objective(objective.target, METRICS["bits_per_byte"])], seed=0)
    best, likeliest = singles[own.best], singles[other.best]
    if best is likeliest:
        return []
    return [
        f"On {objective.target} {best.mixture.label} is the best single dataset by "
        f"{objective.metric.name}, but {likeliest.mixture.label} by bits per byte. Bits per byte "
        "also reward a text that only sounds like an answer. The ranking uses the choice between "
        "right and wrong."
    ]


def reliability(board: Scoreboard) -> float:
    """Return the fraction of the spread of scores over mixtures that is not chance, from -inf to 1.

    1 - noise / spread, like a test's reliability (Cronbach 1951 in its general form): noise is the
    mean variance of the replicates without their common part, spread that of the scores.
    """
    noise = board.replicates - board.replicates.mean(axis=0)
    spread = float(board.points.var(ddof=1))
    return 1.0 - float(noise.var(axis=1, ddof=1).mean()) / spread if spread else -math.inf


def _examples(board: Scoreboard, examples: int) -> list[str]:
    """Warn if much of the spread is chance, with the number of examples that would be enough."""
    fraction = reliability(board)
    if fraction >= RELIABLE:
        return []
    if fraction <= 0:
        return [
            "The differences between the mixtures are only luck. "
            f"{are(examples, 'dev question')} too few. Write more, or train longer so "
            "that the mixtures differ more."
        ]
    enough = examples * (1 - fraction) / fraction * RELIABLE / (1 - RELIABLE)
    rounded = math.ceil(enough / 10) * 10
    return [
        f"{1 - fraction:.0%} of the differences between the mixtures are luck. "
        f"{are(examples, 'dev question')} few for differences this small; "
        f"about {rounded} would be enough."
    ]


def control_warnings(ranking: Sequence[Ranked], controls: Set[str]) -> list[str]:
    """Warn if a dataset with wrong answers is among the best.

    A mixture of many datasets may be good in spite of one, so only the best is looked at, and
    controls alone.
    """
    near = [
        place
        for place in ranking
        if (place.rank == 1 and controls & {*place.mixture.datasets})
        or (place.tied_with_best and controls >= {*place.mixture.datasets})
    ]
    return [
        WarningText(
            f"{place.mixture.label} has answers that are wrong on purpose, and is too close to the "
            "best to decide. Do not trust this ranking. Write more dev questions, or train longer.",
            WORTHLESS,
        )
        for place in near[:1]
    ]


def delta_warnings(deltas: Deltas, growth: float = 0.0) -> list[str]:
    """Return warnings from the experts alone, before anything is scored.

    Args:
        deltas: of the experts.
        growth: of the merged deltas with the number of datasets, the recipe's.
    """
    moved = np.flatnonzero(deltas.gram.diagonal())
    names = [deltas.names[int(i)] for i in moved]
    warnings = [
        f"the expert on {name} changes nothing: all its deltas are zero; is [train] learning_rate "
        "0 or too small?"
        for name in deltas.names
        if name not in names
    ]
    if len(names) < 2:
        return warnings
    norms, cosines = deltas.norms[moved], deltas.cosines[np.ix_(moved, moved)]
    return [*warnings, *_lengths(names, norms), *_angles(names, cosines, growth)]


def _lengths(names: Sequence[str], norms: NDArray[np.float64]) -> list[str]:
    longest, shortest = int(np.argmax(norms)), int(np.argmin(norms))
    warnings = list[str]()
    if norms[longest] > FAR:
        warnings.append(
            WarningText(
                f"Training on {names[longest]} changed the model too much ({norms[longest]:.0%}). "
                "The quick search is not reliable. Use a lower learning_rate or fewer steps.",
                UNSURE,
            )
        )
    if norms[longest] > UNEVEN * norms[shortest]:
        times = norms[longest] / norms[shortest]
        warnings.append(
            f"Training on {names[longest]} changed the model {times:.1f} times as much as training "
            f"on {names[shortest]}, so it counts more in every mixture of both. Look at the rows "
            f"and the loss of {names[shortest]}: too few, too easy, or repeated?"
        )
    return warnings


def _angles(names: Sequence[str], cosines: NDArray[np.float64], growth: float) -> list[str]:
    apart = cosines[np.triu_indices(len(names), 1)]
    warnings, left = [], [*range(len(names))]
    while left:  # all that are like the first one are one warning
        first, *others = left
        same = [i for i in others if cosines[first, i] > EQUAL]
        left = [i for i in others if i not in same]
        if same:
            least = float(cosines[first, same].min())
            at_least = "at least " if len(same) > 1 else ""
            alike = " and ".join(
                [", ".join(names[i] for i in [first, *same[:-1]]), names[same[-1]]]
            )
            warnings.append(
                f"{alike} taught the model the same (cosine {at_least}{least:z.2f}). They may "
                "contain the same rows: `m2m data check` lists them."
            )
    mean = float(apart.mean())
    if mean < ORTHOGONAL and len(names) > 2 and growth < SAME_LENGTH:
        warnings.append(
            f"The datasets teach the model unrelated things (mean cosine {mean:z.2f}), so mixtures "
            "of many datasets look weaker than they are. Check this with `m2m validate`."
        )
    return warnings
