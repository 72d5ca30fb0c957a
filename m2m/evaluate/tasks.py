"""Read targets: labelled examples from a file, and the requests that score them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2m.dataset.answers import READINGS
from m2m.dataset.ask import mappings_hint
from m2m.dataset.conversation import Wrong
from m2m.dataset.directions import refuse_directions
from m2m.dataset.empty_words import emptied
from m2m.dataset.examples import SHAPES, Example, Kind, decided, kind_of, read_example
from m2m.dataset.extra_columns import (
    refuse_chats,
    refuse_listed,
    refuse_other_answers,
    refuse_same_question,
    refuse_unread,
)
from m2m.dataset.label_forms import refuse_unclear_labels
from m2m.dataset.mapping import AS_IT_IS, RowMapping, picked, picked_words, refuse_absent
from m2m.dataset.quality import refuse_marks, refuse_weights
from m2m.dataset.row_source import RowSource, as_source, left_out, or_skip
from m2m.dataset.sameness import normalize
from m2m.dataset.splits import refuse_splits
from m2m.dataset.templates import names_in, optional_in
from m2m.errors import InputError, Problems
from m2m.evaluate.prompts import Form, Prompter
from m2m.evaluate.task_config import Config
from m2m.formats.records import Record
from m2m.llamacpp.scoring import Request
from m2m.opening import Text
from m2m.tokenizer import Formatter

CONTRAST = 4  # choices of an example that came with its answer only: that answer and three others
_POOL = 12  # distractors are drawn from this many answers of the nearest length
# See docs/targets.md: a recipe can set the prompt of its rows.
_IN_PROMPT = ', or name its column in `prompt = "{...}"` in [[targets]]'
_BARE = Form()


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
        picked: the rows that `where` picked and those that were left out, in words.
        skipped: bad rows that the recipe leaves out.
        harness: the keys of a task file of lm-evaluation-harness.
        sizes: of whole texts of a task file, by metric, if its own function counts them.
        note: more for people about how it is read, in words.
    """

    kind: Kind
    examples: tuple[Example, ...]
    path: Path
    fingerprint: str
    form: Form = _BARE
    answers: str = ""
    sha256: str = ""
    picked: str = ""
    skipped: int = 0
    harness: Config | None = None
    sizes: Mapping[str, Sequence[float]] | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Return its name in results: of a target of rows that of the file."""
        return self.harness.name if self.harness else self.path.stem

    @property
    def reading(self) -> str:
        """Return in words how its answers were read; "" if there is only one way."""
        how = (
            self.answers and f'each answer is {READINGS[self.answers]} (answers = "{self.answers}")'
        )
        return "; ".join(filter(None, [self.picked, how, self.note]))


def load_task(source: Path | Text | RowSource, mapping: RowMapping = AS_IT_IS) -> Task:
    """Read a target file.

    Rows are {"question", "choices", "answer": index}, {"prompt", "answer"} or {"text"}, all of the
    same kind, or any rows that `mapping` turns into one of these; `facet` or `lang` is optional.

    Raises:
        InputError: lists up to 20 mistakes with their lines.
    """
    source = as_source(source)
    path = source.path
    if not source.records:
        raise InputError(f"{path}: has no rows", "a target needs at least one example")
    records = picked(path, source.records, mapping)
    refuse_splits(path, records, mapping, "target")
    refuse_absent(path, records, mapping, "target")
    kind = _kind(source, records, mapping)
    if kind == "answer":
        refuse_unclear_labels(path, records, mapping, skips=source.skips)
    chosen, doubt = decided([(path, records)], mapping) if kind == "choices" else ("", None)
    mapping = replace(mapping, answers=chosen)
    problems = Problems()
    examples, kept = [], []
    for record in records:
        try:
            examples.append(_example(record, kind, mapping))
            kept.append(record)
        except InputError as error:
            problems.add(f"line {record.line}: {error.message}")
    hint = f"every row must be {SHAPES[kind]}"
    if mapping.is_custom:
        hint = "`prompt`, `answer`, `choices` and `labels` say how a row is read"
    if chosen and examples:
        hint += f"; here {READINGS[chosen]} is taken for the answer (`answers` says otherwise)"
    if not examples and not mapping.is_custom:
        hint = mappings_hint(path, records, "target", source.is_named_by_row) or hint
    hint = or_skip(hint, some_are_good=bool(examples))
    if not (source.skips and examples):
        problems.raise_if_any(InputError, source.name, hint)
    skipped = source.skipped + len(problems) if source.skips else 0
    _refuse_unfit(path, kept, examples, kind, mapping)
    if doubt:
        raise doubt
    words = [picked_words(len(source.records), len(records), mapping), left_out(skipped)]
    words += emptied(kept, [name for each in mapping.templates for name in optional_in(each)])
    task = Task(kind, tuple(examples), path, source.sha256, answers=chosen, skipped=skipped)
    return assembled(replace(task, picked="; ".join(filter(None, words))))


def _kind(source: RowSource, records: Sequence[Record], mapping: RowMapping) -> Kind:
    """Return the kind of a file's rows.

    Raises:
        InputError: they have no kind, or it is not clear; the hint has mappings to choose from.
    """
    path = source.path
    asked = functools.partial(mappings_hint, path, records, "target", source.is_named_by_row)
    try:
        kind = kind_of(path, records[0], mapping)
    except InputError as error:
        hint = "" if mapping.is_custom else asked()
        raise InputError(error.message, hint or error.hint) from None
    if kind == "text" and not mapping.text:
        refuse_chats(path, records, answer="answer")
        refuse_other_answers(path, records, asked, "target")
    return kind


def _refuse_unfit(
    path: Path,
    records: Sequence[Record],
    examples: Sequence[Example],
    kind: Kind,
    mapping: RowMapping,
) -> None:
    """Refuse questions that differ only in what the model would not see, and bad answers.

    Raises:
        InputError: names the column, or the lines.
    """
    if kind == "text":
        return
    sides = [(example.prompt, example.answer) for example in examples]
    if kind == "answer" and not mapping.prompt:
        refuse_same_question(path, records, sides)
    named = [name for template in mapping.templates for name in names_in(template)]
    named += [name for name, _ in mapping.where]
    answers = [example.answer for example in examples]
    refuse_weights(path, records, named)
    lines = (record.line for record in records)
    refuse_listed(path, zip(answers, lines, strict=True), len(answers))
    refuse_marks(path, records, answers, mapping)
    asked = [(f"{example.system}\n{example.prompt}", example.answer) for example in examples]
    refuse_directions(path, records, mapping, asked)


def _example(record: Record, kind: Kind, mapping: RowMapping) -> Example:
    """Read one row, if the model sees all of its question.

    Raises:
        InputError: the row is not of that kind, or has more columns that belong to the question.
    """
    example = read_example(record, kind, mapping)
    try:
        if kind != "text" and not (mapping.prompt or mapping.messages):
            visible = (example.system, example.prompt, *example.choices, *example.references)
            refuse_unread(kind, record.fields, visible, _IN_PROMPT)
    except Wrong as wrong:
        raise InputError(str(wrong)) from None
    return example


def assembled(task: Task) -> Task:
    """Return a task after checking it as a whole.

    If all rows have the same choices, it becomes a task of labels: each label gets a fixed place,
    and macro-F1 counts by place. A row of a task file keeps its own order, as in the harness.

    Raises:
        InputError: all answers are the same.
    """
    if not task.harness and not has_contrast(task):
        raise InputError(
            f"{task.path}: all answers are the same, so there is no wrong one to score",
            "add rows with other answers",
        )
    order = task.examples[0].choices
    alike = all(
        (example.choices == order if task.harness else set(example.choices) == set(order))
        and len(set(example.choices)) == len(example.choices)
        for example in task.examples
    )
    if task.kind != "choices" or not alike or len(task.examples) < 2:
        return task
    examples = (
        replace(example, choices=order, gold=order.index(example.answer))
        for example in task.examples
    )
    return replace(task, kind="labels", examples=tuple(examples))


def has_contrast(task: Task) -> bool:
    """Return whether a task has choices, or answers that differ.

    A task file needs no wrong answers for its own metrics: it has none if all of its answers are
    right for one of its questions.
    """
    if task.kind != "answer":
        return True
    answers = {normalize(example.choices[0]) for example in task.examples}
    if len(answers) < 2 or not task.harness:
        return len(answers) > 1
    return not any(answers <= right for right in _right_by_question(task.examples).values())


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
    if not has_contrast(task):  # a task file may ask for the same answer everywhere
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
        whole = task.harness is not None
        return [_text_request(example, formatter, whole=whole) for example in task.examples]
    prompter = Prompter(task.form, formatter)
    return [_request(task.path, prompter, example) for example in contrasted(task, seed).examples]


def _request(path: Path, prompter: Prompter, example: Example) -> Request:
    try:
        return prompter.request(example)
    except InputError as error:
        raise InputError(f"{path}:{example.line}: {error.message}", error.hint) from error


def _text_request(example: Example, formatter: Formatter, *, whole: bool) -> Request:
    """Return the request of a text.

    The harness puts BOS, or else EOS, before a text, also if the tokenizer puts BOS there: then it
    is predicted, too.
    """
    ids = formatter.text_ids(example.choices[0])
    tokenizer = formatter.tokenizer
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    if whole and start is not None:
        ids = [start, *ids]
    return Request(ids[:1], [ids[1:]])
