"""The metrics that a recipe can name: m2m's own ones, and those of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.dataset.sameness import normalize
from m2m.errors import InputError
from m2m.evaluate.harness_metrics import NAMED, none
from m2m.evaluate.metric import Metric, commonest, mean_of, weights_of
from m2m.evaluate.overlap import answer_match, token_f1
from m2m.evaluate.score import Measured
from m2m.evaluate.scores import Scores
from m2m.evaluate.temperature import best_sharpness, cross_entropy, least_cross_entropy

_LN2 = float(np.log(2.0))
_BINS = 10  # of confidence, for the calibration error


def _normalized(scores: Scores) -> F64:
    """Return (n, k) nats per byte; -inf for a missing choice, which then has no probability."""
    rate = scores.loglik / scores.bytes
    return np.where(np.isfinite(rate), rate, -np.inf)


def _information(scores: Scores, weights: F64 | None) -> F64:
    """Return log2(k) - min_t cross-entropy of softmax(nats per byte / t), in bits, weighted."""
    drawn = weights_of(scores, weights)
    least = least_cross_entropy(_normalized(scores), scores.gold, drawn)
    most: F64 = drawn @ np.log2(scores.choices) / drawn.sum(axis=1)
    return (most - least / _LN2).clip(0.0, most)


def _information_per_example(scores: Scores) -> F64:
    rate = _normalized(scores)
    sharpness = best_sharpness(rate, scores.gold, weights_of(scores, None))
    bits: F64 = np.log2(scores.choices) - cross_entropy(rate, scores.gold, sharpness)[0] / _LN2
    return bits


def _hits(ranked: F64, gold: NDArray[np.int64]) -> F64:
    """Return 1 if the right choice is ahead, 1/m if m choices tie for the first place, else 0."""
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
    drawn = weights_of(scores, weights)
    nats, size = -scores.of_gold(scores.loglik), scores.of_gold(scores.bytes)
    rate: F64 = (drawn @ nats) / (drawn @ size) / _LN2
    return rate


def _bits_per_byte_each(scores: Scores) -> F64:
    bits: F64 = -scores.of_gold(scores.loglik) / scores.of_gold(scores.bytes) / _LN2
    return bits


def _perplexity(scores: Scores, weights: F64 | None) -> F64:
    drawn = weights_of(scores, weights)
    nats, size = -scores.of_gold(scores.loglik), scores.of_gold(scores.tokens)
    return np.exp((drawn @ nats) / (drawn @ size))


def _perplexity_each(scores: Scores) -> F64:
    return np.exp(-scores.of_gold(scores.loglik) / scores.of_gold(scores.tokens))


def _believed(scores: Scores) -> F64:
    """Return (n, k) softmax of the log-likelihoods: the probability that a model gives a choice."""
    loglik = np.where(np.isfinite(scores.loglik), scores.loglik, -np.inf)
    likelihood = np.exp(loglik - loglik.max(axis=1, keepdims=True))
    believed: F64 = likelihood / likelihood.sum(axis=1, keepdims=True)
    return believed


def _bin(scores: Scores) -> tuple[F64, F64]:
    """Return (bins, n) the bin of confidence of each example, and (n,) confidence minus hit."""
    confidence = _believed(scores).max(axis=1)
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return np.eye(_BINS)[:, place], confidence - _accuracy(scores)


def _calibration_error(scores: Scores, weights: F64 | None) -> F64:
    drawn = weights_of(scores, weights)
    inside, gap = _bin(scores)
    error: F64 = np.abs(drawn @ (inside * gap).T).sum(axis=1) / drawn.sum(axis=1)
    return error


def _calibration_error_each(scores: Scores) -> F64:
    inside, gap = _bin(scores)
    errors: F64 = gap * (np.sign(inside @ gap) @ inside)
    return errors


def _macro_f1(scores: Scores, weights: F64 | None) -> F64:
    """Return the mean F1 of the labels that occur, right or predicted; ties count in part."""
    drawn = weights_of(scores, weights)
    first = scores.loglik == scores.loglik.max(axis=1, keepdims=True)
    predicted = first / first.sum(axis=1, keepdims=True)
    right = np.eye(first.shape[1])[scores.gold]
    both = drawn @ (predicted * right)
    either = drawn @ predicted + drawn @ right
    occurs = either > 0
    f1 = np.where(occurs, 2 * both / np.where(occurs, either, 1.0), 0.0)
    mean: F64 = f1.sum(axis=1) / occurs.sum(axis=1)
    return mean


def _label_fractions(scores: Scores) -> F64:
    fractions: F64 = np.bincount(scores.gold) / len(scores)
    return fractions[fractions > 0]


def _macro_f1_guessing(scores: Scores) -> float | None:
    """Return the better macro-F1 of two guesses: all labels equally often, or one label only."""
    fractions, labels = _label_fractions(scores), scores.loglik.shape[1]
    even = float((2 * fractions / labels / (fractions + 1 / labels)).sum() / labels)
    return max(even, float((2 * fractions / (1 + fractions)).max() / len(fractions)))


def _written(judge: Callable[[str, tuple[str, ...]], float]) -> Callable[[Scores], F64]:
    def per_example(scores: Scores) -> F64:
        pairs = zip(scores.predictions, scores.references, strict=True)
        return np.array([judge(prediction, references) for prediction, references in pairs])

    return per_example


_answer_match, _token_f1 = _written(answer_match), _written(token_f1)


def _guessing(scores: Scores) -> float | None:
    even = float((1.0 / scores.choices).mean())
    return max(even, commonest(scores.gold.tolist())) if scores.kind == "labels" else even


def _prior_bits(scores: Scores) -> float | None:
    """Return the bits of knowing the labels' proportions: log2(k) - their entropy (Miller 1955)."""
    if scores.kind != "labels":
        return 0.0
    fractions = _label_fractions(scores)
    entropy = (
        float(-(fractions * np.log2(fractions)).sum())
        + (len(fractions) - 1) / 2 / len(scores) / _LN2
    )
    return max(0.0, float(np.log2(scores.loglik.shape[1])) - entropy)


def _same_answer(scores: Scores) -> float | None:
    return commonest([normalize(right[0]) for right in scores.references])


def _zero(scores: Scores) -> float | None:
    return 0.0


_LISTED = ("choices", "labels")
_CHOSEN = (*_LISTED, "answer")
_ALL = (*_CHOSEN, "text")
_ANSWER = ("answer",)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # Temperature: Guo et al. 2017 (1706.04599); information: Ethayarajh et al. 2022, eq. 4.
        Metric("choice_bits", _LISTED, True, _information, _information_per_example, _prior_bits),
        Metric("contrast_bits", _ANSWER, True, _information, _information_per_example, _zero),
        Metric("accuracy", _CHOSEN, True, mean_of(_accuracy), _accuracy, _guessing, mean=True),
        Metric(
            "accuracy_norm",
            *(_CHOSEN, True, mean_of(_accuracy_norm), _accuracy_norm, _guessing),
            mean=True,
        ),
        Metric("macro_f1", ("labels",), True, _macro_f1, _accuracy, _macro_f1_guessing),
        # Expected calibration error: Guo et al. 2017 (1706.04599), eq. 3.
        Metric("ece", _CHOSEN, False, _calibration_error, _calibration_error_each, none, best=0.0),
        Metric(
            "answer_match",
            *(_ANSWER, True, mean_of(_answer_match), _answer_match, _same_answer),
            mean=True,
            written=True,
        ),
        Metric(
            "f1",
            *(_ANSWER, True, mean_of(_token_f1), _token_f1, none),
            mean=True,
            written=True,
        ),
        *NAMED,
        Metric("bits_per_byte", _ALL, False, _bits_per_byte, _bits_per_byte_each, none, best=0.0),
        Metric("perplexity", _ALL, False, _perplexity, _perplexity_each, none, per_token=True),
    )
}


def best_possible(metric: Metric, scores: Scores) -> float:
    """Return the end of the metric's scale: nothing can score better."""
    if metric.name in ("choice_bits", "contrast_bits"):
        return float(np.log2(scores.choices).mean())
    return metric.best


COMPARING = ("choice_bits", "contrast_bits", "accuracy", "accuracy_norm", "macro_f1", "ece")
# Computed only if a recipe or the command names them: `m2m eval` of a task file prints its own.
ASKED_FOR = {metric.name for metric in NAMED} - {"chrf"}
AUTO = {
    "choices": "choice_bits",
    "labels": "choice_bits",
    "answer": "contrast_bits",
    "text": "bits_per_byte",
}


def metrics_for(kind: str) -> list[Metric]:
    """Return all metrics that fit a kind of task, its default first."""
    fitting = [m for m in METRICS.values() if kind in m.kinds]
    return sorted(fitting, key=lambda m: m.name != AUTO[kind])


def check_metric(name: str, kind: str, where: str, *, task_file: bool = False) -> Metric:
    """Return the metric of that name ("auto": the kind's default) if it fits the kind of task.

    Args:
        name: from a recipe or the command line.
        kind: of the task.
        where: the task's file, for the message.
        task_file: whether that is a task file of lm-evaluation-harness.

    Raises:
        InputError: the metric is unknown, or not for such tasks.
    """
    if name == "exact_match" and not task_file:
        name = "answer_match"  # recipes of older versions call it so
    metric = METRICS.get(AUTO[kind] if name == "auto" else name)
    if metric is None or kind not in metric.kinds:
        fitting = ", ".join(m.name for m in metrics_for(kind))
        raise InputError(
            f'{where}: metric "{name}" does not fit a task of kind "{kind}"',
            f"choose auto or one of {fitting}",
        )
    return metric


def metric_named(name: str, scores: Scores) -> Metric | None:
    """Return the metric that a finished run calls so; older runs say `exact_match` for ours."""
    return METRICS.get("answer_match" if name == "exact_match" and not scores.exact else name)


def metrics_of(scores: Scores, also: str = "") -> list[Metric]:
    """Return m2m's own metrics that the scores allow, the default of their kind first.

    Metrics of written answers are left out if the model was not asked to write, and those that
    compare choices if no question has two. Those of lm-evaluation-harness are left out unless
    `also` names one.
    """
    alone = scores.kind != "text" and int(scores.choices.max(initial=0)) < 2
    return [
        metric
        for metric in metrics_for(scores.kind)
        if (scores.predictions or not metric.written)
        and not (alone and metric.name in COMPARING)
        and (metric.name == also or metric.name not in ASKED_FOR)
    ]


def measure_all(scores: Scores, rng: np.random.Generator | None = None, also: str = "") -> Measured:
    """Measure the scores by each of `metrics_of`."""
    return {metric.name: metric.measure(scores, rng) for metric in metrics_of(scores, also)}
