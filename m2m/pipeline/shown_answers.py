"""Draw some questions, and take the base's and the winner's answers out of their scores."""

from __future__ import annotations

import numpy as np

from m2m.evaluate.overlap import answer_match
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import Task, contrasted
from m2m.mix.trial import Trial
from m2m.pipeline.finetunes import TEST, objectives_on
from m2m.pipeline.inputs import Inputs
from m2m.results.answers import Answered, Answers

_SHOWN = 5
_LONGEST = 600  # characters of a question or an answer


def shown_answers(inputs: Inputs, split: str, base: Trial, winner: Trial) -> Answers | None:
    """Return some questions of the first target, drawn by the search's seed; None for a text.

    Args:
        inputs: the run's.
        split: `DEV` or `TEST`.
        base, winner: complete scores of both models.
    """
    seed = inputs.recipe.search.seed
    objective = objectives_on(split, inputs)[0]
    name = inputs.objectives[0].target
    task = contrasted((inputs.test if split == TEST else inputs.dev)[name], seed)
    if task.kind == "text":
        return None
    models = [trial.scores[objective.target] for trial in (base, winner)]
    drawn = np.random.default_rng(seed).permutation(len(task.examples))[:_SHOWN]
    rows = []
    for place in sorted(map(int, drawn)):
        (first, first_right), (second, second_right) = (answer_of(task, s, place) for s in models)
        question, right = _question(task, place), _right(task, models[0], place)
        rows.append(
            Answered(_end(question), _start(right), first, second, first_right, second_right)
        )
    return Answers(name, split.rstrip(":"), len(task.examples), bool(models[0].predictions), rows)


def _question(task: Task, place: int) -> str:
    example = task.examples[place]
    return example.prompt or next(iter(example.contexts), "")


def _right(task: Task, scores: Scores, place: int) -> str:
    if scores.predictions:
        return " | ".join(scores.references[place])
    return task.examples[place].choices[int(scores.gold[place])]


def answer_of(task: Task, scores: Scores, place: int) -> tuple[str, bool]:
    """Return an answer, and whether `accuracy` or `answer_match` counts it as right.

    A written answer to a task file with `exact_match` is right if that says so.
    """
    if scores.predictions:
        text = scores.predictions[place]
        exact = scores.exact[place] if scores.exact else None
        right = answer_match(text, scores.references[place]) > 0 if exact is None else exact
        return _start(text), bool(right)
    count = int(scores.choices[place])
    chosen = int(np.argmax(scores.loglik[place, :count]))
    return _start(task.examples[place].choices[chosen]), chosen == int(scores.gold[place])


def _start(text: str) -> str:
    """Return a text, or the beginning of a long one."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _end(text: str) -> str:
    """Return a text, or the end of a long one: the question is asked there."""
    return text if len(text) <= _LONGEST else f"... {text[-_LONGEST:]}"
