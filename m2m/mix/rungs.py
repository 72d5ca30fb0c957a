"""Successive halving of real fine-tunes, and the end of the last one: pure decisions.

All contenders train for the same number of steps. The better half goes on to twice as many, and so
on (Jamieson and Talwalkar 2016, arXiv 1502.07943), until one is left. That one trains on as long as
it pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from m2m.arrays import F64
from m2m.mix.ranking import Interval, ahead, percentiles


def going_on(points: F64, replicates: F64) -> list[int]:
    """Return the places of the contenders that go on, best first: half of them at most.

    A contender in the better half stops too if it is clearly worse than the best. Of contenders
    that the questions do not separate, those with the higher scores go on while there is room.

    Args:
        points: (n,) scores on all dev questions, higher is better.
        replicates: (n, R) scores on the same R resamples of the questions.
    """
    order = np.argsort(-points, kind="stable")
    room = -(-len(points) // 2)
    lead = ahead(points, replicates, int(order[0]))
    return [int(place) for place in order[:room] if lead[place].sign <= 0]


def next_check(first: int, every: int, start: int) -> int:
    """Return the steps of the next check of the last training after `start` steps.

    Args:
        first: steps of the first rung, which are an expert's.
        every: steps between two checkpoints; checks are at multiples of it.
        start: steps so far.
    """
    gap = -(-max(1, first // 2) // every) * every
    return (start // every) * every + gap


# Of a doubling's gain on the log-odds scale: its standard deviation is this part of the trend, and
# at least `WANDERS`. Measured on 35 learning curves of a small model (docs/log.md).
TREND_ERROR, WANDERS = 1.0, 1.0
_EDGE = 0.002  # of the scale; nearer to an end, log-odds are noise


def outlook(
    steps: Sequence[int],
    points: F64,
    replicates: F64,
    best: int,
    scale: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    """Return how much better than the best so far as many steps again would be.

    The last two doublings are taken as a straight line over the logarithm of the steps, on each
    resample by itself; scores between guessing and perfect are turned into log-odds first, because
    most curves are S-shaped. The interval covers the choice of questions, and that the trend
    changes. The gain is never negative, because the best adapter is kept.

    Args:
        steps: (n,) of the checks, ascending.
        points: (n,) scores on dev, higher is better.
        replicates: (n, R) scores on the same R resamples.
        best: place of the best check.
        scale: the score of guessing and the best possible one; infinite if there is none.

    Returns:
        None with fewer than three checks in the last two doublings.
    """
    late = np.flatnonzero(np.array(steps) * 4 >= steps[-1])
    if len(late) < 3:
        return None
    bounded = scale[0] < scale[1] and bool(np.isfinite(scale).all())
    over = np.log2(np.array(steps)[late])
    centred = over - over.mean()
    columns = np.column_stack([points, replicates])  # (n, 1 + R)
    heights = _log_odds(columns[late], scale) if bounded else columns[late]
    slopes = centred @ heights / (centred @ centred)
    expected = heights.mean(axis=0) + slopes * (over[-1] + 1.0 - over.mean())
    error = np.hypot(TREND_ERROR * slopes[0], WANDERS if bounded else 0.0)
    expected[1:] += error * np.random.default_rng(0).standard_normal(len(expected) - 1)
    if bounded:
        expected = scale[0] + (scale[1] - scale[0]) / (1.0 + np.exp(-expected))
    gains = np.maximum(0.0, np.minimum(expected, scale[1]) - columns[best])
    low, high = percentiles(gains[None, 1:])
    return Interval(float(gains[0]), float(low[0]), float(high[0]))


def _log_odds(scores: F64, scale: tuple[float, float]) -> F64:
    part = np.clip((scores - scale[0]) / (scale[1] - scale[0]), _EDGE, 1.0 - _EDGE)
    return np.log(part / (1.0 - part))


# A held-out loss has turned if it was lowest this many checks ago, and has risen by this fraction
# since. The same rows are measured each time, so smaller changes are noise of the training only.
TURNED, RISE = 2, 0.02


def turned(losses: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Return the datasets whose held-out loss has turned while the others' fell, the worst first.

    Args:
        losses: by dataset, its loss at each of the same checks.

    Returns:
        By dataset, the place of the check with its lowest loss.
    """
    found: dict[str, tuple[float, int]] = {}
    for name, own in losses.items():
        lowest = int(np.argmin(own))
        others = [of[-1] - of[lowest] for other, of in losses.items() if other != name]
        rise = own[-1] / own[lowest] - 1.0 if own[lowest] > 0 else 0.0
        late = len(own) - 1 - lowest >= TURNED and min(own[lowest + 1 :]) > own[lowest]
        if late and rise >= RISE and others and sum(others) < 0:
            found[name] = rise, lowest
    return {name: found[name][1] for name in sorted(found, key=lambda name: -found[name][0])}


@dataclass(frozen=True)
class Checks:
    """The checks of the last training.

    Attributes:
        dev: scores on dev, higher is better.
        held_out: losses on the held-out rows, None without such rows.
        rungs: number of the first checks that were rungs, which nobody waits for.
    """

    dev: F64
    held_out: Sequence[float | None]
    rungs: int = 1

    @property
    def best(self) -> int:
        """Return the check with the best dev score, the first of equals."""
        return int(np.argmax(self.dev))

    @property
    def waited(self) -> int:
        """Return the number of checks since dev score or held-out loss last improved."""
        latest = max(self.best, self.rungs - 1)
        losses = [np.inf if loss is None else loss for loss in self.held_out]
        if min(losses) < np.inf:
            latest = max(latest, int(np.argmin(losses)))
        return len(self.dev) - 1 - latest
