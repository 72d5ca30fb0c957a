"""A scenario's committed results, as the trials and fine-tunes that m2m's own comparisons take."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stored import NAT, NO_CHOICE

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.mix.agreement import LEAST, ScoredPair
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.rival_predictors import HIDDEN, TOKENS, KnownScores
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.trial import Trial

HERE = Path(__file__).resolve().parent
SEED = 0  # of the resamples of the questions


@dataclass(frozen=True)
class Recorded:
    """One scenario.

    Attributes:
        name: of its folders under `scenarios/` and `results/`.
        results: the folder of its results.
        settings: its recipe.
        plan: its plan.
    """

    name: str
    results: Path
    settings: Mapping[str, Any]
    plan: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, here: Path = HERE) -> Recorded:
        """Read the recipe and the plan; the data that they name need not be there."""
        folder = here / "scenarios" / name
        settings, plan = (
            tomllib.loads((folder / file).read_text(encoding="utf-8"))
            for file in ("recipe.toml", "plan.toml")
        )
        return cls(name, here / "results" / name, settings, plan)

    def judged_by(self, metric: str) -> Recorded:
        """Return the same results with another metric than the recipe names."""
        (target,) = self.settings["targets"]
        settings = {**self.settings, "targets": [{**target, "metric": metric}]}
        return replace(self, settings=settings)

    @property
    def datasets(self) -> list[str]:
        """Return the names of all datasets, in the recipe's order."""
        return [dataset["name"] for dataset in self.settings["datasets"]]

    @property
    def expert_steps(self) -> int:
        """Return the steps of an expert."""
        return int(self.settings["train"]["steps"])

    @property
    def steps(self) -> int:
        """Return the steps of the fine-tunes that are compared: the most in the plan."""
        return max(int(group["steps"]) for group in self.plan["finetunes"])

    @property
    def objective(self) -> Objective:
        """Return the target with its metric."""
        (target,) = self.settings["targets"]
        return Objective(target["name"], METRICS[target["metric"]])

    @cached_property
    def _questions(self) -> dict[str, NDArray[Any]]:
        with np.load(self.results / "questions.npz") as arrays:
            return dict(arrays)

    def trial(self, mixture: Mixture, loglik: NDArray[Any], split: str) -> Trial:
        """Return stored log-likelihoods (questions, choices) as the trial of a mixture."""
        gold = self._questions[f"{split}.gold"].astype(np.int64)
        values = np.where(loglik <= NO_CHOICE * NAT, np.nan, loglik / NAT)
        size = self._questions[f"{split}.bytes"].astype(np.float64)
        size = np.where(np.isnan(values), np.nan, size)
        scores = Scores("choices", values, size, size, gold)
        return Trial(mixture, {self.objective.target: scores}, {}, 0, 0.0)

    def mixture(self, stem: str) -> Mixture:
        """Return the mixture that a result's name says."""
        return Mixture.uniform(self.datasets if stem == "all" else stem.split("+"))

    def finetunes(self, ends: int, step: int, split: str) -> dict[Mixture, Trial]:
        """Return the scores after `step` of all fine-tunes with seed 0 that have `ends` steps."""
        trials = {}
        for path in sorted(self.results.glob(f"*-{ends}.npz")):
            if not path.with_suffix(".json").exists():
                continue  # killed between its two files
            mixture = self.mixture(path.stem.removesuffix(f"-{ends}"))
            with np.load(path) as arrays:
                trials[mixture] = self.trial(mixture, arrays[f"{step}.{split}.loglik"], split)
        return trials

    def merges(self, growth: float) -> dict[Mixture, Trial]:
        """Return the scores on dev of all merges with this exponent; empty if not made yet."""
        path = self.results / f"merges-{growth:g}.npz"
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            names = [str(name) for name in arrays["names"]]
            return {
                (mixture := _subset(names, included)): self.trial(mixture, loglik, "dev")
                for included, loglik in zip(arrays["included"], arrays["loglik"], strict=True)
            }

    def likenesses(self) -> dict[str, dict[Mixture, float]]:
        """Return the likeness of every mixture to the target, by the rival that ranks by it."""
        path = self.results / "likeness.npz"
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            names = [str(name) for name in arrays["names"]]
            mixtures = [_subset(names, included) for included in arrays["included"]]
            return {
                rival: dict(zip(mixtures, map(float, arrays[rival]), strict=True))
                for rival in (TOKENS, HIDDEN)
            }

    def known(self, growth: float) -> KnownScores | None:
        """Return the base's and all experts' scores on dev; None if an expert is missing."""
        steps = self.expert_steps
        experts = self.finetunes(steps, steps, "dev")
        singles = {name: experts.get(Mixture.uniform([name])) for name in self.datasets}
        with np.load(self.results / "base.npz") as arrays:
            base = self.trial(BASE, arrays["0.dev.loglik"], "dev")
        known = {name: trial for name, trial in singles.items() if trial}
        if len(known) < len(singles):
            return None
        return KnownScores(base, known, [self.objective], growth, SEED)

    def scored(self, trials: Sequence[Trial]) -> ScoredPair:
        """Return scores on the same resamples of the questions, higher is better."""
        return ScoredPair.of(scoreboard(trials, [self.objective], SEED))

    def shorter(self) -> dict[int, dict[Mixture, float]]:
        """Return dev scores after fewer steps of the fine-tunes that are compared."""
        points = sorted(
            {
                int(step)
                for group in self.plan["finetunes"]
                if group["steps"] == self.steps
                for step in group["score_at"]
            }
        )
        found = {}
        for step in points:
            trials = self.finetunes(self.steps, step, "dev")
            if len(trials) >= LEAST:
                scores = self.scored([*trials.values()]).points
                found[step] = dict(zip(trials, map(float, scores), strict=True))
        return found


def _subset(names: Sequence[str], included: NDArray[np.bool_]) -> Mixture:
    return Mixture.uniform([name for name, one in zip(names, included, strict=True) if one])
