"""Find out how the rows of a file are meant: a shape that m2m knows, or mappings to choose from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from m2m.dataset.class_names import class_names
from m2m.dataset.columns import (
    Columns,
    agreed,
    are_words,
    columns_of,
    language_code,
    languages_of,
    looks_like_data,
    option_columns,
    plain,
    single,
    title_of,
)
from m2m.dataset.examples import decided, kind_of, read_example
from m2m.dataset.extra_columns import ABOUT, may_be_answer
from m2m.dataset.mapping import RowMapping
from m2m.dataset.no_label import Labelled, labelled
from m2m.dataset.quality import MARKS_OF_TOOLS, marks
from m2m.dataset.shapes import ABOUT_PAIR, SHAPES, Shape
from m2m.dataset.templates import is_empty, only_name, parsed, value_at, word_key
from m2m.dataset.turns import is_chat
from m2m.errors import InputError
from m2m.formats.records import Record

Role = Literal["dataset", "target"]
UNKNOWN = "?"  # begins a word that only the user knows
_MOST_LABELS = 50
_NUMBER = re.compile(r"-?\d+|true|false")
_SYSTEM = re.compile(r"system_?instruction(\.parts\.0\.text)?")
_SLOT = re.compile(r"<(\w+\^?)>")
_REPEATED = 0.8  # different labels per row, at most: else the answers are no labels
_TRIED = 500  # rows, from all parts of a file, that show whether a mapping reads it
DIRECTION = "translates {} into {}; exchange the two for the other direction"
# Codes of languages that are hardly a word; one of them is in nearly every list of translations.
_CLEAR = {"en", "eng", "english", "fr", "fra", "fre", "french", "pt", "por", "ar", "ara", "arb"}
_CLEAR |= {"sw", "swa", "swh"}
_ENOUGH = 0.5  # fraction of the rows that a mapping must read


@dataclass(frozen=True)
class Guess:
    """How a file's rows are read, if m2m knows their shape.

    Attributes:
        shape: its name.
        mapping: how to read them.
        questions: facts that only the user knows; the mapping has a word with "?" for each.
        notes: facts about the reading, for the user.
    """

    shape: str
    mapping: RowMapping
    questions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def guess(
    path: Path,
    records: Sequence[Record],
    part: Role,
    label_names: Mapping[str, Sequence[str]] | None = None,
) -> Guess | None:
    """Return how the rows of a file are read; None if that is not certain.

    Args:
        path: the file.
        records: its rows.
        part: their purpose.
        label_names: words for the numbers of a column, if the file has them.
    """
    made, (key, _, good) = _known(path, records, part), marks(records) or ("", None, [])
    prodigy = key == "answer" and records and "_task_hash" in records[0].fields
    tools = prodigy or MARKS_OF_TOOLS.fullmatch(key.rpartition(".")[2].strip().lower())
    nested = "." in key and not key.startswith("annotations.0.")  # Label Studio's
    sure = len(good) == 1 and not nested and tools
    if sure and (made is None or not any(key in t for t in made.mapping.templates)):
        return _without_bad(path, records, part, key, good[0])
    return _named(made, label_names or {}) if made else None


def _named(made: Guess, label_names: Mapping[str, Sequence[str]]) -> Guess:
    """Return the guess with the words that the file itself has for its labels."""
    column = (only_name(made.mapping.answer) or "").removesuffix(".0")
    words = {str(number): word for number, word in enumerate(label_names.get(column, ()))}
    if not made.mapping.labels or not {key for key, _ in made.mapping.labels} <= words.keys():
        return made
    return replace(made, mapping=replace(made.mapping, labels=tuple(words.items())), questions=())


def _known(path: Path, records: Sequence[Record], part: Role) -> Guess | None:
    """Return the guess for rows of which all are meant."""
    columns = columns_of(records)
    if (column := _conversation(records)) is not None:
        gemini = next((name for name in columns if _SYSTEM.fullmatch(plain(name))), "")
        system = f"{{{gemini}?}}" if gemini else ""
        return Guess("conversation", RowMapping(messages=f"{{{column}}}", system=system))
    for shape in SHAPES:
        if made := _made(shape, columns, path, records, part):
            return made
    return _by_languages(columns) or _alone(columns, records)


def _conversation(records: Sequence[Record]) -> str | None:
    """Return the column with conversations, if there is one, or those that people chose."""
    columns = dict.fromkeys(name for record in records for name in record.fields)
    held = [
        column
        for column in columns
        if all(is_chat(column, record.fields.get(column)) for record in records)
    ]
    if len(held) > 1 and {"chosen", "rejected"} == {*held}:
        return "chosen"
    return held[0] if len(held) == 1 else None


def _without_bad(
    path: Path, records: Sequence[Record], part: Role, key: str, good: str
) -> Guess | None:
    """Return how the rows are read without those whose answers are marked as bad."""
    rest = [
        Record({k: v for k, v in record.fields.items() if k != key}, record.line)
        for record in records
        if word_key(value_at(record.fields, key, missing=None)) == good
    ]
    if (made := guess(path, rest, part)) is None:
        return None
    mapping = replace(made.mapping, where=((key, (good,)), *made.mapping.where))
    count = len(records) - len(rest)
    note = f"rows whose {key} is not {good} are left out: {count} of {len(records)}"
    return replace(made, mapping=mapping, notes=(*made.notes, note))


def _slots(shape: Shape, columns: Columns) -> dict[str, Any] | None:
    """Return the column of each slot; None if one is missing, or a column is left over."""
    slots: dict[str, Any] = {}
    used: set[str] = set()
    for key, pattern in shape.columns.items():
        slot = key.rstrip("?!*")
        if key.endswith("*"):
            slots[slot] = option_columns([name for name in columns if name not in used])
            if not slots[slot]:
                return None
            used |= {*slots[slot]}
            continue
        fitting = [
            name
            for name in columns
            if name not in used and re.fullmatch(pattern, plain(name)) and not {*name} & {*"{}"}
        ]
        if not fitting and key.endswith("?"):
            continue
        if len(fitting) != 1 and not (fitting and key.endswith("!")):
            return None
        slots[slot] = fitting[0]
        used.add(fitting[0])
    # MongoDB and other programs write names such as __v and _id.$oid.
    left = (plain(name) for name in columns if name not in used and not re.search(r"^_|\.\$", name))
    known = all(ABOUT.fullmatch(name) or re.fullmatch(shape.about, name) for name in left)
    return slots if known else None


def _made(
    shape: Shape, columns: Columns, path: Path, records: Sequence[Record], part: Role
) -> Guess | None:
    """Return a shape's mapping for these columns, if it reads these rows."""
    if (slots := _slots(shape, columns)) is None or _is_doubtful(shape, slots, columns, records):
        return None
    mapping, notes = _templates(shape, slots), list[str]()
    questions: list[str] = []
    rows = Labelled(records)
    if "answer" in slots and (shape.labels or mapping.choices):
        places = bool(mapping.choices) or "two" in slots
        rows = labelled(path, records, slots["answer"], places=places)
        records = rows.records
    if "answer" in slots and mapping.choices:
        marked = [parsed(value_at(r.fields, slots["answer"], missing=None)) for r in records]
        if all(isinstance(value, list) and len(value) == 1 for value in marked):
            mapping = replace(mapping, answer=f"{{{slots['answer']}.0}}")
    if "answer" in slots and not mapping.choices:
        values = [value_at(record.fields, slots["answer"], missing=None) for record in records]
        answer = _answer(slots["answer"], values, records, shape, part)
        if answer is None:
            return None
        mapping = replace(mapping, answer=f"{{{answer}}}")
        several = any(isinstance(v, list) and len(v) > 1 for v in map(parsed, values))
        if several and answer.endswith(".0"):
            notes.append(f"{slots['answer']} has several answers: the first is trained on")
        held = [value_at(record.fields, answer, missing=None) for record in records]
        if shape.labels or _are_marks(held):
            mapping, questions = _labelled(mapping, answer, held, path, part)
    if shape.name in ("translation",):
        notes.append(DIRECTION.format(slots["source"], slots["target"]))
    mapping, doubts = _read(path, records, mapping)
    mapping = replace(mapping, where=rows.where)
    asked = [f"{question}{rows.doubt}" for question in (*questions, *doubts)]
    made = Guess(shape.name, mapping, (*asked,), (*notes, *filter(None, [rows.note])))
    return made if questions or _reads(path, records, mapping) else None


def _templates(shape: Shape, slots: Mapping[str, Any]) -> RowMapping:
    """Return a shape's mapping with the names of the columns."""

    def column(match: re.Match[str]) -> str:
        name = str(slots.get(match[1].rstrip("^"), ""))
        return re.sub(r"(\.0)?\.[^.]+$", "", name) if match[1].endswith("^") else name

    given: dict[str, Any] = {
        key: re.sub(r"\{\??\}\s*", "", _SLOT.sub(column, template)).rstrip()
        for key, template in shape.mapping.items()
    }
    if "choices" in given:
        given["choices"] = _choices(slots, given["choices"])
    return RowMapping(**given)


def _is_doubtful(
    shape: Shape, slots: Mapping[str, Any], columns: Columns, records: Sequence[Record]
) -> bool:
    """Return whether a question is a list, or its title or a repetition of it is elsewhere."""
    asked = [
        name
        for slot, name in slots.items()
        if slot not in ("choices", "answer", "names")
        and f"<{slot}>:lines" not in "".join(shape.mapping.values())
    ]
    held_lists = any(isinstance(value, list) for name in asked for value in columns[name])
    titled = shape.about_title and "passage" not in slots and bool(title_of(columns))
    return held_lists or titled or _repeats(slots, records)


def _choices(slots: Mapping[str, Any], template: str) -> tuple[str, ...]:
    """Return the templates of the choices; the right one comes last if it is not among them."""
    names = slots["choices"]
    if not isinstance(names, list):
        return (template,)
    if re.match("distractor|incorrect", plain(names[0])):
        names = [*names, slots["answer"]]
    return tuple(f"{{{name}}}" for name in names)


def _answer(
    name: str, values: Sequence[Any], records: Sequence[Record], shape: Shape, part: Role
) -> str | None:
    """Return the name of the answer; None if there are several answers, or objects."""
    held = [parsed(value) for value in values if not is_empty(value)]
    if held and all(isinstance(value, Mapping) and "text" in value for value in held):
        texts = [value["text"] for value in held]
        return _answer(f"{name}.text", texts, records, shape, part)
    one = ".0." not in name or shape.several or single(name, records) or agreed(name, records)
    if not one or any(isinstance(value, Mapping) for value in held):
        return None
    if ".0." in name and shape.several and part == "target":
        return name.replace(".0.", ".*.", 1)
    if not any(isinstance(value, list) for value in held):
        return name
    if not all(isinstance(value, list) for value in held):
        return None
    if not all(isinstance(item, str | int | float) for value in held for item in value):
        return None
    if shape.several and part == "target":
        return f"{name}.*"
    return f"{name}.0" if shape.several or all(len(value) == 1 for value in held) else None


def _labelled(
    mapping: RowMapping, name: str, values: Sequence[Any], path: Path, part: Role
) -> tuple[RowMapping, list[str]]:
    """Return the mapping with the words of labels that are numbers, and with a target's choices."""
    keys = sorted({word_key(value) for value in values if not is_empty(value)}, key=_natural)
    if not keys or len(keys) > _MOST_LABELS:
        return mapping, []
    if all(map(_NUMBER.fullmatch, keys)):
        column = name.removesuffix(".0")
        words, doubt = class_names(path, column)
        if words and {*keys} <= words.keys():
            return replace(mapping, labels=tuple(words.items())), []
        labels = tuple((key, f"{UNKNOWN}{key}") for key in keys)
        many = ", ".join(keys)
        return replace(mapping, labels=labels), [
            f"{path.name}: {column} is {many}{doubt and f'; {doubt}'}: write in `labels` the word "
            "that each of them means"
        ]
    if part == "target" and 1 < len(keys) <= _REPEATED * len(values):
        return replace(mapping, choices=tuple(keys)), []
    return mapping, []


def _are_marks(values: Sequence[Any]) -> bool:
    """Return whether answers are true and false, or 0 and 1, which stand for words."""
    keys = {word_key(value) for value in values if not is_empty(value)}
    return bool(keys) and (keys <= {"true", "false"} or keys == {"0", "1"})


def _repeats(slots: Mapping[str, Any], records: Sequence[Record]) -> bool:
    """Return whether the passage repeats the question and its answer: it is the row once more."""
    names = [slots.get(slot) for slot in ("question", "answer", "passage")]
    if not all(isinstance(name, str) for name in names):
        return False
    rows = [
        [value_at(record.fields, str(name), missing="") for name in names] for record in records
    ]
    repeated = [
        all(not is_empty(part) and str(part) in str(row[2]) for part in row[:2]) for row in rows
    ]
    return 2 * sum(repeated) > len(rows)


def _natural(key: str) -> tuple[int, str]:
    return (int(key), "") if re.fullmatch(r"-?\d+", key) else (1 << 60, key)


def _read(
    path: Path, records: Sequence[Record], mapping: RowMapping
) -> tuple[RowMapping, list[str]]:
    """Return the mapping with how its answers name their choices, if the rows do not show it."""
    try:
        if kind_of(path, records[0], mapping) != "choices":
            return mapping, []
    except InputError:
        return mapping, []
    _, doubt = decided([(path, _some(records))], mapping)
    if doubt and len(records) > _TRIED:  # other rows may decide
        _, doubt = decided([(path, records)], mapping)
    if doubt is None:
        return mapping, []
    message = doubt.message.partition(": ")[2]
    return replace(mapping, answers=UNKNOWN), [f"{path.name}: {message}: {doubt.hint}"]


def readable(path: Path, records: Sequence[Record], mapping: RowMapping) -> RowMapping:
    """Return the mapping with a reading of answers that fits, in place of the word with "?"."""
    if mapping.answers != UNKNOWN:
        return mapping
    chosen, _ = decided([(path, records)], replace(mapping, answers="auto"))
    return replace(mapping, answers=chosen)


def _some(records: Sequence[Record]) -> Sequence[Record]:
    return records[:: max(1, len(records) // _TRIED)]


def _reads(path: Path, records: Sequence[Record], mapping: RowMapping) -> bool:
    """Return whether a mapping reads most rows."""
    if mapping.text:
        return True
    mapping = readable(path, records, mapping)
    try:
        kind = kind_of(path, records[0], mapping)
    except InputError:
        return False
    records = _some(records)
    chosen = decided([(path, records)], mapping)[0] if kind == "choices" else mapping.answers
    mapping, good = replace(mapping, answers=chosen or "auto"), 0
    answer = only_name(mapping.answer)  # a row without an answer says nothing about the shape
    held = [r for r in records if not (answer and is_empty(value_at(r.fields, answer, missing=[])))]
    for record in (records := held or records):
        try:
            read_example(record, kind, mapping)
            good += 1
        except InputError:
            continue
    return good > _ENOUGH * len(records)


def _by_languages(columns: Columns) -> Guess | None:
    """Return the mapping of two columns with names of languages, the first into the second."""
    texts = languages_of(columns)
    rest = [plain(name) for name in columns if name not in texts]
    if len(texts) != 2 or not all(ABOUT.fullmatch(n) or ABOUT_PAIR.fullmatch(n) for n in rest):
        return None
    one, two = texts
    if not {language_code(one), language_code(two)} & _CLEAR and are_words(columns, texts):
        return None  # the first row of a list of words may look like codes: to, na
    mapping = RowMapping(prompt=f"{{{one}}}", answer=f"{{{two}}}")
    return Guess("translation", mapping, notes=(DIRECTION.format(one, two),))


def _alone(columns: Columns, records: Sequence[Record]) -> Guess | None:
    """Return a bare text, if a column of texts has only columns about it."""
    texts = [name for name in columns if not ABOUT.fullmatch(plain(name))]
    if len(texts) != 1 or texts[0] == "text" or may_be_answer(records, texts[0]):
        return None
    values = columns[texts[0]]
    if not all(isinstance(parsed(value), str) for value in values):
        return None
    if looks_like_data(texts[0]):
        return None
    words = sum(len(str(value).split()) for value in values) / len(values)
    return Guess("bare text", RowMapping(text=f"{{{texts[0]}}}")) if words > 2 else None
