"""Read one row of a target as an example: the question, the choices and the right answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from m2m.dataset.sameness import repeated_text
from m2m.errors import InputError
from m2m.evaluate.answers import Given, expected, place
from m2m.formats.records import Record

Kind = Literal["choices", "labels", "answer", "text"]


@dataclass(frozen=True)
class Example:
    """One row of a target.

    Attributes:
        prompt: the question; "" for a text.
        choices: the possible answers; for a text, the text itself.
        gold: place of the right choice.
        line: in the file, from 1.
        facet: the row's `facet` or `lang`, for a breakdown.
        references: all right answers, if a row has no choices.
    """

    prompt: str
    choices: tuple[str, ...]
    gold: int
    line: int
    facet: str | None = None
    references: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.choices[self.gold]


@dataclass(frozen=True)
class Reading:
    """How to read the rows of a file that has none of the standard shapes.

    Attributes:
        prompt: the question with the row's fields in braces; "": the field `question` or `prompt`.
        answer: the right answer in the same form; "": the field `answer`.
        choices: the possible answers of every row, one of which its answer names.
        answers: how an answer names its choice: one of `READINGS`, or "auto".
    """

    prompt: str = ""
    answer: str = ""
    choices: tuple[str, ...] = ()
    answers: str = "auto"

    @property
    def is_custom(self) -> bool:
        """Return whether any setting differs from the default."""
        return replace(self, answers="auto") != Reading()


SHAPES: dict[Kind, str] = {
    "choices": '{"question": text, "choices": [texts], "answer": index of the right one}',
    "answer": '{"prompt": text, "answer": text or [texts]}',
    "text": '{"text": text}',
}


def kind_of(path: Path, record: Record, reading: Reading) -> Kind:
    """Return the kind of task that a file's first row shows.

    Raises:
        InputError: the row has none of the shapes.
    """
    keys = record.fields.keys()
    if "choices" in keys or reading.choices:
        return "choices"
    if ({"prompt", "answer"} <= keys or reading.prompt) and ("answer" in keys or reading.answer):
        return "answer"
    if "text" in keys and not reading.is_custom:
        return "text"
    remedy = (
        "a target needs prompt and answer, or question, choices and answer, or text; or say how "
        "its rows are read (docs/targets.md)"
    )
    if {"prompt", "completion"} <= keys:
        remedy = "rename completion to answer"
    if reading.answer and not reading.prompt:
        remedy = 'say what is asked, too: prompt = "{...}" with a column in braces'
    elif reading.is_custom:
        remedy = "a row needs an answer: its field `answer`, or say what to take in `answer`"
    columns = ", ".join(keys) or "(none)"
    raise InputError(f"{path}:{record.line}: the columns {columns} do not fit", remedy)


def read_example(record: Record, kind: Kind, reading: Reading) -> Example:
    """Read one row as an example.

    Raises:
        InputError: the row is not of that kind.
    """
    return _READERS[kind](record.fields, record.line, reading)


_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """Replace the names in braces of a template by the row's fields; `{{` is a brace.

    A list is written with commas.

    Raises:
        InputError: the row does not have such a field, or a brace has no partner.
    """

    def value(match: re.Match[str]) -> str:
        mark, name = match.group(), match.group(1)
        if mark in ("{{", "}}"):
            return mark[0]
        if name is None:
            raise InputError(f"a lone {mark} in {template!r:.60}; write it twice to mean itself")
        if name not in fields:
            raise InputError(f"no field {name!r} for {template!r:.60}; found {', '.join(fields)}")
        field = fields[name]
        if field is None:
            raise InputError(f"the field {name!r} for {template!r:.60} is null")
        return ", ".join(map(str, field)) if isinstance(field, list) else str(field)

    return _BRACES.sub(value, template)


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f'"{key}" is {value!r:.60}, expected a text')
    return value


def facet(fields: Mapping[str, Any]) -> str | None:
    """Return the part of a breakdown that a row belongs to: its field `facet` or `lang`."""
    value = fields.get("facet", fields.get("lang"))
    return None if value is None else str(value)


def _prompt(fields: Mapping[str, Any], reading: Reading, key: str) -> str:
    return fill(reading.prompt, fields) if reading.prompt else _text(fields, key)


def given(path: Path, records: Sequence[Record], reading: Reading) -> list[Given]:
    """Return the answers and choices of a file's rows, without rows whose choices are wrong."""
    rows = []
    for record in records:
        try:
            choices = _choices(record.fields, reading)
            rows.append(Given(path, record.line, _answer_text(record.fields, reading), choices))
        except InputError:
            continue
    return rows


def _read_choices(fields: dict[str, Any], line: int, reading: Reading) -> Example:
    question = _prompt(fields, reading, "question")
    choices, answer = _choices(fields, reading), _answer_text(fields, reading)
    gold = place(reading.answers, answer, choices)
    if gold is None:
        fault = f"the answer is {answer!r:.60}"
        if not reading.answer:
            fault = f'"answer" is {fields.get("answer")!r:.60}'
        raise InputError(f"{fault}, expected {expected(reading.answers, choices)}")
    return Example(question, choices, gold, line, facet(fields))


def _choices(fields: Mapping[str, Any], reading: Reading) -> tuple[str, ...]:
    choices = list(reading.choices) or fields.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        raise InputError(f'"choices" is {choices!r:.60}, expected a list of two texts or more')
    if not all(isinstance(c, str) and c.strip() for c in choices):
        raise InputError(f'"choices" is {choices!r:.60}, expected non-empty texts')
    if alike := repeated_text(choices):
        one, other = alike
        raise InputError(
            f"the choices {one!r:.40} and {other!r:.40} are the same text (case and punctuation do "
            "not count)"
        )
    return tuple(choices)


def _answer_text(fields: Mapping[str, Any], reading: Reading) -> str | None:
    """Return a row's answer as text; JSON's true is the text "true" and never a number."""
    if reading.answer:
        return fill(reading.answer, fields)
    value = fields.get("answer")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | str) else None


def _read_answer(fields: dict[str, Any], line: int, reading: Reading) -> Example:
    prompt = _prompt(fields, reading, "prompt")
    if reading.answer:
        answers = [fill(reading.answer, fields)]
    elif isinstance(fields.get("answer"), list) and fields["answer"]:
        answers = [_text({"answer": answer}, "answer") for answer in fields["answer"]]
    else:
        answers = [_text(fields, "answer")]
    if not answers[0].strip():
        raise InputError(f"the answer is {answers[0]!r}, expected a text")
    return Example(prompt, (answers[0],), 0, line, facet(fields), tuple(answers))


def _read_text(fields: dict[str, Any], line: int, reading: Reading) -> Example:
    return Example("", (_text(fields, "text"),), 0, line, facet(fields))


_READERS: dict[Kind, Callable[[dict[str, Any], int, Reading], Example]] = {
    "choices": _read_choices,
    "answer": _read_answer,
    "text": _read_text,
}
