"""A trial: what one mixture, or a part of the examples, was scored with; journal lines and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.scores import Scores
from m2m.mix.mixture import Mixture

Places = Mapping[str, tuple[int, ...]]  # by target name, places of examples in its file


@dataclass(frozen=True)
class Trial:
    """One scored mixture.

    Attributes:
        mixture: what was merged.
        scores: per-example scores by target name.
        survival: {"gain", "cosine"} of the delta after quantisation; empty for the base and for a
            delta of zero.
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
            return cls(
                mixture=Mixture.from_json(line["mixture"]),
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
