"""Find the first line at which two files of translated sentences no longer match.

Translations have lengths in proportion and the same numbers in them. If one file lost lines, all
later pairs are pairs of strangers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DIGITS = re.compile(r"\d+")
_MOST_LINES = 20_000  # that are looked at
_MOST_CELLS = 4_000_000  # lines times the lines that are missing
_GAP = 1.0  # the cost of leaving out lines
_SAVED = 1.5  # cost that the gaps save at least, or they may be chance
_CLEAR = 0.8  # of the cost of pairs of strangers


def first_parting(one: Sequence[str], other: Sequence[str]) -> int | None:
    """Return the place (from 0) of the first pair that does not fit; None if that is not clear.

    The shorter file is aligned with the longer one: a gap may open before any line. The cheapest
    alignment wins, and the place of its first gap is returned.
    """
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    missing = len(longer) - len(shorter)
    shorter = shorter[:_MOST_LINES]
    if not shorter or not missing or len(shorter) * (missing + 1) > _MOST_CELLS:
        return None
    costs = _costs(longer[: len(shorter) + missing], shorter, missing)  # (lines, shifts)
    total = np.full(missing + 1, _GAP)
    total[0] = 0.0
    shifts = np.empty(costs.shape, np.int32)  # by how much the line before was shifted
    places = np.arange(missing + 1)
    for line, cost in enumerate(costs):
        best = np.minimum.accumulate(total)
        first = np.maximum.accumulate(np.where(total == best, places, 0))
        opened = np.concatenate([[np.inf], best[:-1]]) + _GAP
        shifts[line] = np.where(opened < total, np.concatenate([[0], first[:-1]]), places)
        total = np.minimum(total, opened) + cost
    shift = int(total.argmin())
    saved = costs[:, 0].sum() - total[shift]
    strangers = _costs(shorter[::-1], shorter, 0).sum()
    if saved < _SAVED or total[shift] > _CLEAR * strangers:
        return None
    parting = len(shorter)
    for line in range(len(shorter) - 1, -1, -1):
        if shift:
            parting = line
        shift = int(shifts[line, shift])
    return parting


def _costs(longer: Sequence[str], shorter: Sequence[str], missing: int) -> NDArray[np.float64]:
    """Return (lines, missing + 1) how badly line i of the shorter file fits line i + shift."""
    lengths = [np.log([len(line.strip()) + 4.0 for line in lines]) for lines in (longer, shorter)]
    known: dict[str, int] = {}
    numbers = [
        np.array([known.setdefault(" ".join(_DIGITS.findall(line)), len(known)) for line in lines])
        for lines in (longer, shorter)
    ]
    usual = float(np.median(lengths[0]) - np.median(lengths[1]))
    at = np.arange(len(shorter))[:, None] + np.arange(missing + 1)
    costs: NDArray[np.float64] = np.minimum(
        np.abs(lengths[0][at] - lengths[1][:, None] - usual), 1.0
    )
    costs += numbers[0][at] != numbers[1][:, None]
    return costs
