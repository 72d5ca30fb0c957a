"""Metrics: pure functions from per-example scores to a number, each for many resamples at once.

`value` takes weights (R, n), how often each resample drew each example; so one bootstrap serves
every metric, and mixtures that answered the same examples are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.evaluate.temperature import best_sharpness, cross_entropy, least_cross_entropy

F64 = NDArray[np.float64]

_LN2 = float(np.log(2.0))
REPLICATES = 1000


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model said about each of n examples with at most k choices.

    Attributes:
        kind: of the task: "choices", "answer" or "text".
        loglik: (n, k) log-likelihood in nats of each choice; nan where an example has fewer.
        bytes: (n, k) UTF-8 bytes of each choice that were scored.
        tokens: (n, k) tokens of each choice that were scored.
        gold: (n,) place of the right choice.
        decoded_tokens: that went through the model.
        separate_tokens: that would have, had every choice been evaluated by itself.
        facets: (n,) names for a breakdown, None where a row has none.
    """

    kind: str
    loglik: F64
    bytes: F64
    tokens: F64
    gold: NDArray[np.int64]
    decoded_tokens: int = 0
    separate_tokens: int = 0
    facets: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def choices(self) -> NDArray[np.int64]:
        """(n,) number of choices of each example."""
        count: NDArray[np.int64] = np.isfinite(self.bytes).sum(axis=1)
        return count

    def of_gold(self, values: F64) -> F64:
        """(n,) the right choice's entry of an (n, k) array."""
        return values[np.arange(len(self)), self.gold]

    def subset(self, mask: NDArray[np.bool_]) -> Scores:
        """The examples where `mask` (n,) is true; token counts are left out."""
        chosen = tuple(f for f, keep in zip(self.facets, mask, strict=False) if keep)
        return Scores(
            self.kind,
            self.loglik[mask],
            self.bytes[mask],
            self.tokens[mask],
            self.gold[mask],
            facets=chosen,
        )

    def by_facet(self) -> dict[str, Scores]:
        """The scores of each facet by its name, in order of appearance."""
        names = dict.fromkeys(f for f in self.facets if f is not None)
        return {name: self.subset(np.array([f == name for f in self.facets])) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain lists, choices cut to each example's own; floats keep every digit."""
        counts = self.choices

        def cut(array: F64, kind: type[int] | type[float]) -> list[list[float]]:
            return [[kind(x) for x in row[:k]] for row, k in zip(array, counts, strict=True)]

        return {
            "kind": self.kind,
            "loglik": cut(self.loglik, float),
            "bytes": cut(self.bytes, int),
            "tokens": cut(self.tokens, int),
            "gold": self.gold.tolist(),
            "decoded_tokens": self.decoded_tokens,
            "separate_tokens": self.separate_tokens,
            "facets": list(self.facets) if any(self.facets) else [],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """The inverse of `to_json`."""
        return cls(
            kind=data["kind"],
            loglik=padded(data["loglik"]),
            bytes=padded(data["bytes"]),
            tokens=padded(data["tokens"]),
            gold=np.array(data["gold"], np.int64),
            decoded_tokens=data["decoded_tokens"],
            separate_tokens=data["separate_tokens"],
            facets=tuple(data["facets"]),
        )


def padded(rows: list[list[float]]) -> F64:
    """Rows of different lengths as one (n, k) array, nan behind the short ones."""
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[np.nan] * (width - len(row))] for row in rows], np.float64)


@dataclass(frozen=True)
class Metric:
    """A way to turn scores into a number.

    Attributes:
        name: in recipes and results.
        kinds: the kinds of task that it fits.
        higher_is_better: its direction.
        value: (scores, weights (R, n) or None) -> (R,); without weights every example counts once
            and R is 1.
        per_example: scores -> (n,) contributions, for pairing and its standard error.
        chance: scores -> what guessing gets, or None where that has no meaning.
        mean: whether the value is the plain mean of `per_example`.
    """

    name: str
    kinds: tuple[str, ...]
    higher_is_better: bool
    value: Callable[[Scores, F64 | None], F64]
    per_example: Callable[[Scores], F64]
    chance: Callable[[Scores], float | None]
    mean: bool = False

    def stderr(self, scores: Scores, rng: np.random.Generator | None = None) -> float:
        """Standard error over examples: sample deviation / sqrt(n) of a mean, else bootstrap.

        The bootstrap (1000 resamples, `rng` or one seeded with 0) fits what is fitted anew each
        time. One example has no standard error: nan.
        """
        n = len(scores)
        if n < 2:
            return float("nan")
        if self.mean:
            return float(self.per_example(scores).std(ddof=1) / np.sqrt(n))
        draws = resample(n, rng or np.random.default_rng(0))
        return float(self.value(scores, draws).std(ddof=1))

    def measure(self, scores: Scores, rng: np.random.Generator | None = None) -> dict[str, float]:
        """`{"value", "stderr"}` on all examples."""
        value = float(self.value(scores, None)[0])
        return {"value": value, "stderr": self.stderr(scores, rng)}


def resample(examples: int, rng: np.random.Generator, replicates: int = REPLICATES) -> F64:
    """Bootstrap weights (replicates, examples): how often each resample drew each example."""
    share = np.full(examples, 1.0 / examples)
    return rng.multinomial(examples, share, size=replicates).astype(np.float64)


def _weights(scores: Scores, weights: F64 | None) -> F64:
    return np.ones((1, len(scores))) if weights is None else np.asarray(weights, np.float64)


def _mean_of(per_example: Callable[[Scores], F64]) -> Callable[[Scores, F64 | None], F64]:
    def value(scores: Scores, weights: F64 | None) -> F64:
        drawn = _weights(scores, weights)
        mean: F64 = drawn @ per_example(scores) / drawn.sum(axis=1)
        return mean

    return value


def _normalized(scores: Scores) -> F64:
    """(n, k) nats per byte; -inf where there is no choice, so that it has no share."""
    rate = scores.loglik / scores.bytes
    return np.where(np.isfinite(rate), rate, -np.inf)


def _information(scores: Scores, weights: F64 | None) -> F64:
    """log2(k) - min_t cross-entropy of softmax(nats per byte / t), in bits, weighted."""
    drawn = _weights(scores, weights)
    least = least_cross_entropy(_normalized(scores), scores.gold, drawn)
    most: F64 = drawn @ np.log2(scores.choices) / drawn.sum(axis=1)
    return (most - least / _LN2).clip(0.0, most)


def _information_per_example(scores: Scores) -> F64:
    rate = _normalized(scores)
    sharpness = best_sharpness(rate, scores.gold, _weights(scores, None))
    bits: F64 = np.log2(scores.choices) - cross_entropy(rate, scores.gold, sharpness)[0] / _LN2
    return bits


def _hits(ranked: F64, gold: NDArray[np.int64]) -> F64:
    """1 where the right choice is ahead, 1/m where m choices tie for the first place."""
    best = ranked.max(axis=1, keepdims=True)
    first = ranked == best
    right = first[np.arange(len(gold)), gold]
    hits: F64 = right / first.sum(axis=1)
    return hits


def _accuracy(scores: Scores) -> F64:
    return _hits(np.where(np.isfinite(scores.loglik), scores.loglik, -np.inf), scores.gold)


def _accuracy_norm(scores: Scores) -> F64:
    return _hits(_normalized(scores), scores.gold)


def _bits_per_byte(scores: Scores, weights: F64 | None) -> F64:
    drawn = _weights(scores, weights)
    nats, size = -scores.of_gold(scores.loglik), scores.of_gold(scores.bytes)
    rate: F64 = (drawn @ nats) / (drawn @ size) / _LN2
    return rate


def _bits_per_byte_each(scores: Scores) -> F64:
    each: F64 = -scores.of_gold(scores.loglik) / scores.of_gold(scores.bytes) / _LN2
    return each


def _perplexity(scores: Scores, weights: F64 | None) -> F64:
    drawn = _weights(scores, weights)
    nats, size = -scores.of_gold(scores.loglik), scores.of_gold(scores.tokens)
    return np.exp((drawn @ nats) / (drawn @ size))


def _perplexity_each(scores: Scores) -> F64:
    return np.exp(-scores.of_gold(scores.loglik) / scores.of_gold(scores.tokens))


def _guessing(scores: Scores) -> float | None:
    return float((1.0 / scores.choices).mean())


def _zero(scores: Scores) -> float | None:
    return 0.0


def _none(scores: Scores) -> float | None:
    return None


_CHOSEN = ("choices", "answer")
_ALL = ("choices", "answer", "text")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # Temperature: Guo et al. 2017 (1706.04599); information: Ethayarajh et al. 2022, eq. 4.
        Metric("choice_bits", ("choices",), True, _information, _information_per_example, _zero),
        Metric("contrast_bits", ("answer",), True, _information, _information_per_example, _zero),
        Metric("accuracy", _CHOSEN, True, _mean_of(_accuracy), _accuracy, _guessing, mean=True),
        Metric(
            "accuracy_norm",
            *(_CHOSEN, True, _mean_of(_accuracy_norm), _accuracy_norm, _guessing),
            mean=True,
        ),
        Metric("bits_per_byte", _ALL, False, _bits_per_byte, _bits_per_byte_each, _none),
        Metric("perplexity", _ALL, False, _perplexity, _perplexity_each, _none),
    )
}

AUTO = {"choices": "choice_bits", "answer": "contrast_bits", "text": "bits_per_byte"}


def metrics_for(kind: str) -> list[Metric]:
    """All metrics that fit a kind of task, its default first."""
    fitting = [m for m in METRICS.values() if kind in m.kinds]
    return sorted(fitting, key=lambda m: m.name != AUTO[kind])


def check_metric(name: str, kind: str, where: str) -> Metric:
    """The metric of that name ("auto": the default of the kind) if it fits the kind of task.

    Args:
        name: from a recipe or the command line.
        kind: of the task.
        where: the task's file, for the message.

    Raises:
        InputError: unknown, or not for such tasks.
    """
    metric = METRICS.get(AUTO[kind] if name == "auto" else name)
    if metric is None or kind not in metric.kinds:
        fitting = ", ".join(m.name for m in metrics_for(kind))
        raise InputError(
            f'{where}: metric "{name}" does not fit a task of kind "{kind}"',
            f"choose auto or one of {fitting}",
        )
    return metric


def measure_all(
    scores: Scores, rng: np.random.Generator | None = None
) -> dict[str, dict[str, float]]:
    """Every fitting metric of some scores as `{"value", "stderr"}`, the default first."""
    return {m.name: m.measure(scores, rng) for m in metrics_for(scores.kind)}
