"""Read one row as an example: the question, the choices and the right answer.

Targets ask the examples, and datasets of the same rows train on their right answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m2m.dataset.answers import GivenAnswer, decide, expected, place
from m2m.dataset.conversation import NOTHING, Wrong, blank_words, for_nothing, is_blank
from m2m.dataset.mapping import AS_IT_IS, RowMapping
from m2m.dataset.sameness import repeated_text
from m2m.dataset.templates import (
    BRACES,
    as_text,
    fill,
    is_empty,
    only_name,
    parsed,
    texts_of,
    value_at,
)
from m2m.dataset.turns import is_turns, read_turns
from m2m.errors import InputError
from m2m.formats.records import Record

Kind = Literal["choices", "labels", "answer", "text"]
Fields = Mapping[str, Any]
_ASKED, _SAID = ("question", "prompt"), ("answer", "completion")


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
        system: the row's own system message.
        contexts: of a task of lm-evaluation-harness, the whole text before each choice: one for
            all, or one for each of them.
        fields: of the row of such a task.
        target: the value of its `doc_to_target`.
    """

    prompt: str
    choices: tuple[str, ...]
    gold: int
    line: int
    facet: str | None = None
    references: tuple[str, ...] = ()
    system: str = ""
    contexts: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    target: Any = field(default=None, compare=False, repr=False)

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.choices[self.gold]


SHAPES: dict[Kind, str] = {
    "choices": '{"question": text, "choices": [texts], "answer": index of the right one}',
    "answer": '{"prompt": text, "answer": text or [texts]}',
    "text": '{"text": text}',
}


def kind_of(path: Path, record: Record, mapping: RowMapping) -> Kind:
    """Return the kind of task that a file's first row shows.

    Raises:
        InputError: the row has none of the shapes.
    """
    keys = record.fields.keys()
    asked, said = _ASKED & keys, _SAID & keys
    if mapping.text:
        return "text"
    if mapping.messages:
        return "answer"
    if "choices" in keys or mapping.options:
        return "choices"
    if ("prompt" in keys or mapping.prompt or (mapping.is_custom and asked)) and (
        said or mapping.answer
    ):
        return "answer"
    if "text" in keys and not mapping.is_custom:
        return "text"
    remedy = (
        "a target needs prompt and answer, or question, choices and answer, or text; or say how "
        "its rows are read (docs/data.md)"
    )
    if mapping.answer and not mapping.prompt:
        remedy = 'say what is asked, too: prompt = "{...}" with a column in braces'
    elif mapping.is_custom:
        remedy = "a row needs an answer: its field `answer`, or say what to take in `answer`"
    columns = ", ".join(keys) or "(none)"
    raise InputError(f"{path}:{record.line}: the columns {columns} do not fit", remedy)


def read_example(record: Record, kind: Kind, mapping: RowMapping = AS_IT_IS) -> Example:
    """Read one row as an example.

    Raises:
        InputError: the row is not of that kind.
    """
    fields = record.fields
    reader = _read_conversation if mapping.messages else _READERS[kind]
    if kind == "answer" and not mapping.is_custom and is_turns(fields.get("prompt")):
        fields = {"messages": [*fields["prompt"], *fields.get(_key(fields, _SAID), [])], **fields}
        reader, mapping = _read_conversation, RowMapping(messages="{messages}")
    example = reader(fields, record.line, mapping)
    said = example.answer if kind != "choices" else ""
    refuse_nothing(
        (example.system, example.prompt, said), {*mapping.options, *mapping.words.values()}
    )
    return example


def refuse_nothing(texts: Sequence[str], known: Collection[str] = ()) -> None:
    """Refuse a system message, question or answer that is a program's word for an empty cell.

    Args:
        texts: of the row.
        known: words that the recipe names, and so means.

    Raises:
        InputError: says what to do.
    """
    for text in texts:
        if (word := text.strip()) in NOTHING and word not in known:
            raise InputError(
                f"{for_nothing(word)}; delete the row, or name the word in `labels` if it is meant"
            )


def facet(fields: Fields) -> str | None:
    """Return the part of a breakdown that a row belongs to: its field `facet` or `lang`."""
    value = fields.get("facet", fields.get("lang"))
    return None if value is None else str(value)


def decided(
    files: Sequence[tuple[Path, Sequence[Record]]], mapping: RowMapping
) -> tuple[str, InputError | None]:
    """Return how the answers of some files name their choices; see `decide`.

    Rows that cannot be read are left to the reader of each file.
    """
    if mapping.answers != "auto":
        return mapping.answers, None
    rows: list[GivenAnswer] = []
    for path, records in files:
        try:
            if records and kind_of(path, records[0], mapping) == "choices":
                rows += _given(path, records, mapping)
        except InputError:
            continue
    if not rows:
        return "index0", None
    return decide(rows, named=bool(mapping.options) and not _vary(mapping))


def _vary(mapping: RowMapping) -> bool:
    """Return whether the choices are the row's own, and not the same words for all rows."""
    return any(BRACES.search(template) for template in mapping.choices)


def _given(path: Path, records: Sequence[Record], mapping: RowMapping) -> list[GivenAnswer]:
    """Return the answers and choices of a file's rows, without rows whose choices are wrong."""
    rows = []
    for record in records:
        try:
            choices, names = _choices(record.fields, mapping)
            answer = _answer_text(record.fields, mapping)
        except InputError:
            continue
        rows.append(GivenAnswer(path, record.line, answer, choices, names))
    return rows


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f'"{key}" is {value!r:.60}, expected a text')
    if is_blank(value):
        raise InputError(f'"{key}" {blank_words(value)}')
    return value


def _key(fields: Fields, keys: Sequence[str]) -> str:
    """Return the first key that the row has, or else the first of all."""
    return next((key for key in keys if key in fields), keys[0])


def _prompt(fields: Fields, mapping: RowMapping, keys: Sequence[str]) -> str:
    if not mapping.prompt:
        return _text(fields, _key(fields, keys))
    prompt = fill(mapping.prompt, fields)
    if is_blank(prompt):
        raise InputError(f"the prompt {mapping.prompt!r:.60} {blank_words(prompt)}")
    return prompt


def _system(fields: Fields, mapping: RowMapping) -> str:
    return fill(mapping.system, fields) if mapping.system else ""


def _read_choices(fields: Fields, line: int, mapping: RowMapping) -> Example:
    choices, names = _choices(fields, mapping)
    question = _prompt(_with_choices(fields, choices), mapping, _ASKED)
    answer = _answer_text(fields, mapping)
    gold = place(mapping.answers, answer, choices, names)
    if gold is None:
        fault = f"the answer is {answer!r:.60}"
        if not mapping.answer:
            key = _key(fields, _SAID)
            fault = f'"{key}" is {fields.get(key)!r:.60}'
        raise InputError(f"{fault}, expected {expected(mapping.answers, choices, names)}")
    system = _system(fields, mapping)
    return Example(question, choices, gold, line, facet(fields), system=system)


def _with_choices(fields: Fields, choices: Sequence[str]) -> Fields:
    """Return the fields with `choices` as the row's own options; else those that it is scored by.

    A recipe that scores letters (`choices = ["A", "B"]`) shows the row's options in its prompt.
    """
    if "choices" not in fields:
        return {**fields, "choices": [*choices]}
    try:
        return {**fields, "choices": [*_options(fields["choices"], "choices")[0]]}
    except InputError:
        return fields


def _choices(fields: Fields, mapping: RowMapping) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a row's choices, and the names that the row gives them (or none)."""
    templates = mapping.options
    if not templates:
        return _options(fields.get("choices"), "choices")
    if not _vary(mapping):
        return _checked(templates, "choices"), ()
    if len(templates) == 1:
        name = only_name(templates[0])
        if name is None:
            raise InputError(f"choices {templates[0]!r:.60} must be one field, or a list")
        return _options(value_at(fields, name, templates[0]), name)
    texts, names = [], []
    for template in templates:
        name = only_name(template) or ""
        value = value_at(fields, name, template) if name else fill(template, fields)
        texts.append("" if is_empty(value) else fill(template, fields))
        names.append(name)
    while texts and not texts[-1]:  # a row may have fewer choices than others
        texts.pop()
    return _checked(texts, "choices"), tuple(names[: len(texts)])


def _options(value: Any, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return choices and their names, from a list, an object of two lists, or an object by name.

    A text may hold the list as JSON or Python writes it, or with `|` between its items.
    """
    names: list[Any] = []
    options = parsed(value)
    if isinstance(options, str) and _items(options):
        options = _items(options)
    if isinstance(options, Mapping) and isinstance(options.get("text"), list):
        names, options = [*(options.get("label") or options.get("key") or [])], options["text"]
    elif isinstance(options, Mapping) and isinstance(options.get("choices"), list):
        names, options = [*(options.get("labels") or [])], options["choices"]  # TruthfulQA
    elif isinstance(options, Mapping) and len(options) > 1:
        names, options = [*options], [*options.values()]
    elif isinstance(options, list) and all(isinstance(o, Mapping) and "text" in o for o in options):
        names = [
            next((o[key] for key in ("label", "key", "id") if key in o), None) for o in options
        ]
        options = [option["text"] for option in options]
    if not isinstance(options, list) or len(options) < 2:
        raise InputError(f'"{name}" is {value!r:.60}, expected a list of two texts or more')
    kept = tuple(map(as_text, names)) if len(names) == len(options) and None not in names else ()
    return _checked(options, name), kept


def _items(text: str) -> list[str]:
    """Return the items of a text with `|` or line breaks between them; [] if it has none."""
    sign = "|" if "|" in text else "\n"
    return [part.strip() for part in text.strip().split(sign)] if sign in text.strip() else []


def _checked(choices: Sequence[Any], name: str) -> tuple[str, ...]:
    if len(choices) < 2:
        raise InputError(f'"{name}" is {[*choices]!r:.60}, expected a list of two texts or more')
    if not all(isinstance(c, str) and not is_blank(c) for c in choices):
        raise InputError(f'"{name}" is {[*choices]!r:.60}, expected non-empty texts')
    if alike := repeated_text([*choices]):
        one, other = alike
        raise InputError(
            f"the choices {one!r:.40} and {other!r:.40} are the same text (case and punctuation do "
            "not count)"
        )
    return tuple(choices)


def _answer_text(fields: Fields, mapping: RowMapping) -> str | None:
    """Return a row's answer as text; JSON's true is the text "true" and never a number."""
    if mapping.answer:
        return fill(mapping.answer, fields, mapping.words)
    key = _key(fields, _SAID)
    if mapping.labels:
        return fill(f"{{{key}}}", fields, mapping.words)
    value = fields.get(key)
    return as_text(value) if isinstance(value, int | str) else None


def _read_answer(fields: Fields, line: int, mapping: RowMapping) -> Example:
    prompt = _prompt(fields, mapping, _ASKED[::-1])
    key = _key(fields, _SAID)
    answers = [*map(str, _right(fields, mapping, key))]
    if (blank := next(filter(is_blank, answers), None)) is not None:
        raise InputError(f'"{only_name(mapping.answer or "") or key}" {blank_words(blank)}')
    system = _system(fields, mapping)
    return Example(prompt, (answers[0],), 0, line, facet(fields), tuple(answers), system)


def _right(fields: Fields, mapping: RowMapping, key: str) -> list[str]:
    """Return all right answers: the items, if the template is one field with a list."""
    if not mapping.answer and not mapping.labels:
        if isinstance(fields.get(key), list) and fields[key]:
            return [_text({key: answer}, key) for answer in fields[key]]
        return [_text(fields, key)]
    template = mapping.answer or f"{{{key}}}"
    name = only_name(template)
    if name and isinstance(value := value_at(fields, name, missing=None), list) and value:
        return texts_of(value, name, mapping.words)
    return [fill(template, fields, mapping.words)]


def _read_text(fields: Fields, line: int, mapping: RowMapping) -> Example:
    text = fill(mapping.text, fields) if mapping.text else _text(fields, "text")
    if is_blank(text):
        raise InputError(f"the text {mapping.text!r:.60} {blank_words(text)}")
    return Example("", (text,), 0, line, facet(fields))


def _read_conversation(fields: Fields, line: int, mapping: RowMapping) -> Example:
    """Read a conversation of one question and its answer, perhaps with a system message."""
    try:
        messages = read_turns(conversation(fields, mapping), mapping.messages)
    except Wrong as wrong:
        raise InputError(str(wrong)) from None
    roles = [message["role"] for message in messages]
    system = [m["content"] for m in messages if m["role"] in ("system", "developer")]
    rest = [m["content"] for m in messages if m["role"] in ("user", "assistant")]
    if roles[len(system) :] != ["user", "assistant"] or len(system) > 1:
        raise InputError(
            f"the turns are {', '.join(roles)}; a target asks one question: user, assistant"
        )
    head = _system(fields, mapping) or "".join(system)
    return Example(rest[0], (rest[1],), 0, line, facet(fields), (rest[1],), head)


def conversation(fields: Fields, mapping: RowMapping) -> Any:
    """Return the value of the field that `messages` names.

    Raises:
        InputError: `messages` does not name one field.
    """
    name = only_name(mapping.messages)
    if name is None:
        raise InputError(f"messages {mapping.messages!r:.60} must be one field in braces")
    return value_at(fields, name, mapping.messages)


_READERS: dict[Kind, Callable[[Fields, int, RowMapping], Example]] = {
    "choices": _read_choices,
    "answer": _read_answer,
    "text": _read_text,
}
