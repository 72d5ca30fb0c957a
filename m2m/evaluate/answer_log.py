"""A model's answer to each example, as plain rows for a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from m2m.evaluate.harness_samples import Asked
from m2m.evaluate.overlap import answer_match, chrf, chrf_counts, token_f1
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import Task


def samples(task: Task, scores: Scores, asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield a row per example: question, right answer, likelihoods of the choices, written answer.

    Args:
        task: as the evaluator scored it, with the choices that it drew.
        scores: of all its examples.
        asked: the texts that the model reads for an example.
    """
    for row in range(len(scores)):
        count = int(scores.choices[row])
        loglik = scores.loglik[row, :count]
        scored: dict[str, Any] = {"loglik": loglik.tolist()}
        scored |= {"bytes": scores.bytes[row, :count].astype(int).tolist()}
        scored |= {"tokens": scores.tokens[row, :count].astype(int).tolist()}
        if task.form.window:
            yield {"window": row, **scored}
            continue
        example = task.examples[row]
        about = {"line": example.line, "facet": example.facet}
        if task.kind == "text":
            yield {**about, "text": example.answer, **scored}
            continue
        yield {
            **about,
            "prompt": example.prompt,
            "contexts": list(example.contexts) or list(dict.fromkeys(a[0] for a in asked(row))),
            "choices": list(example.choices),
            "answer": example.gold,
            **scored,
            "chosen": int(np.argmax(loglik)),
            "chosen_by_byte": int(np.argmax(loglik / scores.bytes[row, :count])),
            **(_written(scores, row) if scores.predictions else {}),
        }


def _written(scores: Scores, row: int) -> dict[str, Any]:
    prediction, references = scores.predictions[row], scores.references[row]
    return {
        "written": prediction,
        "cut": bool(scores.cut and scores.cut[row]),
        "references": list(references),
        **({"exact_match": bool(scores.exact[row])} if scores.exact else {}),
        "answer_match": answer_match(prediction, references),
        "f1": token_f1(prediction, references),
        "chrf": float(chrf(chrf_counts(prediction, references))),
    }
