"""A trial: the scores of one mixture on all examples or some; reads and writes journal lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.scores import Scores
from m2m.formats.json_values import as_object, as_real, as_seconds, as_whole, as_wholes
from m2m.mix.mixture import Mixture

Places = Mapping[str, tuple[int, ...]]  # by target name, places of examples in its file


@dataclass(frozen=True)
class Trial:
    """One scored mixture.

    Attributes:
        mixture: the merged mixture.
        scores: per-example scores by target name.
        survival: {"gain", "cosine"} of the delta after quantisation; empty for the base and for a
            delta of zero.
        scored_tokens: tokens that llama.cpp decoded for it.
        seconds: merge, quantisation, load and scoring.
        places: by target name, the examples that were scored, in the order of `scores`; empty if
            all were.
        elsewhere: whether another machine reported it; this machine did not verify it.
    """

    mixture: Mixture
    scores: Mapping[str, Scores]
    survival: Mapping[str, float]
    scored_tokens: int
    seconds: float
    places: Places = field(default_factory=dict)
    elsewhere: bool = False

    @property
    def complete(self) -> bool:
        """Return whether all examples were scored."""
        return not self.places

    @property
    def examples(self) -> int:
        """Return how many examples were scored."""
        return sum(map(len, self.scores.values()))

    def take(self, places: Places) -> Trial:
        """Return the trial as if only these examples had been scored; its costs stay the same."""
        scores = {}
        for name, chosen in places.items():
            if name not in self.scores:
                continue
            known = self.places.get(name, range(len(self.scores[name])))
            where = {place: i for i, place in enumerate(known)}
            scores[name] = self.scores[name].take([where[place] for place in chosen])
        return replace(self, scores=scores, places=dict(places))

    def without(self, seen: dict[str, set[int]]) -> Trial | None:
        """Return the trial without the examples in `seen`, and add the rest to it; None if empty.

        Args:
            seen: places by target name, of the same mixture under the same key.
        """
        fresh, every = {}, True
        for name, scores in self.scores.items():
            places = self.places.get(name, range(len(scores)))
            known = seen.setdefault(name, set())
            fresh[name] = tuple(place for place in places if place not in known)
            every = every and len(fresh[name]) == len(scores)
            known.update(fresh[name])
        if every:
            return self
        left = {name: places for name, places in fresh.items() if places}
        return self.take(left) if left else None

    def as_json(self) -> dict[str, Any]:
        """Return the trial as a journal line, without its key."""
        return {
            "mixture": self.mixture.as_json(),
            "places": {name: list(places) for name, places in self.places.items()},
            "scores": {name: scores.to_json() for name, scores in self.scores.items()},
            "survival": dict(self.survival),
            "scored_tokens": self.scored_tokens,
            "seconds": round(self.seconds, 3),
        } | ({"elsewhere": True} if self.elsewhere else {})

    @classmethod
    def from_json(cls, line: Mapping[str, Any], where: str = "a journal line") -> Trial:
        """Read a trial from its journal line.

        Args:
            line: as `as_json` made it, with or without its key.
            where: file and line, for the message.

        Raises:
            InputError: a field is missing or wrong; names the field.
        """
        try:
            scores = {
                name: _named(name, Scores.from_json, as_object(value, name))
                for name, value in as_object(line.get("scores"), "scores").items()
            }
            if not scores:
                raise ValueError("scores is empty")
            survival = as_object(line.get("survival"), "survival")
            return cls(
                mixture=Mixture.from_json(as_object(line.get("mixture"), "mixture")),
                scores=scores,
                survival={name: as_real(value, name) for name, value in survival.items()},
                scored_tokens=as_whole(line.get("scored_tokens"), "scored_tokens"),
                seconds=as_seconds(line.get("seconds"), "seconds"),
                places=_places(line.get("places", {}), scores),
                elsewhere="elsewhere" in line,
            )
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            reason = error if type(error) is ValueError else repr(error)
            raise InputError(
                f"{where}: not a scored mixture: {reason!s:.200}",
                "restore the journal from a copy, or move it away to score again",
            ) from error

    def check_against(self, totals: Mapping[str, int], where: str) -> None:
        """Raise if the trial does not fit the number of examples of each target.

        Raises:
            InputError: it has other targets, or examples that do not exist. The key of a line
                covers the targets, so somebody changed it.
        """
        for name, scores in self.scores.items():
            total = totals.get(name, -1)
            places = self.places.get(name)
            fits = len(scores) == total if places is None else max(places, default=-1) < total
            if not fits:
                last = len(scores) if places is None else max(places, default=0) + 1
                raise InputError(
                    f"{where}: scores example {last} of {name}, which has {max(total, 0)}",
                    "add `--rescore`, to score here what other machines say that they scored"
                    if self.elsewhere
                    else "restore the journal from a copy, or move it away to score again",
                )


def _named(name: str, read: Callable[[Mapping[str, Any]], Scores], data: Mapping[str, Any]) -> Any:
    try:
        return read(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _places(value: Any, scores: Mapping[str, Scores]) -> Places:
    """Return the places that were scored; if every target is complete, an empty mapping."""
    places = as_object(value, "places")
    if places and places.keys() != scores.keys():
        raise ValueError("places has other targets than scores")
    checked = {}
    for name, some in places.items():
        checked[name] = tuple(as_wholes(some, f"places of {name}", count=len(scores[name])))
        if len({*checked[name]}) < len(checked[name]):
            raise ValueError(f"places of {name} has one twice")
    return checked


def joined(parts: Sequence[Trial], totals: Mapping[str, int]) -> Trial:
    """Join blocks of one mixture into one trial.

    Args:
        parts: trials without an example in common.
        totals: examples of each target; a target with all of them gets the file's order.
    """
    if len(parts) == 1:
        return parts[0]
    scores, places = {}, {}
    for name in totals:
        having = [part for part in parts if name in part.scores]
        if not having:  # another machine scored the other targets first
            continue
        scores[name] = Scores.join([part.scores[name] for part in having])
        places[name] = tuple(place for part in having for place in part.places[name])
    whole = replace(
        parts[0],
        scores=scores,
        scored_tokens=sum(part.scored_tokens for part in parts),
        seconds=sum(part.seconds for part in parts),
        places=places,
        elsewhere=any(part.elsewhere for part in parts),
    )
    if any(len(places.get(name, ())) < total for name, total in totals.items()):
        return whole
    sort = whole.take({name: tuple(range(total)) for name, total in totals.items()})
    return replace(sort, places={})
