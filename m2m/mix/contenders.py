"""Confirmation: choose the mixtures that are really fine-tuned after the search, and their rows.

The surrogate predicts ranks, not scores, and the best of many noisy scores is too optimistic. So
the top mixtures are fine-tuned for real, together with honest baselines, and scored on examples
that the search has never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from m2m.formats.spooled import chained
from m2m.mix.mixture import Mixture, without_controls
from m2m.mix.ranking import Ranked
from m2m.recipe import Confirm
from m2m.recipe.fields import UNTIL
from m2m.tuner.row_mix import draw

Row = TypeVar("Row")

# Two ways to train on everything. If datasets have unequal sizes, the first leaves out rows of the
# large ones and repeats rows of the small ones; the second is the files put together.
ALL, UNION = "all datasets equally", "all rows"


@dataclass(frozen=True)
class Contender:
    """A mixture to fine-tune, and why: "top 1", "best single", or one of `ALL` and `UNION`."""

    label: str
    mixture: Mixture


def contenders(
    ranking: Sequence[Ranked],
    rows: Mapping[str, int],
    confirm: Confirm,
    allows: Callable[[Mixture], bool] = lambda mixture: True,
    controls: Set[str] = frozenset(),
) -> list[Contender]:
    """Return the top of the ranking and the baselines, each mixture once, with all its labels.

    Args:
        ranking: best first.
        rows: how many rows of each dataset are trained on.
        confirm: how many of the top, and which baselines; "until" adds the best datasets together.
        allows: whether the recipe allows a mixture of the best datasets.
        controls: datasets with wrong answers, on which no baseline is trained: it would be too easy
            to beat.
    """
    right = {name: rows[name] for name in without_controls(rows, controls)}
    labelled = [(f"top {ranked.rank}", ranked.mixture) for ranked in ranking[: confirm.top]]
    if confirm.budget == UNTIL:
        labelled += [
            (f"best {len(mixture.datasets)} together", mixture)
            for mixture in _nested(ranking, [*right], confirm.nested)
            if allows(mixture)
        ]
    if "all" in confirm.baselines:
        labelled.append((ALL, Mixture.uniform([*right])))
    if "union" in confirm.baselines:
        labelled.append((UNION, Mixture.union(right)))
    if "best_single" in confirm.baselines and (best := _alone(ranking, right)):
        labelled.append(("best single", Mixture.uniform(best[:1])))
    if not labelled:  # nothing was searched, and the recipe names no baseline of all datasets
        labelled.append((UNION, Mixture.union(right)))
    labels: dict[Mixture, list[str]] = {}
    for label, mixture in labelled:
        labels.setdefault(mixture, []).append(label)
    return [Contender(", ".join(of), mixture) for mixture, of in labels.items()]


def _alone(ranking: Sequence[Ranked], names: Container[str]) -> list[str]:
    """Return those of the datasets that are ranked by themselves, the best first."""
    singles = [ranked.mixture.datasets for ranked in ranking if len(ranked.mixture.datasets) == 1]
    return [name for (name,) in singles if name in names]


def _nested(ranking: Sequence[Ranked], names: Sequence[str], most: int) -> list[Mixture]:
    """Return the best two datasets together, the best three, ... by their scores alone."""
    alone = _alone(ranking, names)
    most = min(most, len(alone))
    return [
        Mixture.uniform([name for name in names if name in alone[:count]])
        for count in range(2, most + 1)
    ]


def budget_steps(confirm: Confirm, expert_steps: int, mixture: Mixture) -> int:
    """Return the optimiser steps of a confirming fine-tune, by the recipe's regime."""
    if confirm.budget == "proportional":
        return expert_steps * len(mixture.datasets)
    return expert_steps if isinstance(confirm.budget, str) else confirm.budget


def mixed_rows(
    rows: Mapping[str, Sequence[Row]], mixture: Mixture, rng: np.random.Generator
) -> Sequence[Row]:
    """Return one epoch of a mixture: as many rows as its datasets have, in its proportions.

    No row of a dataset comes twice before each came once; `rng` draws the rows that come once more
    or are left out.
    """
    total = sum(len(rows[name]) for name in mixture.datasets)
    weights = mixture.weight_by_dataset.items()
    return chained([draw(rows[name], max(1, round(w * total)), rng) for name, w in weights])
