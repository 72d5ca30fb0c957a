"""A model's scores on each example of a task; every metric is computed from them afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.formats.json_values import as_list, as_rows, as_text, as_whole, as_wholes

KINDS = ("choices", "labels", "answer", "text")
_ROUNDING = 1e-3  # nats by which rounding may lift a sum of logarithms of probabilities above 0
_MOST = 1e12  # an example never has this many bytes, tokens or nats


@dataclass(frozen=True, eq=False)
class Scores:
    """A model's scores on each of n examples with at most k choices.

    Attributes:
        kind: of the task: "choices", "labels", "answer" or "text".
        loglik: (n, k) log-likelihood in nats of each choice; nan if an example has fewer.
        bytes: (n, k) UTF-8 bytes of each choice that were scored.
        tokens: (n, k) tokens of each choice that were scored.
        gold: (n,) place of the right choice.
        decoded_tokens: tokens that the model processed.
        separate_tokens: tokens that it would have processed with every choice by itself.
        facets: (n,) names for a breakdown, None if a row has none.
        predictions: (n,) texts that the model wrote, if it was asked to write.
        references: (n,) all right answers to each prompt, for `predictions`.
        same: (n,) numbers, equal for equal questions; empty if all differ.
        chars: (n, k) characters of each choice; None if all have as many as bytes.
        exact: (n,) whether a written text is right by the rules of a task file's `exact_match`.
        cut: (n,) whether a written text reached the limit of tokens before it ended.
        limit: that limit; lower for a prompt that leaves less room in the model's context.
        longest: tokens of the longest right answer.
        likeliest: (n, k) whether each token of a choice is the likeliest one; None if not known.
            It is not stored, and neither is `written`.
        written: (n,) texts of a task file's model before any filter.
    """

    kind: str
    loglik: F64
    bytes: F64
    tokens: F64
    gold: NDArray[np.int64]
    decoded_tokens: int = 0
    separate_tokens: int = 0
    facets: tuple[str | None, ...] = ()
    predictions: tuple[str, ...] = ()
    references: tuple[tuple[str, ...], ...] = ()
    same: tuple[int, ...] = ()
    cut: tuple[bool, ...] = ()
    limit: int = 0
    longest: int = 0
    chars: F64 | None = None
    exact: tuple[bool, ...] = ()
    likeliest: NDArray[np.bool_] | None = None
    written: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def choices(self) -> NDArray[np.int64]:
        """Return the (n,) numbers of choices of the examples."""
        count: NDArray[np.int64] = np.isfinite(self.bytes).sum(axis=1)
        return count

    @property
    def characters(self) -> F64:
        """Return the (n, k) characters of the choices."""
        return self.bytes if self.chars is None else self.chars

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Return (n,) numbers from 0, equal for equal questions."""
        if not self.same:
            return np.arange(len(self))
        numbers: NDArray[np.int64] = np.unique(self.same, return_inverse=True)[1]
        return numbers

    @property
    def different(self) -> int:
        """Return how many questions there are, equal ones counted once."""
        return len(set(self.same)) if self.same else len(self)

    def of_gold(self, values: F64) -> F64:
        """Return the (n,) entries of the right choices in an (n, k) array."""
        return values[np.arange(len(self)), self.gold]

    def take(self, places: Sequence[int]) -> Scores:
        """Return the examples at `places`, in that order; token counts are left out."""
        rows = np.array(places, np.int64)

        def picked(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in rows) if values else ()

        return Scores(
            self.kind,
            self.loglik[rows],
            self.bytes[rows],
            self.tokens[rows],
            self.gold[rows],
            facets=picked(self.facets),
            predictions=picked(self.predictions),
            references=picked(self.references),
            same=picked(self.same),
            cut=picked(self.cut),
            limit=self.limit,
            longest=self.longest,
            chars=None if self.chars is None else self.chars[rows],
            exact=picked(self.exact),
            likeliest=None if self.likeliest is None else self.likeliest[rows],
            written=picked(self.written),
        )

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Join the examples of all parts, one part after the other; token counts are summed."""
        width = max(part.loglik.shape[1] for part in parts)

        def stack(name: str) -> F64:
            arrays = [getattr(part, name) for part in parts]
            wide = [((0, 0), (0, width - array.shape[1])) for array in arrays]
            return np.concatenate(
                [np.pad(a, w, constant_values=np.nan) for a, w in zip(arrays, wide, strict=True)]
            )

        def chain(name: str) -> tuple[Any, ...]:
            return tuple(value for part in parts for value in getattr(part, name))

        return cls(
            parts[0].kind,
            stack("loglik"),
            stack("bytes"),
            stack("tokens"),
            np.concatenate([part.gold for part in parts]),
            sum(part.decoded_tokens for part in parts),
            sum(part.separate_tokens for part in parts),
            tuple(f for part in parts for f in part.facets or [None] * len(part)),
            chain("predictions"),
            chain("references"),
            chain("same"),
            chain("cut"),
            parts[0].limit,
            parts[0].longest,
            None if all(part.chars is None for part in parts) else stack("characters"),
            chain("exact"),
        )

    def by_facet(self) -> dict[str, Scores]:
        """Return the scores of each facet by its name, in order of appearance."""
        names = dict.fromkeys(f for f in self.facets if f is not None)
        return {
            name: self.take([i for i, f in enumerate(self.facets) if f == name]) for name in names
        }

    @property
    def cut_in_words(self) -> str | None:
        """Say how many written answers were cut, and the next step; None if none was cut."""
        if not any(self.cut):
            return None
        message = f"{sum(self.cut)} of {len(self)} written answers were cut at {self.limit} tokens"
        if self.longest <= self.limit:
            return message
        return (
            f"{message}; a right answer has up to {self.longest} and cannot be written: leave "
            "max_tokens out, or raise it"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, choices cut to each example's own; floats keep every digit."""
        counts = self.choices

        def cut(array: F64, kind: type[int] | type[float]) -> list[list[float]]:
            return [[kind(x) for x in row[:k]] for row, k in zip(array, counts, strict=True)]

        written: dict[str, Any] = {"same": list(self.same)} if self.same else {}
        if self.predictions:
            written |= {
                "predictions": list(self.predictions),
                "references": [list(texts) for texts in self.references],
                "cut": list(self.cut),
                "limit": self.limit,
                "longest": self.longest,
                **({"exact": list(self.exact)} if self.exact else {}),
            }
        if self.chars is not None:
            written["chars"] = cut(self.chars, int)
        return {
            "kind": self.kind,
            "loglik": cut(self.loglik, float),
            "bytes": cut(self.bytes, int),
            "tokens": cut(self.tokens, int),
            "gold": self.gold.tolist(),
            "decoded_tokens": self.decoded_tokens,
            "separate_tokens": self.separate_tokens,
            "facets": list(self.facets) if any(self.facets) else [],
            **written,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """Invert `to_json`; a field that older versions did not write is empty.

        Raises:
            ValueError: a field is missing, of another type or length, or out of its range.
        """
        kind = as_text(data.get("kind"), "kind", KINDS)
        loglik, choices = as_rows(data.get("loglik"), "loglik", -_MOST, _ROUNDING)
        size, _ = as_rows(data.get("bytes"), "bytes", 1, _MOST, choices)
        tokens, _ = as_rows(data.get("tokens"), "tokens", 1, _MOST, choices)
        n = len(choices)
        gold = np.array(as_wholes(data.get("gold"), "gold", count=n), np.int64)
        if (gold >= np.array(choices, np.int64)).any():
            raise ValueError("gold names a choice that its example does not have")

        def some(name: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
            """Return a list of n values, or an empty one."""
            return tuple(as_list(data.get(name, []), name, kinds, n if data.get(name) else 0))

        chars = None
        if "chars" in data:
            chars, _ = as_rows(data["chars"], "chars", 1, _MOST, choices)
        references = some("references", (list,))
        for texts in references:
            as_list(texts, "references", (str,))
        return cls(
            kind=kind,
            loglik=loglik,
            bytes=size,
            tokens=tokens,
            gold=gold,
            decoded_tokens=as_whole(data.get("decoded_tokens"), "decoded_tokens"),
            separate_tokens=as_whole(data.get("separate_tokens"), "separate_tokens"),
            facets=some("facets", (str, type(None))),
            predictions=some("predictions", (str,)),
            references=tuple(map(tuple, references)),
            same=tuple(as_wholes([*some("same", (int,))], "same")),
            cut=some("cut", (bool,)),
            limit=as_whole(data.get("limit", 0), "limit"),
            longest=as_whole(data.get("longest", 0), "longest"),
            chars=chars,
            exact=some("exact", (bool,)),
        )


def padded(rows: list[list[float]]) -> F64:
    """Return rows of different lengths as one (n, k) array, with nan after the short ones."""
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[np.nan] * (width - len(row))] for row in rows], np.float64)
