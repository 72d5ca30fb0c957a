"""Validation: how well the surrogates' ranking foretells that of real fine-tunes.

A plan of mixtures is drawn before any of them is fine-tuned, spread evenly over the predicted ranks
and over the sizes, so that what it finds speaks for all mixtures and not for the best few.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2m.mix.agreement import Agreement, Scored, agreement
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval

# The predictors that are compared; each gives every mixture a score, higher is better.
SURROGATE, SINGLES, LIKENESS = "surrogate", "mean_of_singles", "similarity"
# A group of mixtures: for a single dataset at an expert's budget the surrogate is the fine-tune.
MIXED, EVERY = "mixtures", "with_singles"

Agreements = Mapping[str, Agreement | None]


def plan(
    ranking: Sequence[Mixture],
    wanted: Sequence[Mixture],
    count: int,
    rng: np.random.Generator,
) -> list[Mixture]:
    """Mixtures of two datasets or more to fine-tune: stratified by predicted rank and by size.

    After those that are wanted anyway, one comes from each of equal bands of the ranking, of a size
    that the plan has least of. The bands are visited far apart, so that the plan's beginning is
    itself spread over the ranks: stopping early costs precision only.

    Args:
        ranking: all candidates, best first.
        wanted: to be in the plan whatever is drawn; single datasets among them are passed over.
        count: how many mixtures to plan, at most.
        rng: draws within a band.
    """
    candidates = [mixture for mixture in ranking if len(mixture.datasets) > 1]
    planned = [mixture for mixture in dict.fromkeys(wanted) if len(mixture.datasets) > 1][:count]
    bands = np.array_split(np.arange(len(candidates)), max(1, count - len(planned)))
    for band in (bands[i] for i in _far_apart(len(bands))):
        left = [candidates[i] for i in band if candidates[i] not in planned]
        if left and len(planned) < count:
            sizes = Counter(len(mixture.datasets) for mixture in planned)
            fewest = min(sizes[len(mixture.datasets)] for mixture in left)
            fitting = [mixture for mixture in left if sizes[len(mixture.datasets)] == fewest]
            planned.append(fitting[int(rng.integers(len(fitting)))])
    return planned


def _far_apart(count: int) -> list[int]:
    """0 to count - 1 in an order whose every beginning is spread out (van der Corput, base 2)."""
    width = count.bit_length() + 1
    points = (int(f"{i:0{width}b}"[::-1], 2) * count >> width for i in range(1 << width))
    return list(dict.fromkeys(points))


def by_group(one: Scored, other: Scored, mixtures: Sequence[Mixture], seed: int) -> Agreements:
    """Their agreement over mixtures of two datasets or more, and over all."""
    mixed = np.flatnonzero([len(mixture.datasets) > 1 for mixture in mixtures])
    return {
        group: agreement(one[places], other[places], np.random.default_rng(seed))
        for group, places in ((MIXED, mixed), (EVERY, np.arange(len(mixtures))))
    }


@dataclass(frozen=True)
class Validated:
    """One mixture: what was predicted for it, and what its fine-tune really scores.

    Attributes:
        rank: predicted, among all candidates; None for one that the search did not rank.
        steps: of its fine-tune.
        predicted: score by predictor.
        stderr: of the surrogate's score.
        real: (score, standard error) of the fine-tune by split, "dev" and "test".
    """

    mixture: Mixture
    rank: int | None
    steps: int
    predicted: Mapping[str, float]
    stderr: float
    real: Mapping[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m validate --json` for one mixture, `finetuned` on fresh examples."""
        return {
            **self.mixture.as_json(),
            "rank": self.rank,
            "steps": self.steps,
            **self.predicted,
            "surrogate_stderr": self.stderr,
            "finetuned": [*self.real.values()][-1][0],
            **{f"finetuned_{split}": value for split, (value, _) in self.real.items()},
            **{f"finetuned_{split}_stderr": error for split, (_, error) in self.real.items()},
        }


@dataclass(frozen=True)
class Validation:
    """How well surrogates foretold real fine-tunes, in the recipe's regime.

    Attributes:
        judged_on: "test", examples that no surrogate was scored on, or "dev" without them.
        agreements: by predictor, split and group ("mixtures" of two datasets or more,
            "with_singles").
        repeatability: of the fine-tunes' scores on dev with those on test, by group: about what a
            perfect surrogate could reach; None without test.
        picks: the mixture that each way of choosing takes.
        regret: how much better the best of all validated is than each pick, on `judged_on`.
    """

    target: str
    metric: str
    higher_is_better: bool
    budget: str | int
    judged_on: str
    examples: Mapping[str, int]
    validated: Sequence[Validated]
    agreements: Mapping[str, Mapping[str, Agreements]]
    repeatability: Agreements | None
    picks: Mapping[str, Mixture]
    regret: Mapping[str, Interval]

    @property
    def headline(self) -> Agreement | None:
        """Surrogates against fine-tunes, on fresh examples and without single datasets."""
        return self.agreements[SURROGATE][self.judged_on][MIXED]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m validate --json`."""
        none = dict.fromkeys(("spearman", "spearman_ci95", "pearson", "pearson_ci95"))
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "budget": self.budget,
            "judged_on": self.judged_on,
            "examples": dict(self.examples),
            **(self.headline.as_json() if self.headline else none),
            "mixtures": [each.as_json() for each in self.validated],
            "singles": sum(len(each.mixture.datasets) == 1 for each in self.validated),
            "agreement": {
                predictor: {split: _json(groups) for split, groups in splits.items()}
                for predictor, splits in self.agreements.items()
            },
            "repeatability": _json(self.repeatability) if self.repeatability else None,
            "picks": {choice: pick.as_json() for choice, pick in self.picks.items()},
            "regret": {choice: lost.estimate for choice, lost in self.regret.items()},
            "regret_ci95": {choice: [lost.low, lost.high] for choice, lost in self.regret.items()},
        }

    def as_csv(self) -> str:
        """The scatter plot's data: one row per mixture."""
        rows = [each.as_json() for each in self.validated]
        names = [name for name in rows[0] if name != "weights"]
        with io.StringIO(newline="") as text:
            writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "datasets": "+".join(row["datasets"])} for row in rows)
            return text.getvalue()


def _json(groups: Agreements) -> dict[str, Any]:
    return {group: found.as_json() if found else None for group, found in groups.items()}
