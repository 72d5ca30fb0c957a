"""The study: scores mixtures, remembers each at once, and never scores an example twice.

The journal is an append-only JSONL file with one line per scored mixture and block of examples. Its
key covers everything that can change the scores, so a changed input is never answered from an old
line, and adding a dataset leaves the old lines valid. A kill at any moment loses at most the
mixture in work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from m2m.errors import InputError, Interrupted
from m2m.evaluate.scores import Scores
from m2m.formats.journal import Journal
from m2m.mix.mixture import BASE, Mixture
from m2m.progress import Progress

if TYPE_CHECKING:
    from m2m.mix.order import Order
    from m2m.mix.strategy import Strategy

SCHEMA = 2
READABLE = (1, 2)  # 1: before there were blocks, every line has all examples
Places = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Trial:
    """One scored mixture.

    Attributes:
        mixture: what was merged.
        scores: per-example scores by target name.
        survival: {"gain", "cosine"} of the delta after quantisation; empty for the base.
        scored_tokens: tokens that llama.cpp decoded for it.
        seconds: merge, quantisation, load and scoring.
        places: by target name, which of its examples were scored, in the order of `scores`; empty
            where all were.
    """

    mixture: Mixture
    scores: Mapping[str, Scores]
    survival: Mapping[str, float]
    scored_tokens: int
    seconds: float
    places: Places = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all examples were scored."""
        return not self.places

    @property
    def examples(self) -> int:
        """How many examples were scored."""
        return sum(map(len, self.scores.values()))

    def take(self, places: Places) -> Trial:
        """The trial as if only these of its examples had been scored; costs stay what they were."""
        scores = {}
        for name, wanted in places.items():
            if name not in self.scores:
                continue
            known = self.places.get(name, range(len(self.scores[name])))
            where = {place: i for i, place in enumerate(known)}
            scores[name] = self.scores[name].take([where[place] for place in wanted])
        return Trial(
            self.mixture, scores, self.survival, self.scored_tokens, self.seconds, dict(places)
        )

    def as_json(self) -> dict[str, Any]:
        """The trial as a journal line, without its key."""
        return {
            "mixture": self.mixture.as_json(),
            "places": {name: list(places) for name, places in self.places.items()},
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
                places={n: tuple(some) for n, some in line.get("places", {}).items()},
            )
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"a journal line is no trial: {error!r:.100}: {line!r:.100}",
                "restore the journal from a copy, or move it away to score again",
            ) from error


def joined(parts: Sequence[Trial], totals: Mapping[str, int]) -> Trial:
    """Blocks of one mixture as one trial.

    Args:
        parts: with no example in common.
        totals: examples of each target; where all are there, they come in the file's order.
    """
    if len(parts) == 1:
        return parts[0]
    scores, places = {}, {}
    for name in totals:
        having = [part for part in parts if name in part.scores]
        scores[name] = Scores.join([part.scores[name] for part in having])
        places[name] = tuple(place for part in having for place in part.places[name])
    whole = Trial(
        parts[0].mixture,
        scores,
        parts[0].survival,
        sum(part.scored_tokens for part in parts),
        sum(part.seconds for part in parts),
        places,
    )
    if any(len(places[name]) < total for name, total in totals.items()):
        return whole
    sort = whole.take({name: tuple(range(total)) for name, total in totals.items()})
    return Trial(sort.mixture, sort.scores, sort.survival, sort.scored_tokens, sort.seconds)


class Scorer(Protocol):
    """Makes a mixture's surrogate and scores it."""

    @property
    def examples(self) -> Mapping[str, int]:
        """How many examples each target has."""

    def key(self, mixture: Mixture) -> str:
        """The fingerprint of everything that can change this mixture's scores."""

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """Merge, quantise, load and score the examples at `places`, or all."""


class Study:
    """Asks a strategy for mixtures and scores what the journal does not know of them.

    Args:
        journal: where finished trials are kept.
        scorer: makes and scores surrogates.
        value: a trial as one number, for the progress line.
    """

    def __init__(self, journal: Journal, scorer: Scorer, value: Callable[[Trial], float]) -> None:
        self._journal = journal
        self._scorer = scorer
        self._value = value
        self._lines: dict[str, list[dict[str, Any]]] = {}
        for line in journal.replay():
            if line.get("schema") in READABLE:
                self._lines.setdefault(str(line.get("key")), []).append(line)
        self._known: dict[str, Trial] = {}

    def trial(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """The mixture's trial on the examples at `places` (all, if None).

        What the journal knows is taken from there; the rest is scored now and written down.
        """
        known = self.known(mixture)
        missing = self._missing(known, places)
        if missing is None or any(missing.values()):
            trial = self._scorer.score(mixture, missing)
            key = self._scorer.key(mixture)
            self._journal.append({"schema": SCHEMA, "key": key, **trial.as_json()})
            known = joined([known, trial] if known else [trial], self._scorer.examples)
            self._known[key] = known
        if known is None:
            raise AssertionError("what is not missing is known")
        return known if places is None else known.take(places)

    def known(self, mixture: Mixture) -> Trial | None:
        """All that the journal has of a mixture; None where it has nothing.

        A key knows adapters by their bytes: a dataset may have had another name then, or have a
        twin. The trial bears the names that are asked for.
        """
        key = self._scorer.key(mixture)
        if key not in self._known and key in self._lines:
            parts = [Trial.from_json(line) for line in self._lines.pop(key)]
            self._known[key] = joined(parts, self._scorer.examples)
        found = self._known.get(key)
        return found and dataclasses.replace(found, mixture=mixture)

    def run(self, strategy: Strategy, order: Order, progress: Progress) -> list[Trial]:
        """All trials that the strategy wanted, the base model's first, with all that is known.

        Raises:
            Interrupted: the user asked to stop; finished trials are in the journal.
        """
        seen = {BASE: self.trial(BASE)}
        strategy.tell([seen[BASE]])
        while asks := strategy.ask():
            progress.start("scoring", len(asks), "mixtures")
            told = []
            for ask in asks:
                if progress.stop_requested():
                    raise Interrupted(f"stopped after {len(seen) - 1} scored mixtures")
                whole = ask.examples >= len(order)
                told.append(self.trial(ask.mixture, None if whole else order.first(ask.examples)))
                seen[ask.mixture] = told[-1]
                progress.advance(detail=f"{self._value(told[-1]):.3f} {ask.mixture.label}")
            strategy.tell(told)
            progress.finish()
        return [self.known(mixture) or trial for mixture, trial in seen.items()]

    def _missing(self, known: Trial | None, places: Places | None) -> Places | None:
        """Places to score; None: all of them."""
        if known is None:
            return places
        if known.complete:
            return {}
        every = {name: tuple(range(total)) for name, total in self._scorer.examples.items()}
        return {
            name: tuple(sorted({*wanted} - {*known.places.get(name, ())}))
            for name, wanted in (places or every).items()
        }
