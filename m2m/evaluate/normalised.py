"""Targets in one of Unicode's normal forms, together with everything that a recipe adds to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from m2m.dataset.normal_form import AS_IS, normalised
from m2m.evaluate.tasks import Task
from m2m.store import fingerprint


def normalised_task(task: Task, form: str) -> Task:
    """Return a task with questions, choices, answers and solved examples in a form of `FORMS`."""
    if form == AS_IS:
        return task
    return dataclasses.replace(
        task,
        examples=normalised(task.examples, form),
        form=normalised(task.form, form),
        fingerprint=fingerprint(task=task.fingerprint, normalise=form),
    )


def task_texts(task: Task) -> Iterator[str]:
    """Yield the texts of the questions with their choices, one for each example."""
    for example in task.examples:
        yield "\n".join([example.prompt, *example.choices])
