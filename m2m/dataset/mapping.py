"""How the rows of a file are read: the settings that datasets and targets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.dataset.templates import as_value, field_names, is_empty, names_in, value_at, word_key
from m2m.errors import InputError
from m2m.formats.records import Record
from m2m.formats.spooled import taken
from m2m.spelling import likely

_SHOWN = 8  # values that a message names


@dataclass(frozen=True)
class RowMapping:
    """How to make questions and answers of a file's rows; every field has a default.

    Attributes:
        prompt: template of the question (`m2m.dataset.templates`); "": the row's own question.
        answer: template of the right answer; "": the row's own answer.
        system: template of the system message.
        text: template of a bare text, in place of a question and an answer.
        messages: template with the one field that holds a conversation.
        choices: the possible answers: fixed words, one template for each, or one template
            with a field that is a list.
        answers: how an answer names its choice: one of `READINGS`, or "auto".
        labels: (value, word): the words for values of the answer.
        where: (field, values): only rows with one of these values are used.
    """

    prompt: str = ""
    answer: str = ""
    system: str = ""
    text: str = ""
    messages: str = ""
    choices: tuple[str, ...] = ()
    answers: str = "auto"
    labels: tuple[tuple[str, str], ...] = ()
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, section: Any) -> RowMapping:
        """Return the mapping of a dataset or a target of a recipe."""
        names = {each.name: each.name for each in fields(cls)}
        if hasattr(section, "completion"):
            names["answer"] = "completion"
        return cls(**{name: getattr(section, own) for name, own in names.items()})

    @cached_property
    def is_custom(self) -> bool:
        """Return whether it says how a row is read, and not only which rows are."""
        return replace(self, answers="auto", where=()) != RowMapping()

    @property
    def words(self) -> dict[str, str]:
        """Return the words for values of the answer."""
        return dict(self.labels)

    @property
    def options(self) -> tuple[str, ...]:
        """Return the templates of the choices: if there are only `labels`, their words."""
        return self.choices or tuple(dict.fromkeys(word for _, word in self.labels))

    @property
    def templates(self) -> list[str]:
        """Return all templates."""
        own = (self.prompt, self.answer, self.system, self.text, self.messages, *self.choices)
        return [template for template in own if template]

    def as_fields(self, part: str) -> dict[str, Any]:
        """Return the fields of a recipe's dataset or target that differ from the defaults."""
        values: dict[str, Any] = self.as_json()
        if part == "dataset" and "answer" in values:
            values["completion"] = values.pop("answer")
        values |= {"labels": self.words} if self.labels else {}
        if self.where:
            values["where"] = {
                name: as_value(given[0])
                if len(given) == 1
                else [as_value(value) for value in given]
                for name, given in self.where
            }
        order = ["prompt", "completion", "answer", "system", "text", "messages"]
        return {key: values[key] for key in [*order, *values] if key in values}

    def as_json(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults; {} for rows that are read as is."""
        plain = RowMapping()
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(plain, each.name)
        }


AS_IT_IS = RowMapping()


def refuse_absent(path: Path, records: Sequence[Record], mapping: RowMapping, part: str) -> None:
    """Raise InputError for fields that no row has: the templates are wrong then, not the rows."""
    known, absent = field_names(records[0].fields), dict[str, str]()
    for key, value in mapping.as_fields(part).items():
        for template in [value] if isinstance(value, str) else value:
            for name in names_in(template):
                if f"{{{name}?}}" in template or name == "choices":
                    continue  # it may be empty; a prompt may show the options of `choices`
                if all(value_at(each.fields, name, missing=known) is known for each in records):
                    hint = f"correct `{key}`: {likely(name, known):.300}"
                    absent[f"{name!r} of {key} = {template!r:.60}"] = hint
    if absent:
        raise InputError(
            f"{path}: no row has the field {', '.join(absent)}", "; ".join(absent.values())
        )


def picked(path: Path, records: Sequence[Record], mapping: RowMapping) -> Sequence[Record]:
    """Return the records that `where` picks.

    Raises:
        InputError: it picks none, or no record has its field.
    """
    kept = records
    for name, values in mapping.where:
        places, known = list[int](), dict[str, None]()
        for place, record in enumerate(kept):
            value = value_at(record.fields, name, missing=None)
            ones = value if isinstance(value, list) else [value]
            if any(word_key(one) in values for one in ones):
                places.append(place)
            elif len(known) <= _SHOWN and not is_empty(value):
                known[word_key(value)] = None
        if not places:
            some = ", ".join([*known][:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
            none = f"no row has a field {name}: {likely(name, field_names(records[0].fields))}"
            raise InputError(
                f"{path}: no row has {name} = {' or '.join(values)}",
                f"the values of {name} are {some}" if known else none,
            )
        kept = taken(kept, places)
    return kept


def picked_words(all_rows: int, kept: int, mapping: RowMapping) -> str:
    """Say how many rows `where` picked; "" without it."""
    if not mapping.where:
        return ""
    rule = " and ".join(f"{name} = {' or '.join(values)}" for name, values in mapping.where)
    return f"{kept:,} of {counted(all_rows, 'row')} used: those with {rule}"
