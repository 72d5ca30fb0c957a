"""How `m2m init` finds out the way that each file's rows are read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from m2m.commands.given import NOTHING, Given
from m2m.commands.pairs import aligned_mapping
from m2m.dataset import Row, load_dataset
from m2m.dataset.ask import mappings_hint
from m2m.dataset.guess import DIRECTION, Part, guess, readable
from m2m.dataset.mapping import AS_IT_IS, RowMapping, picked
from m2m.dataset.quality import Marked
from m2m.dataset.row_source import Source, left_out, open_source, part_names
from m2m.dataset.rows import checked_rows, read_rows
from m2m.dataset.unused import unused_columns, unused_words
from m2m.dataset.ways import Choice, ways
from m2m.errors import InputError
from m2m.evaluate.harness import SUFFIXES
from m2m.evaluate.targets import load_target
from m2m.formats.records import Record
from m2m.formats.rowfile import AS_IT_IS as PLAIN
from m2m.formats.rowfile import Options
from m2m.recipe import Target


@dataclass
class Entry:
    """A dataset or a target of a new recipe.

    Attributes:
        files: its file, or its aligned files; of a target, those of dev.
        test: the same for a target's test questions.
        mapping: how the rows are read.
        rows: of a dataset.
        notes: for the user.
        questions: facts that only the user knows.
        options: how its files are read.
        asked: of a target: the text of each row that the model sees, by line.
        skipped: how many bad rows are left out.
    """

    files: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    mapping: RowMapping = AS_IT_IS
    rows: list[Row] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    options: Options = PLAIN
    asked: dict[int, str] = field(default_factory=dict)
    skipped: int = 0

    @property
    def file_fields(self) -> dict[str, str]:
        """Return the fields of a recipe that say how the files are read."""
        return {key: value for key, value in vars(self.options).items()
                if value != getattr(PLAIN, key)}  # fmt: skip


class Unclear(Choice):
    """m2m does not know the columns of a file; its hint has all ways in which they can be meant."""


def dataset_entry(files: tuple[Path, ...], given: Given = NOTHING) -> Entry:
    """Return a dataset with the mapping that reads it, and its rows.

    Raises:
        Unclear: no mapping is certain; has the ways in which the rows could be meant.
        InputError: the file cannot be read.
    """
    if len(files) > 1:
        return _aligned(files, given)

    def read(options: Options) -> Entry:
        source = open_source(files, options=options)
        entry = Entry(files, options=options)

        def load(mapping: RowMapping) -> None:
            read = checked_rows(source, read_rows(source, mapping), mapping)
            entry.rows, entry.skipped = read.rows, read.skipped

        made = _decided(entry, [source], "dataset", given, load)
        seen = {row.line: row.plain_text for row in made.rows}
        return _with_unused(made, source, seen)

    return _first(given, read)


def _first(given: Given, read: Callable[[Options], Entry]) -> Entry:
    """Return the file as the first of the settings reads it; raise the error of the last one."""
    *others, last = given.tried()
    for options in others:
        try:
            return read(options)
        except InputError:
            continue
    return read(last)


def _decided(
    entry: Entry,
    sources: Sequence[Source],
    part: Part,
    given: Given,
    load: Callable[[RowMapping], None],
) -> Entry:
    """Return the entry with the mapping that reads it: the user's, none, or the one of its shape.

    Args:
        entry: so far.
        sources: its rows, the first to be trained on or asked.
        part: their purpose.
        given: the settings that the user gave.
        load: reads them by a mapping; raises InputError if that does not fit.
    """
    source, own = sources[0], given.own(sources[0])
    if given.is_whole and given.fits(source):
        entry.mapping = given.whole(source)
        load(entry.mapping)
        return entry
    error: InputError | None = None
    if not given.fits(source):
        try:
            load(own)
            return replace(entry, mapping=own)
        except InputError as caught:
            error = caught
    records = [
        record for one in sources if one.records for record in picked(one.path, one.records, own)
    ]
    made = guess(source.path, records, part, source.label_names) if records else None
    if made is None and error is None:
        entry.mapping = given.whole(source)
        load(entry.mapping)
        return entry
    if made is None:
        raise _unclear(error, source, records, part) if error else AssertionError
    made = given.merged(made, source)
    entry.mapping, entry.questions = made.mapping, made.questions
    notes = (f" is read as {made.shape}", *(f": {note}" for note in made.notes))
    entry.notes = tuple(f"{source.path.name}{note}" for note in notes)
    try:
        load(readable(source.path, records, made.mapping))
    except (Marked, Choice):
        raise
    except InputError as caught:
        reading = f"m2m reads {source.path.name} as {made.shape}; {caught.hint or ''}"
        raise InputError(caught.message, reading) from None
    return entry


def _unclear(
    error: InputError, source: Source, records: Sequence[Record], part: Part
) -> InputError:
    """Return the error with the ways to choose from, if it asks how the rows are meant."""
    hint = mappings_hint(source.path, records, part, source.is_named_by_row) if records else ""
    if not hint or hint not in (error.hint or ""):
        return error
    choice = ways(source.path, records, part, source.is_named_by_row)
    return Unclear(error.message, error.hint, choice)


def _aligned(files: tuple[Path, ...], given: Given) -> Entry:
    """Return aligned files as a dataset that translates the first into the second."""
    one, two = part_names(files)[:2]

    def read(options: Options) -> Entry:
        source = open_source(files, options=options)
        mapping, notes = aligned_mapping(files), tuple[str, ...]()
        if given.fits(source):
            mapping = given.whole(source)
        else:
            names = ", ".join(file.name for file in files)
            notes = (f"{names}: {DIRECTION.format(one, two)}",)
        rows = load_dataset(source, mapping)
        entry = Entry(files, mapping=mapping, rows=rows, notes=notes, options=options)
        return _with_unused(replace(entry, skipped=source.skipped), source, {})

    return _first(given.of_lines(), read)


def target_entry(dev: tuple[Path, ...], test: tuple[Path, ...], given: Given = NOTHING) -> Entry:
    """Return a target with the mapping that reads its files.

    Raises:
        Unclear: no mapping is certain; has the ways in which the rows could be meant.
        InputError: a file cannot be read.
    """
    if len(dev) > 1:
        entry = replace(_aligned(dev, given), test=test, rows=[])
        _load(entry, entry.mapping, given.roots)
        return entry
    if dev[0].suffix.lower() in SUFFIXES:
        entry = Entry(dev, test)
        _load(entry, entry.mapping, given.roots)
        return entry

    def read(options: Options) -> Entry:
        entry = Entry(dev, test, options=options)
        sources = [open_source(files, options=options) for files in (dev, test) if files]
        load = functools.partial(_load, entry, roots=given.roots)
        made = _decided(entry, sources, "target", given, load)
        return _with_unused(made, sources[0], made.asked)

    return _first(given, read)


def _with_unused(entry: Entry, source: Source, seen: Mapping[int, str]) -> Entry:
    """Return the entry with the file's notes, and one about columns that the model does not see.

    `seen` has the text of each row that it sees, by line.
    """
    records = [record for record in source.records if record.line in seen]
    texts = [seen[record.line] for record in records]
    unused = unused_words(unused_columns(records, entry.mapping, texts), records)
    words = (*source.notes, left_out(entry.skipped), unused)
    found = [f"{source.path.name}: {note}" for note in words if note]
    return replace(entry, notes=(*entry.notes, *found))


def _load(entry: Entry, mapping: RowMapping, roots: Sequence[Path]) -> None:
    target = Target(
        "target", entry.files[0], test=entry.test[0] if entry.test else None,
        dev_aligned=entry.files[1:], test_aligned=entry.test[1:],
        **{each.name: getattr(mapping, each.name) for each in fields(mapping)},
        **vars(entry.options),
    )  # fmt: skip
    task = load_target(target, "dev", roots)
    entry.skipped = task.skipped
    entry.asked = {
        example.line: "\n".join((example.system, example.prompt, *example.choices))
        for example in task.examples
    }
    if entry.test and entry.test[0].is_file():
        load_target(target, "test", roots)


def written_fields(entries: Sequence[tuple[str, str, RowMapping]]) -> list[dict[str, Any]]:
    """Return the fields of a recipe for each (section, name, mapping), each wording once.

    An entry that reads its rows like an earlier one names that one in `like`.
    """
    written: list[dict[str, Any]] = []
    origins: dict[str, RowMapping] = {}
    for section, name, mapping in entries:
        part = section.removesuffix("s")
        own = mapping.as_fields(part)
        like = next((n for n, other in origins.items() if _covers(other, mapping)), "")
        if like:
            shared = origins[like].as_fields(part)
            own = {"like": like, **{k: v for k, v in own.items() if shared.get(k) != v}}
        elif mapping.is_custom and name not in origins:
            origins[name] = replace(mapping, where=())
        written.append(own)
    return written


def _covers(other: RowMapping, mapping: RowMapping) -> bool:
    """Return whether every setting of another mapping is also one of this."""
    given = other.as_json()
    return bool(given) and all(getattr(mapping, key) == value for key, value in given.items())
