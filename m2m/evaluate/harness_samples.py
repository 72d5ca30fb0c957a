"""A row for each answer, as lm-evaluation-harness writes them to `samples_TASK_DATE.jsonl`.

See `evaluate` in lm_eval/evaluator.py and `save_results_samples` in
lm_eval/loggers/evaluation_tracker.py. Numbers in `resps` are texts there, and so they are here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from m2m.dataset.examples import Example
from m2m.evaluate.harness_metrics import first_likeliest, probabilities
from m2m.evaluate.harness_results import Reported, requests
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import Task

Asked = Callable[[int], list[tuple[Any, ...]]]
_PAIRS = ("f1", "mcc")  # the harness shows the places that are right and chosen
_TEXTS = ("bleu", "chrf", "chrf++", "ter")


def sample_rows(task: Task, made: Sequence[Reported], asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield a row for each list of filters and question.

    Args:
        task: all of its examples were scored.
        made: its metrics.
        asked: the texts that the model read for a row of another form.
    """
    for name in dict.fromkeys(each.filter for each in made):
        of_filter = [each for each in made if each.filter == name]
        values = {each.name: _values(each, task) for each in of_filter}
        scores = of_filter[0].scores
        for place in range(len(scores)):
            example = None if task.form.window else task.examples[place]
            theirs = example and task.harness and (example.contexts or task.kind == "text")
            arguments = requests(task, example) if example and theirs else asked(place)
            row = _row(place, example, arguments, scores, task)
            yield {**row, "filter": name, "metrics": [*values], **_hashes(row, arguments)} | {
                metric: each[place] for metric, each in values.items()
            }


def cumulative_hash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the harness's hash of a task: of all its documents, prompts and targets."""
    return _hash("".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in rows))


def _row(
    place: int,
    example: Example | None,
    arguments: Sequence[tuple[Any, ...]],
    scores: Scores,
    task: Task,
) -> dict[str, Any]:
    answers = _answers(place, arguments, scores, task)
    raw = [[scores.written[place]]] if scores.written and scores.predictions else None
    return {
        "doc_id": place,
        "doc": _doc(place, example, task.kind),
        "target": str(_target(example, task)),
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(each)}
            for i, each in enumerate(arguments)
        },
        "resps": raw or [[answer] for answer in answers],
        "filtered_resps": answers,
    }


def _answers(
    place: int, arguments: Sequence[tuple[Any, ...]], scores: Scores, task: Task
) -> list[Any]:
    """Return a written text, or for each choice its log-likelihood and whether it is greedy."""
    if scores.predictions:
        return [scores.predictions[place]]
    nats = scores.loglik[place, : len(arguments)].tolist()
    if task.kind == "text" or scores.likeliest is None:
        return list(map(str, nats))
    greedy = scores.likeliest[place].tolist()
    return [[str(value), str(best)] for value, best in zip(nats, greedy, strict=False)]


def _doc(place: int, example: Example | None, kind: str) -> Mapping[str, Any]:
    if example is None:
        return {"window": place}
    if example.fields:
        return example.fields
    about = {"line": example.line, "prompt": example.prompt, "answer": example.answer}
    choices = list(example.choices) if kind in ("choices", "labels") else []
    more = {"choices": choices, "facet": example.facet, "system": example.system}
    return about | {key: value for key, value in more.items() if value}


def _target(example: Example | None, task: Task) -> Any:
    if example is None:
        return ""
    if task.harness:
        return example.target
    return example.gold if task.kind in ("choices", "labels") else example.answer


def _hashes(row: Mapping[str, Any], arguments: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    doc = json.dumps(row["doc"], indent=2, default=str, ensure_ascii=False)
    return {
        "doc_hash": _hash(doc),
        "prompt_hash": _hash(str(arguments[0][0])),
        "target_hash": _hash(row["target"]),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _values(made: Reported, task: Task) -> list[Any]:
    """Return a metric's values of all rows, in the form that the harness shows."""
    scores, name = made.scores, made.name
    if task.harness and name in _PAIRS:
        chosen = first_likeliest(scores).tolist()
        return [list(pair) for pair in zip(scores.gold.tolist(), chosen, strict=True)]
    if task.harness and name == "brier_score":
        believed = probabilities(scores).tolist()
        return [list(pair) for pair in zip(scores.gold.tolist(), believed, strict=True)]
    if task.harness and name in _TEXTS:
        pairs = zip(scores.references, scores.predictions, strict=True)
        return [[*right, text] for right, text in pairs]
    each = made.metric.per_example(scores)
    nats = scores.of_gold(scores.loglik)
    if task.harness and task.kind == "text":
        return [[n, round(-n / rate)] for n, rate in zip(nats.tolist(), each.tolist(), strict=True)]
    if task.harness and name == "perplexity":
        return list(nats.tolist())
    return list(np.asarray(each, np.float64).tolist())
