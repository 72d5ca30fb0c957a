"""Compare ways of predicting on the same fine-tunes, with differences that are paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from m2m.arrays import F64
from m2m.formats.json_fields import JsonFields
from m2m.mix.agreement import LEAST, ScoredPair, bias_corrected, correlation, holding, ranks
from m2m.mix.ranking import Interval

APART = 0.05  # two fine-tunes whose scores differ by less are equally good in practice
_SCALES = {"chrf": 100.0}  # of metrics that do not go from 0 to about 1
_BLOCK = 1 << 22  # comparisons at a time


@dataclass(frozen=True)
class Foresight(JsonFields):
    """How well predicted scores of n mixtures agree with the real ones.

    Attributes:
        mixtures: n.
        ordered: fraction of the pairs of clearly different fine-tunes that it orders rightly.
        lead: Spearman's correlation of the first predictor minus this one's, on the same
            resamples of mixtures and questions; None for the first.
    """

    mixtures: int
    spearman: Interval
    pearson: Interval
    ordered: Interval
    lead: Interval | None


def apart(metric: str) -> float:
    """Return the smallest difference that counts, in the metric's unit."""
    return APART * _SCALES.get(metric, 1.0)


def foresight(
    predicted: Mapping[str, ScoredPair], real: ScoredPair, least: float, seed: int
) -> dict[str, Foresight]:
    """Return how well each predictor agrees with the fine-tunes; empty for under four mixtures.

    All are computed on the same resamples of mixtures and questions (see `agreement`), so the
    difference between two of them has much less error than each.

    Args:
        predicted: scores of n mixtures by predictor; the first is compared with all others.
        real: scores of their fine-tunes.
        least: pairs of fine-tunes that differ by more are ordered.
        seed: of the resamples of mixtures.
    """
    count, replicates = real.replicates.shape
    if count < LEAST:
        return {}
    drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
    columns = np.arange(replicates)[:, None]
    truth, truths = real.points[None], real.replicates[drawn, columns]
    first: tuple[float, F64] | None = None
    found = {}
    for name, scores in predicted.items():
        guess, guesses = scores.points[None], scores.replicates[drawn, columns]
        rank = float(correlation(ranks(guess), ranks(truth))[0])
        rank_each = correlation(ranks(guesses), ranks(truths))
        found[name] = Foresight(
            count,
            bias_corrected(rank, rank_each),
            bias_corrected(float(correlation(guess, truth)[0]), correlation(guesses, truths)),
            bias_corrected(
                float(ordered_rightly(guess, truth, least)[0]),
                ordered_rightly(guesses, truths, least),
            ),
            None if first is None else _difference(first, (rank, rank_each)),
        )
        first = first or (rank, rank_each)
    return found


def _difference(one: tuple[float, F64], other: tuple[float, F64]) -> Interval:
    """Return one estimate minus the other; a constant predictor has no correlation: nan."""
    gap, each = one[0] - other[0], one[1] - other[1]
    known = each[np.isfinite(each)]
    return holding(gap, known) if np.isfinite(gap) and len(known) else Interval(gap, np.nan, np.nan)


def ordered_rightly(guess: F64, truth: F64, least: float) -> F64:
    """Return the fraction of pairs that are ordered rightly, for each row of two (R, n) arrays.

    Only pairs whose true values differ by more than `least` count; equal guesses count half. A row
    without such a pair is nan.
    """
    count = truth.shape[1]
    block = max(1, _BLOCK // (count * count))

    def parts() -> Iterator[F64]:
        for start in range(0, len(truth), block):
            gaps, guessed = (_gaps(values[start : start + block]) for values in (truth, guess))
            counted = gaps > least
            right = np.where(guessed > 0, 1.0, np.where(guessed == 0, 0.5, 0.0))
            pairs = counted.sum(axis=(1, 2))
            fraction = np.full(len(pairs), np.nan)
            yield np.divide(
                (right * counted).sum(axis=(1, 2)), pairs, out=fraction, where=pairs > 0
            )

    return np.concatenate([*parts()])


def _gaps(values: F64) -> F64:
    gaps: F64 = values[:, :, None] - values[:, None, :]
    return gaps
