"""The study: score mixtures, store each at once, and never score an example twice.

The journal is an append-only JSONL file with one line per scored mixture and block of examples. Its
key covers everything that can change the scores, so a changed input is never answered from an old
line, and adding a dataset leaves the old lines valid. A kill at any moment loses at most the
mixture in progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from m2m.counted import counted
from m2m.errors import Interrupted
from m2m.formats.journal import Journal
from m2m.mix.example_order import ExampleOrder
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.strategy import Strategy
from m2m.mix.trial import Places, Trial, joined
from m2m.progress import Progress

SCHEMA = 2
READABLE = (1, 2)  # schema 1 had no blocks: every line has all examples


class Scorer(Protocol):
    """Makes a mixture's surrogate and scores it."""

    @property
    def examples(self) -> Mapping[str, int]:
        """Return how many examples each target has."""

    def key(self, mixture: Mixture) -> str:
        """Return the fingerprint of everything that can change this mixture's scores."""

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """Merge, quantise, load and score the examples at `places`, or all."""


class Study:
    """Asks a strategy for mixtures and scores those that the journal does not have.

    Args:
        journal: the file of finished trials.
        scorer: makes and scores surrogates.
        value: turns a trial into one number, for the progress line of `run`.
        expect: gets the mixture after the next one, if it is known.
    """

    def __init__(
        self,
        journal: Journal,
        scorer: Scorer,
        value: Callable[[Trial], float] = lambda trial: 0.0,
        expect: Callable[[Mixture | None], None] = lambda mixture: None,
    ) -> None:
        self._journal = journal
        self._scorer = scorer
        self._value, self._expect = value, expect
        self._lines: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for number, line in enumerate(journal.replay(), 1):
            if line.get("schema") in READABLE:
                where = f"{journal.path}:{number}"
                self._lines.setdefault(str(line.get("key")), []).append((line, where))
        self._known: dict[str, Trial] = {}

    def trial(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """Return the mixture's trial on the examples at `places` (all, if None).

        The journal's scores are used; the other examples are scored now and written to it.
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
        """Return all that the journal has of a mixture; None if it has nothing.

        A key contains adapters by their bytes: a dataset may have had another name then, or have an
        equal copy. The trial has the names that are asked for.
        """
        key = self._scorer.key(mixture)
        if key not in self._known and key in self._lines:
            self._known[key] = self._joined(self._lines.pop(key))
        trial = self._known.get(key)
        return trial and dataclasses.replace(trial, mixture=mixture)

    def _joined(self, lines: list[tuple[dict[str, Any], str]]) -> Trial:
        """Join the lines of one key; this machine's scores come before those of other machines."""
        seen: dict[str, set[int]] = {}
        parts = []
        for line, where in sorted(lines, key=lambda entry: "elsewhere" in entry[0]):
            trial = Trial.from_json(line, where)
            trial.check_against(self._scorer.examples, where)
            parts.append(trial.without(seen))
        return joined([part for part in parts if part], self._scorer.examples)

    def run(self, strategy: Strategy, order: ExampleOrder, progress: Progress) -> list[Trial]:
        """Return all trials that the strategy asked for, the base model's first, all scores joined.

        Raises:
            Interrupted: the user asked to stop; finished trials are in the journal.
        """
        progress.start("scoring the base", 1, "model")
        seen = {BASE: self.trial(BASE)}
        progress.advance()
        progress.finish()
        strategy.tell([seen[BASE]])
        while asks := strategy.ask():
            progress.start("scoring", len(asks), "mixtures")
            trials = []
            for ask, following in zip(asks, [*asks[1:], None], strict=True):
                if progress.stop_requested():
                    raise Interrupted(f"stopped after {counted(len(seen) - 1, 'scored mixture')}")
                self._expect(following.mixture if following else None)
                whole = ask.examples >= len(order)
                trials.append(self.trial(ask.mixture, None if whole else order.first(ask.examples)))
                seen[ask.mixture] = trials[-1]
                progress.advance(
                    detail=f"{ask.mixture.label} scored {self._value(trials[-1]):z.3f}"
                )
            strategy.tell(trials)
            progress.finish()
        return [self.known(mixture) or trial for mixture, trial in seen.items()]

    def _missing(self, known: Trial | None, places: Places | None) -> Places | None:
        """Return the places to score; None: all of them."""
        if known is None:
            return places
        if known.complete:
            return {}
        every = {name: tuple(range(total)) for name, total in self._scorer.examples.items()}
        return {
            name: tuple(sorted({*asked} - {*known.places.get(name, ())}))
            for name, asked in (places or every).items()
        }
