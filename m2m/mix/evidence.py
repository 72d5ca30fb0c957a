"""Collect the evidence for a verdict: pairwise differences of fine-tunes, base and guessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from m2m.counted import counted
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.mix.ranking import Interval, ahead, percentiles
from m2m.mix.scoreboard import Objective, scoreboard
from m2m.mix.trial import Trial

ROUNDING = 1e-9


@dataclass(frozen=True)
class JudgedRival:
    """One model's results on the deciding questions; an interval is positive if it is better.

    Attributes:
        name: for people.
        scores: by target.
        right: by target, how many questions it answers right; only if that can be counted.
        over_base: how far it is ahead of the base model.
        over_chance: by target, how far it is ahead of guessing; only if guessing has a score.
        behind: how far the winner is ahead of it.
        steps: of its training; 0 if there is no need to say.
    """

    name: str
    scores: Mapping[str, float]
    right: Mapping[str, float]
    over_base: Interval
    over_chance: Mapping[str, Interval]
    behind: Interval
    steps: int = 0

    @property
    def after(self) -> str:
        """Return " after 2,400 steps", or "" if all models had the same number."""
        return f" after {counted(self.steps, 'step')}" if self.steps else ""

    @property
    def beats_guessing(self) -> bool:
        """Return whether it beats guessing on any target; True if guessing has no score on one."""
        every = len(self.over_chance) == len(self.scores)
        return not every or any(span.sign > 0 for span in self.over_chance.values())


@dataclass(frozen=True)
class Evidence:
    """The facts that decide a verdict.

    Attributes:
        part: "test", or "dev" if a target has no test questions.
        metrics: by target.
        questions: how many in all targets; `different`: equal ones counted once.
        winner: the fine-tune that is best on dev; `others`: the other fine-tunes.
        leaks: rows of the winner's datasets that are also dev or test questions, by dataset.
        leaked: other fine-tunes that were trained on such rows; `others` does not include them.
        untested: targets without test questions.
        shared: by target, (test questions that are also dev questions, test questions).
        equal_steps: whether others are compared with the winner as it was after their steps.
    """

    part: Literal["test", "dev"]
    metrics: Mapping[str, str]
    questions: int
    different: int
    base: JudgedRival
    winner: JudgedRival
    others: Sequence[JudgedRival] = ()
    leaks: Mapping[str, int] | None = None
    leaked: Sequence[str] = ()
    untested: Sequence[str] = ()
    shared: Mapping[str, tuple[int, int]] | None = None
    equal_steps: bool = False


def weigh(
    trials: Sequence[Trial],
    names: Sequence[str],
    winner: int,
    objectives: Sequence[Objective],
    seed: int,
    equal: Sequence[int] = (),
) -> Evidence:
    """Return the evidence of trials on one part; the objectives have its prefix "test:" or "dev:".

    Args:
        trials: of the base model, then of the fine-tunes that are judged, then of others.
        names: of those that are judged, for people.
        winner: place of the winner.
        objectives: targets with the prefix of the part, and metrics.
        seed: of the resamples.
        equal: for each that is judged, the place of the winner as it was after the same steps.
    """
    board = scoreboard(trials, objectives, seed)
    behind = [
        ahead(board.points, board.replicates, place, board.higher_is_better)[i]
        for i, place in enumerate(equal or [winner] * len(names))
    ]
    part, bare = (
        objectives[0].target.partition(":")[0],
        {a.target: a.target.partition(":")[2] for a in objectives},
    )
    chances = {
        bare[objective.target]: _over_chance(trials, objective, seed) for objective in objectives
    }
    judged = [
        JudgedRival(
            name=name,
            scores={
                bare[a.target]: float(a.metric.value(trial.scores[a.target], None)[0])
                for a in objectives
            },
            right={
                bare[a.target]: right
                for a in objectives
                if (right := right_answers(trial.scores[a.target], a.metric.name)) is not None
            },
            over_base=ahead(board.points, board.replicates, i, board.higher_is_better)[0],
            over_chance={target: spans[i] for target, spans in chances.items() if spans},
            behind=behind[i],
        )
        for i, (trial, name) in enumerate(zip(trials, names, strict=False))
    ]
    asked = [trials[0].scores[objective.target] for objective in objectives]
    return Evidence(
        part="test" if part == "test" else "dev",
        metrics={bare[objective.target]: objective.metric.name for objective in objectives},
        questions=sum(map(len, asked)),
        different=sum(scores.different for scores in asked),
        base=judged[0],
        winner=judged[winner],
        others=[model for i, model in enumerate(judged) if i not in (0, winner)],
        equal_steps=bool(equal),
    )


def with_steps(evidence: Evidence, steps: Mapping[str, int]) -> Evidence:
    """Return the evidence with the number of training steps of each fine-tune, by name."""
    winner, *others = (
        replace(model, steps=steps[model.name]) for model in (evidence.winner, *evidence.others)
    )
    return replace(evidence, winner=winner, others=others)


def _over_chance(trials: Sequence[Trial], objective: Objective, seed: int) -> list[Interval]:
    """Return how far each trial is ahead of guessing; empty if guessing has no score."""
    level = objective.metric.chance(trials[0].scores[objective.target])
    if level is None:
        return []
    board = scoreboard(trials, [objective], seed)
    sign = board.sign
    low, high = percentiles(sign * (board.replicates - level))
    ends = np.where(np.abs([low, high]) < ROUNDING, 0.0, [low, high])
    points = (sign * (board.points - level)).tolist()
    return [Interval(*interval) for interval in zip(points, *ends.tolist(), strict=True)]


def right_answers(scores: Scores, metric: str) -> float | None:
    """Return how many questions are answered right; None if answers cannot be right or wrong."""
    name = "accuracy" if scores.kind in ("choices", "labels") else metric
    if name not in ("accuracy", "answer_match", "exact_match"):
        return None
    return float(METRICS[name].per_example(scores).sum())
