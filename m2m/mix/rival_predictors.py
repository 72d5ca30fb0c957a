"""Rivals of the merge: other ways to predict which mixture to fine-tune on, or to choose one.

A rival that cannot be beaten makes merging unnecessary. `RIVALS` is the only list of them. Each is
a function of scores that exist before any mixture is merged or fine-tuned: those of the base and of
each expert by itself, question by question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from m2m.arrays import F64
from m2m.evaluate.metric import REPLICATES
from m2m.evaluate.scores import Scores
from m2m.mix.agreement import ScoredPair
from m2m.mix.estimate import FirstOrder
from m2m.mix.mixture import Mixture, weight_matrix, without_controls
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.similarity import cosines, likeness
from m2m.mix.trial import Trial

_WHOLE_ANSWERS = ("bits_per_byte", "perplexity")  # metrics of the right answer alone

MERGE = "merge_to_mix"
FIRST_ORDER, PROBABILITIES, PER_BYTE = "first_order", "probabilities", "probabilities_per_byte"
MEAN_OF_SINGLES, TOKENS, HIDDEN = "mean_of_singles", "similarity", "hidden_similarity"
ALL, UNION, BEST_SINGLE, NESTED = "all", "union", "best_single", "nested_top_k"
RANDOM, HALVING = "random", "successive_halving"


@dataclass(frozen=True)
class Features:
    """Vectors that describe texts: (V,) of each dataset by its name, and of the target."""

    datasets: Mapping[str, F64]
    target: F64


@dataclass(frozen=True)
class KnownScores:
    """Everything that is known before a mixture is merged or fine-tuned.

    Attributes:
        base: complete scores of the base on dev.
        singles: complete scores of each expert on dev, by dataset.
        objectives: targets with their metrics.
        growth: the recipe's exponent; the merge and its rivals get the same.
        seed: of the resamples of the questions, the same for all, so that rivals are paired.
        rows: number of rows of each dataset; empty if unknown.
        tokens: frequencies of the tokens; None if unknown.
        hidden: mean last hidden states of the base; None if unknown.
        controls: datasets with wrong answers.
    """

    base: Trial
    singles: Mapping[str, Trial]
    objectives: Sequence[Objective]
    growth: float
    seed: int
    rows: Mapping[str, int] | None = None
    tokens: Features | None = None
    hidden: Features | None = None
    controls: Set[str] = frozenset()

    @property
    def right(self) -> list[str]:
        """Return the datasets that a user would choose from."""
        return without_controls(self.singles, self.controls)

    def is_right(self, mixture: Mixture) -> bool:
        """Return whether a user might train on a mixture."""
        return {*mixture.datasets} <= {*self.right}

    @property
    def written(self) -> bool:
        """Return whether a metric judges written texts, which cannot be mixed."""
        return any(objective.metric.written for objective in self.objectives)

    def scored(self, trials: Sequence[Trial], resamples: int = REPLICATES) -> ScoredPair:
        """Return the trials' scores, higher is better, with replicates on the common resamples."""
        known = [self.base, *self.singles.values()]
        board = scoreboard(trials, self.objectives, self.seed, reference=known, resamples=resamples)
        return ScoredPair.of(board)

    def best_singles(self) -> list[str]:
        """Return the datasets without controls, the one with the best expert first."""
        names = self.right
        points = self.scored([self.singles[name] for name in names], 2).points
        return [names[i] for i in np.argsort(-points, kind="stable")]


Predict = Callable[[KnownScores, Sequence[Mixture], int], ScoredPair | None]
Offer = Callable[[KnownScores], list[Mixture]]


@dataclass(frozen=True)
class Rival:
    """One way to choose a mixture.

    Attributes:
        name: in JSON.
        title: for people.
        cost: the work that it needs before its pick is known, for people.
        free: whether it costs nothing if the experts are trained and scored.
        predict: (known, n mixtures, R) -> their scores, with R replicates; its pick is the best,
            a control too, as the merge's may be. None if it cannot predict with this metric or
            without these features.
        offers: the mixtures that it fine-tunes, if it predicts none; the best on dev is its pick.
    """

    name: str
    title: str
    cost: str
    free: bool = False
    predict: Predict | None = None
    offers: Offer | None = None


def _by_question(
    known: KnownScores, mixtures: Sequence[Mixture], resamples: int, predict: Callable[..., Scores]
) -> ScoredPair | None:
    """Score predicted answers: `predict(objective, mixture)` returns those of all questions."""
    if known.written:
        return None
    trials = [
        replace(
            known.base,
            mixture=mixture,
            scores={each.target: predict(each, mixture) for each in known.objectives},
        )
        for mixture in mixtures
    ]
    return known.scored(trials, resamples)


def _first_order(
    known: KnownScores, mixtures: Sequence[Mixture], resamples: int
) -> ScoredPair | None:
    """Add the experts' changes of the log-likelihoods to the base's, as `FirstOrder` does."""
    trials = [known.base, *known.singles.values()]
    models = {
        each.target: FirstOrder.of(trials, each.target, known.growth) for each in known.objectives
    }

    def predict(objective: Objective, mixture: Mixture) -> Scores:
        model = models[objective.target]
        scores = model.predict(mixture) if model else None
        if scores is None:
            raise AssertionError("the base and all experts are scored")
        return scores

    return _by_question(known, mixtures, resamples, predict)


def _mixed(per_byte: bool) -> Predict:
    """Return the mixture of the experts' probabilities, weighted as the datasets are."""

    def predict(
        known: KnownScores, mixtures: Sequence[Mixture], resamples: int
    ) -> ScoredPair | None:
        def mix(objective: Objective, mixture: Mixture) -> Scores:
            experts = [known.singles[name].scores[objective.target] for name in mixture.datasets]
            if objective.metric.name in _WHOLE_ANSWERS:
                return _answers_mixed(experts, mixture.weights)
            return choices_mixed(experts, mixture.weights, per_byte)

        return _by_question(known, mixtures, resamples, mix)

    return predict


def choices_mixed(experts: Sequence[Scores], weights: Sequence[float], per_byte: bool) -> Scores:
    """Return the weighted mean of the experts' probabilities of the choices, as log-likelihoods.

    An expert's probabilities are the softmax over a question's choices of its log-likelihoods
    (n, k) or, with `per_byte`, of its nats per byte: the second leaves an expert's own score as it
    is. Each choice counts as one byte, so that no metric divides by the length once more.
    """
    total = np.zeros_like(experts[0].loglik)
    for scores, weight in zip(experts, weights, strict=True):
        rate = scores.loglik / scores.bytes if per_byte else scores.loglik
        fraction = np.exp(rate - np.nanmax(rate, axis=1, keepdims=True))
        total += weight * fraction / np.nansum(fraction, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):  # a choice that no expert believes in
        mixed = np.log(total)
    one = np.where(np.isfinite(experts[0].bytes), 1.0, np.nan)
    return replace(experts[0], loglik=mixed, bytes=one)


def _answers_mixed(experts: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """Return the weighted mean of the experts' probabilities of whole answers."""
    parts = [s.loglik + np.log(w) for s, w in zip(experts, weights, strict=True) if w > 0]
    return replace(experts[0], loglik=np.logaddexp.reduce(parts, axis=0))


def _mean_of_singles(known: KnownScores, mixtures: Sequence[Mixture], resamples: int) -> ScoredPair:
    """Return the weighted mean of the experts' scores; its distance from the base's grows.

    A merge moves the base's weights by k^growth times the mean of the deltas, so this moves the
    base's score by k^growth times the mean of the experts' changes.
    """
    every = known.scored([known.base, *known.singles.values()], resamples)
    weights = weight_matrix(mixtures, [*known.singles])
    stretch = np.array([sum(mixture.coefficients(known.growth)) for mixture in mixtures])

    def moved(values: F64) -> F64:
        base, singles = values[:1], values[1:]
        moves: F64 = (weights @ (singles - base)).T * stretch
        return base + moves.T

    points = moved(every.points[:, None])[:, 0]
    return ScoredPair(points, moved(every.replicates))


def _alike(of: Callable[[KnownScores], Features | None], measure: Callable[..., F64]) -> Predict:
    def predict(
        known: KnownScores, mixtures: Sequence[Mixture], resamples: int
    ) -> ScoredPair | None:
        features = of(known)
        if features is None:
            return None
        return ScoredPair.exact(measure(mixtures, features.datasets, features.target), resamples)

    return predict


def _union(known: KnownScores) -> list[Mixture]:
    rows = {name: count for name, count in (known.rows or {}).items() if name in known.right}
    return [Mixture.union(rows)] if rows else []


def nested(known: KnownScores) -> list[Mixture]:
    """Return the best dataset, the best two, ..., all, by the experts' own scores."""
    best = known.best_singles()
    tops = [set(best[:count]) for count in range(1, len(best) + 1)]
    return [Mixture.uniform([name for name in known.right if name in top]) for top in tops]


_EXPERTS = "the experts"
RIVALS: Mapping[str, Rival] = {
    rival.name: rival
    for rival in (
        Rival(FIRST_ORDER, "first order, nothing merged", _EXPERTS, True, _first_order),
        Rival(PROBABILITIES, "mixture of the experts' answers", _EXPERTS, True, _mixed(False)),
        Rival(PER_BYTE, "mixture of the answers, by nats per byte", _EXPERTS, True, _mixed(True)),
        Rival(MEAN_OF_SINGLES, "mean of the experts' own scores", _EXPERTS, True, _mean_of_singles),
        Rival(
            TOKENS,
            "likeness of the tokens to the target's",
            "nothing",
            predict=_alike(lambda known: known.tokens, likeness),
        ),
        Rival(
            HIDDEN,
            "likeness of the base's hidden states",
            "the base on some rows",
            predict=_alike(lambda known: known.hidden, cosines),
        ),
        Rival(
            ALL,
            "all datasets in equal proportions",
            "nothing",
            offers=lambda known: [Mixture.uniform(known.right)],
        ),
        Rival(UNION, "all rows of all datasets", "nothing", offers=_union),
        Rival(
            BEST_SINGLE,
            "the best single dataset",
            _EXPERTS,
            offers=lambda known: [Mixture.uniform(known.best_singles()[:1])],
        ),
        Rival(
            NESTED, "the best k datasets by themselves", "the experts, a fine-tune for each k",
            offers=nested,
        ),
        Rival(RANDOM, "a random mixture (mean of all)", "nothing"),
        Rival(HALVING, "successive halving of real fine-tunes", "fine-tunes of several lengths"),
    )
}  # fmt: skip


def picks_of(known: KnownScores, candidates: Sequence[Mixture]) -> dict[str, Mixture]:
    """Return the pick of each rival that chooses before anything is fine-tuned, by its name.

    Args:
        known: the scores and features.
        candidates: the mixtures that the search ranked; predictions choose among them.
    """
    chosen = {}
    for name, rival in RIVALS.items():
        if rival.predict:
            predicted = rival.predict(known, candidates, 2)
            if predicted is not None:
                chosen[name] = candidates[int(np.argmax(predicted.points))]
        elif rival.offers:
            offered = rival.offers(known)
            if len(offered) == 1:
                chosen[name] = offered[0]
    return chosen
