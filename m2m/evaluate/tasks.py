"""Read targets: labelled examples from a file, and the requests that score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2m.dataset.conversation import Wrong
from m2m.dataset.fields import (
    refuse_listed,
    refuse_other_answers,
    refuse_same_question,
    refuse_unread,
)
from m2m.dataset.sameness import normalize
from m2m.errors import InputError, Problems
from m2m.evaluate.answers import READINGS, Given, decide
from m2m.evaluate.examples import (
    SHAPES,
    Example,
    Kind,
    Reading,
    given,
    kind_of,
    read_example,
)
from m2m.evaluate.prompts import Form, Prompter
from m2m.formats.records import Record, read_records, rows_text
from m2m.llamacpp.scoring import Request
from m2m.opening import Text
from m2m.tokenizer import Formatter

CONTRAST = 4  # choices of an example that came with its answer only: that answer and three others
_POOL = 12  # distractors are drawn from this many answers of the nearest length
# See docs/targets.md: a recipe can set the prompt of its rows.
_IN_PROMPT = ', or name its column in `prompt = "{...}"` in [[targets]]'
_AS_THEY_ARE, _BARE = Reading(), Form()


@dataclass(frozen=True)
class Task:
    """A target's examples, all of one kind.

    Attributes:
        kind: "choices", "labels" (the same choices in every row), "answer" (one right answer, no
            choices) or "text".
        examples: in file order.
        path: the file.
        fingerprint: sha256 (hex) of the file's bytes; for a task file, of all it says and reads.
        form: how the examples are asked.
        answers: how an answer names its choice, one of `READINGS`; "" if none of these.
        sha256: of a task file's own bytes; "" for rows, whose hash is the fingerprint.
    """

    kind: Kind
    examples: tuple[Example, ...]
    path: Path
    fingerprint: str
    form: Form = _BARE
    answers: str = ""
    sha256: str = ""

    @property
    def reading(self) -> str:
        """Return in words how its answers were read; "" if there is only one way."""
        if not self.answers:
            return ""
        return f'each answer is {READINGS[self.answers]} (answers = "{self.answers}")'


def load_task(source: Path | Text, reading: Reading = _AS_THEY_ARE) -> Task:
    """Read a target file.

    Rows are {"question", "choices", "answer": index}, {"prompt", "answer"} or {"text"}, all of the
    same kind, or any rows that `reading` turns into one of these; `facet` or `lang` is optional.

    Raises:
        InputError: lists up to 20 mistakes with their lines.
    """
    file = rows_text(source) if isinstance(source, Path) else source
    path, records = file.path, read_records(file)
    if not records:
        raise InputError(f"{path}: has no rows", "a target needs at least one example")
    kind = kind_of(path, records[0], reading)
    if kind == "text":
        refuse_other_answers(path, records, answer="answer")
    chosen, doubt = decided([file], reading) if kind == "choices" else ("", None)
    reading = replace(reading, answers=chosen)
    problems = Problems()
    examples = []
    for record in records:
        try:
            examples.append(_example(record, kind, reading))
        except InputError as error:
            problems.add(f"line {record.line}: {error.message}")
    hint = f"every row must be {SHAPES[kind]}"
    if reading.is_custom:
        hint = "`prompt`, `answer` and `choices` say how a row is read"
    if chosen and examples:
        hint += f"; here {READINGS[chosen]} is taken for the answer (`answers` says otherwise)"
    problems.raise_if_any(InputError, str(path), hint)
    if kind == "answer":
        if not reading.prompt:
            sides = [(example.prompt, example.answer) for example in examples]
            refuse_same_question(path, [record.fields for record in records], sides)
        refuse_listed(path, [(example.answer, example.line) for example in examples])
    if doubt:
        raise doubt
    return assembled(Task(kind, tuple(examples), path, file.sha256, answers=chosen))


def _example(record: Record, kind: Kind, reading: Reading) -> Example:
    """Read one row, if the model sees all of its question.

    Raises:
        InputError: the row is not of that kind, or has more columns that belong to the question.
    """
    example = read_example(record, kind, reading)
    try:
        if kind != "text" and not reading.prompt:
            visible = (example.prompt, *example.choices, *example.references)
            refuse_unread(kind, record.fields, visible, _IN_PROMPT)
    except Wrong as wrong:
        raise InputError(str(wrong)) from None
    return example


def decided(files: Sequence[Text], reading: Reading) -> tuple[str, InputError | None]:
    """Return how the answers of some files of one target name their choices; see `decide`.

    Rows that cannot be read are left to `load_task`.
    """
    rows: list[Given] = []
    for file in files if reading.answers == "auto" else ():
        try:
            records = read_records(file)
            if records and kind_of(file.path, records[0], reading) == "choices":
                rows += given(file.path, records, reading)
        except InputError:
            continue
    if not rows:
        return "index0" if reading.answers == "auto" else reading.answers, None
    return decide(rows, named=bool(reading.choices))


def assembled(task: Task) -> Task:
    """Return a task after checking it as a whole.

    If all rows have the same choices, it becomes a task of labels: each label gets a fixed place,
    and macro-F1 counts by place.

    Raises:
        InputError: all answers are the same.
    """
    if task.kind == "answer" and len({normalize(e.choices[0]) for e in task.examples}) < 2:
        raise InputError(
            f"{task.path}: all answers are the same, so there is no wrong one to score",
            "add rows with other answers",
        )
    order = task.examples[0].choices
    alike = all(set(example.choices) == set(order) for example in task.examples)
    if task.kind != "choices" or not alike or len(task.examples) < 2:
        return task
    examples = (
        replace(example, choices=order, gold=order.index(example.answer))
        for example in task.examples
    )
    return replace(task, kind="labels", examples=tuple(examples))


def contrasted(task: Task, seed: int = 0) -> Task:
    """Return an "answer" task with choices: each example's answer and answers of other rows.

    The others are drawn, again for each example, from the answers nearest in length (bytes), so
    that length does not reveal the right one. No drawn answer is the same text
    (`m2m.dataset.sameness`) as another choice, or as a right answer to this question in this row
    or in another with the same question. The same seed gives the same choices.

    Raises:
        InputError: every answer is right for a row; names its line.
    """
    if task.kind != "answer" or all(len(example.choices) > 1 for example in task.examples):
        return task
    rng = np.random.default_rng(seed)
    by_form = {normalize(a): a for a in sorted({e.choices[0] for e in task.examples}, reverse=True)}
    answers = sorted(by_form.values())
    places = {normalize(answer): place for place, answer in enumerate(answers)}
    lengths = np.array([len(a.encode()) for a in answers])
    right = _right_by_question(task.examples)
    examples = []
    for example in task.examples:
        far = np.abs(lengths - len(example.choices[0].encode())).astype(float)
        forms = right[normalize(example.prompt)]
        far[[places[form] for form in forms if form in places]] = np.inf
        pool = np.argsort(far, kind="stable")[: min(_POOL, np.isfinite(far).sum())]
        if not len(pool):
            raise InputError(
                f"{task.path}:{example.line}: the file has no wrong answer to this question, so "
                "there is nothing to compare its answer with",
                "add rows with other answers, or give rows with other questions another prompt",
            )
        drawn = rng.choice(pool, min(CONTRAST - 1, len(pool)), replace=False)
        choices = (example.choices[0], *(answers[i] for i in drawn))
        examples.append(replace(example, choices=choices))
    return replace(task, examples=tuple(examples))


def _right_by_question(examples: Sequence[Example]) -> dict[str, set[str]]:
    """Return the normal forms of all answers that some row holds to be right, by question."""
    right: dict[str, set[str]] = {}
    for example in examples:
        answers = map(normalize, (example.choices[0], *example.references))
        right.setdefault(normalize(example.prompt), set()).update(answers)
    return right


def requests(task: Task, formatter: Formatter, seed: int = 0) -> list[Request]:
    """Return a scoring request for each example: its prompt and its choices as token ids.

    Answers are bare, without the end of turn, which every choice would share. A text is scored from
    its second token on, or from its first if the model begins texts with a BOS.

    Raises:
        InputError: an example cannot be asked; names its line.
    """
    if task.kind == "text":
        return [_text_request(example, formatter) for example in task.examples]
    prompter = Prompter(task.form, formatter)
    return [_request(task.path, prompter, example) for example in contrasted(task, seed).examples]


def _request(path: Path, prompter: Prompter, example: Example) -> Request:
    try:
        return prompter.request(example)
    except InputError as error:
        raise InputError(f"{path}:{example.line}: {error.message}", error.hint) from error


def _text_request(example: Example, formatter: Formatter) -> Request:
    ids = formatter.text_ids(example.choices[0])
    return Request(ids[:1], [ids[1:]])
