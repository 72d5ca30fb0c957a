"""The study: scores mixtures one by one, remembers each at once, and never scores one twice.

The journal is an append-only JSONL file with one line per scored mixture. Its key covers everything
that can change the scores, so a changed input is never answered from an old line, and adding a
dataset leaves the old lines valid. A kill at any moment loses at most the mixture in work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from m2m.errors import InputError, Interrupted
from m2m.evaluate.scores import Scores
from m2m.formats.journal import Journal
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.search import Strategy
from m2m.progress import Progress

SCHEMA = 1


@dataclass(frozen=True)
class Trial:
    """One scored mixture.

    Attributes:
        mixture: what was merged.
        scores: per-example scores by target name.
        survival: {"gain", "cosine"} of the delta after quantisation; empty for the base.
        scored_tokens: tokens that llama.cpp decoded for it.
        seconds: merge, quantisation, load and scoring.
    """

    mixture: Mixture
    scores: Mapping[str, Scores]
    survival: Mapping[str, float]
    scored_tokens: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The trial as a journal line, without its key."""
        return {
            "mixture": self.mixture.as_json(),
            "scores": {name: scores.to_json() for name, scores in self.scores.items()},
            "survival": dict(self.survival),
            "scored_tokens": self.scored_tokens,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Trial:
        """A trial from its journal line.

        Raises:
            InputError: somebody changed the line.
        """
        try:
            mixture = line["mixture"]
            return cls(
                mixture=Mixture(tuple(mixture["datasets"]), tuple(mixture["weights"])),
                scores={name: Scores.from_json(value) for name, value in line["scores"].items()},
                survival=line["survival"],
                scored_tokens=line["scored_tokens"],
                seconds=line["seconds"],
            )
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"a journal line is no trial: {error!r:.100}: {line!r:.100}",
                "restore the journal from a copy, or move it away to score again",
            ) from error


class Scorer(Protocol):
    """Makes a mixture's surrogate and scores it."""

    def key(self, mixture: Mixture) -> str:
        """The fingerprint of everything that can change this mixture's scores."""

    def score(self, mixture: Mixture) -> Trial:
        """Merge, quantise, load and score."""


class Study:
    """Asks a strategy for mixtures and scores those that the journal does not know.

    Args:
        journal: where finished trials are kept.
        scorer: makes and scores surrogates.
        value: a trial as one number, for the strategy and the progress line.
    """

    def __init__(self, journal: Journal, scorer: Scorer, value: Callable[[Trial], float]) -> None:
        self._journal = journal
        self._scorer = scorer
        self._value = value
        lines = [line for line in journal.replay() if line.get("schema") == SCHEMA]
        self._known = {str(line.get("key")): line for line in lines}

    def trial(self, mixture: Mixture) -> Trial:
        """The mixture's trial, from the journal or else made now and written down."""
        key = self._scorer.key(mixture)
        if key in self._known:
            return Trial.from_json(self._known[key])
        trial = self._scorer.score(mixture)
        line = {"schema": SCHEMA, "key": key, **trial.as_json()}
        self._journal.append(line)
        self._known[key] = line
        return trial

    def run(self, strategy: Strategy, progress: Progress) -> list[Trial]:
        """All trials that the strategy wanted, the base model's first.

        Raises:
            Interrupted: the user asked to stop; finished trials are in the journal.
        """
        progress.start("scoring", strategy.candidates, "mixtures")
        trials = [self.trial(BASE)]
        while (mixture := strategy.ask()) is not None:
            if progress.stop_requested():
                raise Interrupted(f"stopped after {len(trials) - 1} scored mixtures")
            trial = self.trial(mixture)
            value = self._value(trial)
            strategy.tell(mixture, value)
            trials.append(trial)
            progress.advance(detail=f"{value:.3f} {mixture.label}")
        progress.finish()
        return trials
