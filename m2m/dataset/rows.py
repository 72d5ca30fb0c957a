"""Read training rows: in the formats that other tools use, or as the recipe says.

Each file has one format. All give the same rows: a conversation, a bare text or pieces of text.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from m2m.dataset.answers import READINGS
from m2m.dataset.ask import mappings_hint
from m2m.dataset.conversation import Wrong
from m2m.dataset.directions import refuse_directions
from m2m.dataset.empty_words import emptied
from m2m.dataset.examples import Kind, conversation, decided, kind_of, read_example, refuse_nothing
from m2m.dataset.extra_columns import (
    READ,
    refuse_chats,
    refuse_listed,
    refuse_other_answers,
    refuse_same_question,
    refuse_unread,
)
from m2m.dataset.guess import guess
from m2m.dataset.label_forms import refuse_unclear_labels
from m2m.dataset.mapping import AS_IT_IS, RowMapping, picked, picked_words, refuse_absent
from m2m.dataset.plain_text import refuse_no_prose, refuse_parallel
from m2m.dataset.quality import refuse_marks, refuse_weights
from m2m.dataset.row import Row
from m2m.dataset.row_formats import FORMATS, Converter, from_turns
from m2m.dataset.row_source import RowSource, as_source, left_out, or_skip
from m2m.dataset.splits import refuse_splits
from m2m.dataset.templates import fill, is_empty, names_in, optional_in
from m2m.errors import InputError, Problems
from m2m.formats.records import Record
from m2m.formats.rowfile import Several
from m2m.formats.spooled import Lazy, is_spooled, made
from m2m.opening import Text

__all__ = ["FORMATS", "Row", "Rows", "checked_rows", "load_dataset", "read_rows"]

Fields = Mapping[str, Any]
_KEPT = 100_000  # faulty rows of which `m2m data check` counts each kind
_PAIRS = ("prompt/completion", "Alpaca")  # of one question and one answer
# Rows of targets are also rows of datasets.
_ASKED = {"choices": {"question", "choices", "answer"}, "prompt/answer": {"prompt", "answer"}}


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    Attributes:
        format: its name.
        rows: the good rows.
        problems: the faults of the others.
        skipped: bad rows that the recipe leaves out.
        records: the fields of the good rows as they are in the file.
        notes: how they were read, in words: the rows that `where` picked, the reading of answers.
    """

    format: str
    rows: Sequence[Row]
    problems: Problems
    notes: tuple[str, ...] = ()
    skipped: int = 0
    records: Sequence[Record] = ()


def load_dataset(source: Path | Text | RowSource, mapping: RowMapping = AS_IT_IS) -> Sequence[Row]:
    """Read a file of training rows, or aligned text files.

    The first row decides the format of the file, one of `FORMATS`, unless `mapping` says how rows
    are read.

    Raises:
        InputError: the file cannot be read or is empty, or rows are wrong; names all their lines.
    """
    source = as_source(source)
    return checked_rows(source, read_rows(source, mapping), mapping).rows


def checked_rows(source: RowSource, read: Rows, mapping: RowMapping) -> Rows:
    """Return the rows that were read, if none is wrong or the recipe leaves out those that are.

    Raises:
        InputError: rows are wrong; names all their lines.
    """
    hint = or_skip("correct these rows or delete them", some_are_good=bool(read.rows))
    if not read.rows and not mapping.is_custom:
        hint = _ways(source, source.records) or hint
    if not (source.skips and read.rows):
        read.problems.raise_if_any(InputError, source.name, hint)
    return read


def read_rows(source: Path | Text | RowSource, mapping: RowMapping = AS_IT_IS) -> Rows:
    """Read as `load_dataset` does; return the good rows, and the problems.

    Raises:
        InputError: the file cannot be read or is empty, or its format is unknown.
    """
    source = as_source(source)
    if not source.records:
        raise InputError(f"{source.name} has no rows", "give a file with at least one training row")
    records = picked(source.path, source.records, mapping)
    notes = picked_words(len(source.records), len(records), mapping)
    refuse_splits(source.path, records, mapping)
    refuse_absent(source.path, records, mapping, "dataset")
    refuse_unclear_labels(source.path, records, mapping, skips=source.skips)
    if _is_mapped(mapping, records[0]):
        read = _mapped(source, records, mapping)
    else:
        read = _formatted(source, records, mapping)
    kept = [] if not read.rows or read.rows[0].text is not None else read.records
    named = [name for template in mapping.templates for name in names_in(template)]
    named += [name for name, _ in mapping.where]
    if kept:
        texts = made(read.rows, lambda row: row.sides[1])
        refuse_weights(source.path, kept, named)
        lines = (record.line for record in kept)
        refuse_listed(source.path, zip(texts, lines, strict=True), len(texts))
        refuse_marks(source.path, kept, texts, mapping)
        refuse_directions(source.path, kept, mapping, made(read.rows, lambda row: row.sides))
    skipped = source.skipped + len(read.problems) if source.skips else 0
    words = [word for word in (notes, left_out(skipped)) if word]
    return replace(read, notes=(*source.notes, *words, *read.notes), skipped=skipped)


def _read(
    records: Sequence[Record], convert: Callable[[Record], Row], problems: Problems
) -> tuple[Sequence[Row], Sequence[Record]]:
    """Return the rows that can be read, and their records; add the faults of the others.

    Rows of a file that is not held in memory are converted again each time that they are used.
    """
    rows, places = list[Row](), array("q")
    spooled = is_spooled(records)
    for place, record in enumerate(records):
        try:
            row = convert(record)
        except (Wrong, InputError) as wrong:
            problems.add(f"line {record.line}: {wrong}")
            continue
        places.append(place)
        if not spooled:
            rows.append(row)
    good = np.array(places, np.int64)
    if spooled:
        return Lazy(records, convert, good), Lazy(records, lambda record: record, good)
    return rows, [records[place] for place in places]


def _is_mapped(mapping: RowMapping, first: Record) -> bool:
    """Return whether rows are read as the recipe says, or as targets are, and by no format."""
    if mapping.is_custom:
        return replace(mapping, system="").is_custom
    keys = first.fields.keys()
    formats = [name for name, (needed, _) in FORMATS.items() if needed <= keys and name != "text"]
    return not formats and any(needed <= keys for needed in _ASKED.values())


def _formatted(source: RowSource, records: Sequence[Record], mapping: RowMapping) -> Rows:
    """Read rows in one of the formats."""
    path = source.path
    name, keys, convert = _detect(source, records)
    if name == "text":
        refuse_chats(path, records)
        refuse_other_answers(path, records, lambda: _ways(source, records))
        if source.kind == "text":
            refuse_no_prose(path, [(record.fields["text"], record.line) for record in records])
            refuse_parallel(path, None if source.is_part else len(records))

    def converted(record: Record) -> Row:
        fields = record.fields
        if not keys <= fields.keys():
            raise Wrong(
                f"found keys {_listed(fields)}, but the file began as {name} rows "
                f"with {_listed(sorted(keys))}"
            )
        if mapping.system:
            fields = {**fields, "system": fill(mapping.system, fields)}
        row = convert(fields, record.line)
        refuse_unread(name, fields, row.sides)
        if name in _PAIRS:
            refuse_nothing(row.sides)
        return row

    problems = Problems(_KEPT)
    rows, good = _read(records, converted, problems)
    if name in _PAIRS:
        refuse_same_question(path, good, made(rows, lambda row: row.sides))
    optional = [key for key in ("input", "system") if key in READ.get(name, ())]
    notes = emptied(good, [key for key in optional if key != "system" or not mapping.system])
    return Rows(name, rows, problems, tuple(notes), records=good)


def _mapped(source: RowSource, records: Sequence[Record], mapping: RowMapping) -> Rows:
    """Read rows as the recipe says, or as targets are read; train on the right answer."""
    path, kind = source.path, kind_of(source.path, records[0], mapping)
    if mapping.labels and not (mapping.choices or "choices" in records[0].fields):
        kind = "answer"  # a dataset may have only some of the labels
    chosen, doubt = decided([(path, records)], mapping) if kind == "choices" else ("", None)
    if chosen:
        mapping = replace(mapping, answers=chosen)

    def converted(record: Record) -> Row:
        row = _row(record, kind, mapping)
        if not mapping.is_custom:
            refuse_unread("choices" if kind == "choices" else "answer", record.fields, row.sides)
        return row

    problems = Problems(_KEPT)
    rows, good = _read(records, converted, problems)
    if doubt and rows:
        raise doubt
    if kind == "answer" and not mapping.is_custom:
        refuse_same_question(path, good, made(rows, lambda row: row.sides))
    notes = [f'each answer is {READINGS[chosen]} (answers = "{chosen}")'] if chosen else []
    optional = [name for template in mapping.templates for name in optional_in(template)]
    optional += ["system"] if mapping.messages and not mapping.system else []
    notes += emptied(good, optional)
    name = "prompt/answer" if kind == "answer" else kind
    form = "mapping" if mapping.is_custom else name
    return Rows(form, rows, problems, tuple(notes), records=good)


def _row(record: Record, kind: Kind, mapping: RowMapping) -> Row:
    """Read one row by a mapping.

    Raises:
        InputError, Wrong: it does not fit.
    """
    fields = record.fields
    if mapping.messages:
        system = fill(mapping.system, fields) if mapping.system else fields.get("system")
        turns = {"messages": conversation(fields, mapping), "tools": fields.get("tools")}
        turns |= {} if is_empty(system) else {"system": system}
        return from_turns("messages")(turns, record.line)
    example = read_example(record, kind, mapping)
    if kind == "text":
        return Row(record.line, text=example.answer)
    if len(example.references) > 1:
        field = (mapping.answer or "{answer}").strip("{} ")
        raise Wrong(
            f"the answer has {len(example.references)} items; write {{{field}.0}} for the first, "
            f"or {{{field}:comma}} for all of them"
        )
    system = [{"role": "system", "content": example.system}] if example.system.strip() else []
    talk = [
        *system,
        {"role": "user", "content": example.prompt},
        {"role": "assistant", "content": example.answer},
    ]
    return Row(record.line, messages=tuple(talk))


def _ways(source: RowSource, records: Sequence[Record]) -> str:
    return mappings_hint(source.path, records, "dataset", source.is_named_by_row)


def _detect(source: RowSource, records: Sequence[Record]) -> tuple[str, frozenset[str], Converter]:
    path, first = source.path, records[0]
    fitting = [name for name, (keys, _) in FORMATS.items() if keys <= first.fields.keys()]
    if len(asking := [name for name in fitting if name != "text"]) > 1:
        columns = " and ".join(_listed(sorted(FORMATS[name][0])) for name in asking)
        raise InputError(
            f"{path}:{first.line}: rows with {columns}: m2m cannot tell which of them to read",
            "say in the recipe which to read (prompt or messages), or delete the others",
        )
    if fitting:
        return fitting[0], *FORMATS[fitting[0]]
    raise _unknown(source, records)


def _unknown(source: RowSource, records: Sequence[Record]) -> InputError:
    """Return the error for columns that no format has, with the mappings to use."""
    path, first = source.path, records[0]
    keys = first.fields.keys()
    message = f"{path}:{first.line}: m2m does not know the columns"
    known = {key: key.strip().lower() for key in keys}
    for form, (names, _) in FORMATS.items():
        if names <= set(known.values()):
            more = READ.get(form, set())
            wrong = [
                f"{key!r} to {name}" for key, name in known.items() if key != name in names | more
            ]
            return InputError(f"{message} {_listed(keys)}", f"rename {', '.join(wrong)}")
    inside = [key for key, value in first.fields.items() if _is_rows(value)] or [
        f"{key}/{name}"
        for key, value in first.fields.items()
        if isinstance(value, dict)
        for name, item in value.items()
        if _is_rows(item) and "/" not in key
    ]
    hint = _ways(source, records)
    if inside and len(records) == 1 and guess(path, records, "dataset") is None:
        return Several(f"{path}: has rows under {_listed(inside)}", [path / key for key in inside])
    if not hint:
        hint = "name the question column in `prompt` and the answer column in `completion`"
    return InputError(f"{message} {_listed(keys):.400}", hint)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"
