"""Targets: labelled examples from a file, and the requests that score them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from m2m.errors import InputError, Problems
from m2m.formats.records import Record, read_records
from m2m.llamacpp.scoring import Request
from m2m.tokenizer import Formatter

Kind = Literal["choices", "labels", "answer", "text"]

CONTRAST = 4  # choices of an example that came with its answer only: that and three of others
_POOL = 12  # distractors are drawn from so many answers nearest in length


@dataclass(frozen=True)
class Example:
    """One row of a target.

    Attributes:
        prompt: the question; "" for a text.
        choices: the possible answers; of a text the text itself.
        gold: place of the right one.
        line: in the file, from 1.
        facet: the row's `facet` or `lang`, for a breakdown.
    """

    prompt: str
    choices: tuple[str, ...]
    gold: int
    line: int
    facet: str | None = None


@dataclass(frozen=True)
class Task:
    """A target's examples, all of one kind.

    Attributes:
        kind: "choices", "answer" (one right answer, no choices) or "text".
        examples: in file order.
        path: the file.
        fingerprint: sha256 (hex) of the file's bytes.
    """

    kind: Kind
    examples: tuple[Example, ...]
    path: Path
    fingerprint: str


def load_task(path: Path) -> Task:
    """Read a target file.

    Rows are {"question", "choices", "answer": index}, {"prompt", "answer"} or {"text"}, all of the
    same kind; `facet` or `lang` is optional.

    Raises:
        InputError: with up to 20 mistakes and their lines.
    """
    path = Path(path)
    records = read_records(path)
    if not records:
        raise InputError(f"{path}: has no rows", "a target needs at least one example")
    kind = _kind(path, records[0])
    problems = Problems()
    examples = []
    for record in records:
        try:
            examples.append(_READERS[kind](record.fields, record.line))
        except InputError as error:
            problems.add(f"line {record.line}: {error.message}")
    if not problems and kind == "answer" and len({e.choices[0] for e in examples}) < 2:
        problems.add("all answers are the same, so nothing can be told apart")
    problems.raise_if_any(InputError, str(path), f"every row must be {_SHAPES[kind]}")
    return Task(kind, tuple(examples), path, hashlib.sha256(path.read_bytes()).hexdigest())


_SHAPES: dict[Kind, str] = {
    "choices": '{"question": text, "choices": [texts], "answer": index of the right one, from 0}',
    "answer": '{"prompt": text, "answer": text}',
    "text": '{"text": text}',
}


def _kind(path: Path, record: Record) -> Kind:
    keys = record.fields.keys()
    if "choices" in keys:
        return "choices"
    if {"prompt", "answer"} <= keys:
        return "answer"
    if "text" in keys:
        return "text"
    raise InputError(
        f"{path}:{record.line}: found the fields {', '.join(keys) or 'none'}",
        "a target's rows are one of " + "; ".join(_SHAPES.values()),
    )


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f'"{key}" is {value!r:.60}, expected a text')
    return value


def _facet(fields: dict[str, Any]) -> str | None:
    value = fields.get("facet", fields.get("lang"))
    return None if value is None else str(value)


def _read_choices(fields: dict[str, Any], line: int) -> Example:
    question = _text(fields, "question")
    choices, gold = fields.get("choices"), fields.get("answer")
    if not isinstance(choices, list) or len(choices) < 2:
        raise InputError(f'"choices" is {choices!r:.60}, expected a list of two texts or more')
    if not all(isinstance(c, str) and c.strip() for c in choices):
        raise InputError(f'"choices" is {choices!r:.60}, expected non-empty texts')
    if len(set(choices)) < len(choices):
        raise InputError(f'"choices" names one twice: {choices!r:.60}')
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise InputError(
            f'"answer" is {gold!r:.60}, expected an index from 0 to {len(choices) - 1}'
        )
    return Example(question, tuple(choices), gold, line, _facet(fields))


def _read_answer(fields: dict[str, Any], line: int) -> Example:
    return Example(_text(fields, "prompt"), (_text(fields, "answer"),), 0, line, _facet(fields))


def _read_text(fields: dict[str, Any], line: int) -> Example:
    return Example("", (_text(fields, "text"),), 0, line, _facet(fields))


_READERS: dict[Kind, Callable[[dict[str, Any], int], Example]] = {
    "choices": _read_choices,
    "answer": _read_answer,
    "text": _read_text,
}


def contrasted(task: Task, seed: int = 0) -> Task:
    """An "answer" task in which each example has choices: its answer and those of other rows.

    The others are drawn, for each example anew, from the answers nearest in length (bytes), so that
    length does not give the right one away. The same seed gives the same choices.
    """
    if task.kind != "answer":
        return task
    rng = np.random.default_rng(seed)
    answers = sorted({e.choices[0] for e in task.examples})
    lengths = np.array([len(a.encode()) for a in answers])
    examples = []
    for example in task.examples:
        right = example.choices[0]
        far = np.abs(lengths - len(right.encode())).astype(float)
        far[answers.index(right)] = np.inf
        pool = np.argsort(far, kind="stable")[: min(_POOL, len(answers) - 1)]
        drawn = rng.choice(pool, min(CONTRAST - 1, len(pool)), replace=False)
        choices = (right, *(answers[i] for i in drawn))
        examples.append(replace(example, choices=choices))
    return replace(task, examples=tuple(examples))


def requests(task: Task, formatter: Formatter, seed: int = 0) -> list[Request]:
    """What to score for each example: its prompt and its choices as token ids.

    Answers are bare: no end of turn, which every choice would share. A text is scored from its
    second token on, or from its first where the model begins texts with a BOS.
    """
    return [_request(example, task.kind, formatter) for example in contrasted(task, seed).examples]


def _request(example: Example, kind: Kind, formatter: Formatter) -> Request:
    if kind == "text":
        ids = formatter.text_ids(example.choices[0])
        return Request(ids[:1], [ids[1:]])
    prompt = formatter.prompt_ids(example.prompt)
    return Request(prompt, [formatter.answer_ids(choice) for choice in example.choices])


def facets(examples: Sequence[Example]) -> list[str]:
    """The facets that occur, in order of appearance."""
    return list(dict.fromkeys(e.facet for e in examples if e.facet is not None))
