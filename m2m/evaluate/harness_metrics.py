"""The metrics of lm-evaluation-harness 0.4.13, each equal to its own.

See lm_eval/api/metrics.py and `process_results` in lm_eval/api/task.py. If choices are equally
likely the first one counts, as in NumPy's argmax. Standard errors are m2m's own (`Metric.stderr`),
and equal to the harness's if the metric is a mean and all questions differ.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.evaluate.bleu import bleu, bleu_counts
from m2m.evaluate.edit_rate import edit_counts, edit_rate
from m2m.evaluate.metric import Metric, commonest, mean_of, weights_of
from m2m.evaluate.overlap import WORDS, chrf, chrf_counts
from m2m.evaluate.scores import Scores
from m2m.evaluate.squad_f1 import span_counts, span_f1, words_f1

_LISTED, _ANSWER, _TEXT = ("choices", "labels"), ("answer",), ("text",)
Confusion = tuple[F64, F64, F64]


def none(scores: Scores) -> float | None:
    """Return None: guessing has no score."""
    return None


def _zero(scores: Scores) -> float | None:
    return 0.0


def _finite(values: F64) -> F64:
    return np.where(np.isfinite(values), values, -np.inf)


def first_likeliest(scores: Scores) -> NDArray[np.int64]:
    """Return the (n,) places of the likeliest choices, the first of equally likely ones."""
    places: NDArray[np.int64] = _finite(scores.loglik).argmax(axis=1)
    return places


def _hits(scores: Scores, size: F64 | float) -> F64:
    hits: F64 = (_finite(scores.loglik / size).argmax(axis=1) == scores.gold).astype(np.float64)
    return hits


def _acc(scores: Scores) -> F64:
    return _hits(scores, 1.0)


def _acc_norm(scores: Scores) -> F64:
    return _hits(scores, scores.characters)


def _acc_bytes(scores: Scores) -> F64:
    return _hits(scores, scores.bytes)


def _greedy(scores: Scores) -> F64:
    if scores.likeliest is None:
        raise ValueError("these scores do not say which tokens are the likeliest")
    return scores.likeliest[np.arange(len(scores)), scores.gold].astype(np.float64)


def _exact(scores: Scores) -> F64:
    if scores.exact:
        return np.array(scores.exact, np.float64)
    pairs = zip(scores.predictions, scores.references, strict=True)
    return np.array([prediction in references for prediction, references in pairs], np.float64)


def probabilities(scores: Scores) -> F64:
    """Return (n, k) softmax of the log-likelihoods; 0 for a missing choice."""
    likelihood = np.exp(_finite(scores.loglik) - _finite(scores.loglik).max(axis=1, keepdims=True))
    share: F64 = likelihood / likelihood.sum(axis=1, keepdims=True)
    return share


def _brier(scores: Scores) -> F64:
    right = np.eye(scores.loglik.shape[1])[scores.gold]
    squares: F64 = ((probabilities(scores) - right) ** 2).sum(axis=1)
    return squares


def _brier_guessing(scores: Scores) -> float | None:
    """Return the score of the labels' own proportions, or of an even guess."""
    if scores.kind != "labels":
        return float((1 - 1 / scores.choices).mean())
    return float(1 - ((np.bincount(scores.gold) / len(scores)) ** 2).sum())


def _confusion(scores: Scores, weights: F64 | None) -> Confusion:
    """Return (R, k) how often each place is right and chosen, chosen, and right."""
    drawn, places = weights_of(scores, weights), np.eye(scores.loglik.shape[1])
    chosen, right = places[first_likeliest(scores)], places[scores.gold]
    return drawn @ (chosen * right), drawn @ chosen, drawn @ right


def _f1_of_each(confusion: Confusion) -> F64:
    both, chosen, right = confusion
    either = chosen + right
    f1: F64 = np.where(either > 0, 2 * both / np.where(either > 0, either, 1.0), 0.0)
    return f1


def _weighted_f1(scores: Scores, weights: F64 | None) -> F64:
    confusion = _confusion(scores, weights)
    right = confusion[2]
    mean: F64 = (_f1_of_each(confusion) * right).sum(axis=1) / right.sum(axis=1)
    return mean


def _mean_f1(scores: Scores, weights: F64 | None) -> F64:
    confusion = _confusion(scores, weights)
    occurs = confusion[1] + confusion[2] > 0
    mean: F64 = _f1_of_each(confusion).sum(axis=1) / occurs.sum(axis=1)
    return mean


def _second_f1(scores: Scores, weights: F64 | None) -> F64:
    """Return F1 of the choice at place 1, as scikit-learn's `average="binary"`."""
    return _f1_of_each(_confusion(scores, weights))[:, 1]


def _weighted_f1_guessing(scores: Scores) -> float | None:
    share, count = np.bincount(scores.gold) / len(scores), scores.loglik.shape[1]
    even = float((2 * share**2 / count / (share + 1 / count)).sum())
    return max(even, float((2 * share**2 / (1 + share)).max()))


def _matthews(scores: Scores, weights: F64 | None) -> F64:
    """Return Matthews' correlation for k classes (Gorodkin 2004), 0 if a side has one class."""
    both, chosen, right = _confusion(scores, weights)
    total = right.sum(axis=1)
    covariance = both.sum(axis=1) * total - (chosen * right).sum(axis=1)
    spread = (total**2 - (chosen**2).sum(axis=1)) * (total**2 - (right**2).sum(axis=1))
    varies = spread > 1e-9 * np.maximum(total, 1.0) ** 4
    value: F64 = np.where(varies, covariance / np.sqrt(np.where(varies, spread, 1.0)), 0.0)
    return value


def _of_counts(
    name: str,
    count: Callable[[str, tuple[str, ...]], F64],
    score: Callable[[F64], F64],
    best: float = 100.0,
) -> Metric:
    """Return a metric of written texts whose counts are summed before the score is computed."""

    def counts(scores: Scores) -> F64:
        pairs = zip(scores.predictions, scores.references, strict=True)
        return np.array([count(prediction, references) for prediction, references in pairs])

    def value(scores: Scores, weights: F64 | None) -> F64:
        return score(weights_of(scores, weights) @ counts(scores))

    def each(scores: Scores) -> F64:
        return score(counts(scores))

    return Metric(name, _ANSWER, best > 0, value, each, none, written=True, best=best)


def _common_answer(scores: Scores) -> float | None:
    return commonest([right[0] for right in scores.references])


_EXACT = Metric(
    "exact_match", _ANSWER, True, mean_of(_exact), _exact, _common_answer, mean=True, written=True
)


def _listed(name: str, value: Callable[[Scores, F64 | None], F64]) -> Metric:
    return Metric(name, _LISTED, True, value, _acc, none)


# Those that a recipe can name, too.
NAMED = (
    Metric("acc_norm", _LISTED, True, mean_of(_acc_norm), _acc_norm, none, mean=True),
    Metric("weighted_f1", ("labels",), True, _weighted_f1, _acc, _weighted_f1_guessing),
    Metric("mcc", ("labels",), True, _matthews, _acc, _zero),
    Metric(
        "brier_score", _LISTED, False, mean_of(_brier), _brier, _brier_guessing, mean=True, best=0.0
    ),
    _EXACT,
    *(
        _of_counts("bleu" + suffix, functools.partial(bleu_counts, how=how), bleu)
        for suffix, how in (("", "13a"), ("_intl", "intl"), ("_char", "char"))
    ),
    _of_counts("chrf", chrf_counts, chrf),
    _of_counts("chrf++", functools.partial(chrf_counts, words=WORDS), chrf),
    _of_counts("ter", functools.lru_cache(4096)(edit_counts), edit_rate, best=0.0),
)
_BY_NAME = {metric.name: metric for metric in NAMED}
_F1 = {
    "binary": _listed("f1", _second_f1),
    "weighted": replace(_BY_NAME["weighted_f1"], name="f1"),
    "macro": _listed("f1", _mean_f1),
    "micro": _listed("f1", mean_of(_acc)),
}
# Aggregations that task files take from Python; m2m knows them by their names.
_AVERAGES = {
    "f1": "binary",
    "weighted_f1_score": "weighted",
    "micro_f1_score": "micro",
    "macro_f1_score": "macro",
}


def _mean(name: str, each: Callable[[Scores], F64], kinds: tuple[str, ...] = _LISTED) -> Metric:
    return Metric(name, kinds, True, mean_of(each), each, none, mean=True)


def rolling(name: str, sizes: Sequence[float]) -> Metric:
    """Return a perplexity by words or bytes of whole texts."""
    size = np.array(sizes)

    def value(scores: Scores, weights: F64 | None) -> F64:
        drawn = weights_of(scores, weights)
        nats = -(drawn @ scores.loglik[:, 0]) / (drawn @ size)
        made: F64 = nats / np.log(2) if name == "bits_per_byte" else np.exp(nats)
        return made

    def each(scores: Scores) -> F64:
        rate: F64 = -scores.loglik[:, 0] / size
        return rate

    return Metric(name, _TEXT, False, value, each, none)


def _row_perplexity(scores: Scores, weights: F64 | None) -> F64:
    return np.exp(-mean_of(lambda s: s.of_gold(s.loglik))(scores, weights))


def _words_f1(scores: Scores) -> F64:
    pairs = zip(scores.predictions, scores.references, strict=True)
    return np.array([words_f1(prediction, references[0]) for prediction, references in pairs])


# F1 of written answers, by the aggregation that task files take from Python.
_WRITTEN_F1 = {
    "f1": replace(_mean("f1", _words_f1, _ANSWER), written=True),
    "span_f1_agg": _of_counts("f1", span_counts, span_f1, best=1.0),
}
DEFAULTS = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generate_until": ("exact_match",),
}
_CHOICE = {
    "acc": _mean("acc", _acc),
    "acc_norm": _BY_NAME["acc_norm"],
    "acc_bytes": _mean("acc_bytes", _acc_bytes),
    "exact_match": _mean("exact_match", _greedy),
    "mcc": _BY_NAME["mcc"],
    "brier_score": _BY_NAME["brier_score"],
}
_ONE = {
    "acc": _mean("acc", _greedy, _ANSWER),
    "perplexity": Metric(
        "perplexity", _ANSWER, False, _row_perplexity, lambda s: -s.of_gold(s.loglik), none
    ),
}


_WRITTEN = ("exact_match", "bleu", "chrf", "chrf++", "ter")
# By the kind of output, the names in `metric_list`.
KNOWN = {
    **DEFAULTS,
    "multiple_choice": (*_CHOICE, "f1"),
    "loglikelihood": tuple(_ONE),
    "generate_until": _WRITTEN,
}


def theirs(
    kind: str, name: str, aggregation: str, texts: Sequence[str], choices: int
) -> Metric | None:
    """Return the harness's metric of that name; None if m2m does not have it.

    Args:
        kind: the task's `output_type`.
        name: in `metric_list`.
        aggregation: as the file has it, without a module; "" if it has none.
        texts: of a task of whole texts.
        choices: most choices that a row has.
    """
    if kind == "multiple_choice" and name == "f1":
        average = _AVERAGES.get(aggregation or "f1", "")
        return None if average == "binary" and choices != 2 else _F1.get(average)
    if kind == "generate_until" and name == "f1":
        return _WRITTEN_F1.get(aggregation)
    if aggregation and aggregation != _AGGREGATIONS.get(name, "mean"):
        return None
    if kind == "loglikelihood_rolling":
        words = [len(re.split(r"\s+", text)) for text in texts]
        sizes = words if name == "word_perplexity" else [len(text.encode()) for text in texts]
        return rolling(name, sizes) if name in DEFAULTS[kind] else None
    if kind == "loglikelihood":
        return _ONE.get(name)
    if kind == "multiple_choice":
        return _CHOICE.get(name)
    return _BY_NAME[name] if name in _WRITTEN else None


_AGGREGATIONS = {
    **{name: name for name in ("bleu", "chrf", "chrf++", "ter", "brier_score", "bits_per_byte")},
    **dict.fromkeys(("word_perplexity", "byte_perplexity"), "weighted_perplexity"),
    "mcc": "matthews_corrcoef",
    "perplexity": "perplexity",
}
