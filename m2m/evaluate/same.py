"""Find equal questions: one rule for errors, for counts and for rows that two sets share.

Two questions are the same if their text and their right answer are equal by the rule for all
texts (`m2m.dataset.sameness`). Equal questions carry the same information twice, so every error is
computed by drawing them together, as one (cluster bootstrap: Field and Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Sequence

from m2m.dataset.sameness import normalize
from m2m.evaluate.tasks import Task

Key = tuple[str, str]


def question_keys(task: Task) -> list[Key]:
    """Return keys of the examples, equal for equal questions. A text has an empty question."""
    return [(normalize(example.prompt), normalize(example.answer)) for example in task.examples]


def groups(keys: Sequence[Key]) -> tuple[int, ...]:
    """Return for each example the place of the first equal one; empty if all differ."""
    first: dict[Key, int] = {}
    places = tuple(first.setdefault(key, place) for place, key in enumerate(keys))
    return places if len(first) < len(keys) else ()


def in_words(questions: int, different: int, what: str = "questions") -> str:
    """Say for people: "1 question", "24 questions", or "24 questions, 8 of them different"."""
    counted = f"{questions} {what.removesuffix('s') if questions == 1 else what}"
    return counted + (f", {different} of them different" * (different < questions))
