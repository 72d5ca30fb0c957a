"""How a file's rows are meant: found out here for `m2m init`, `m2m data preview` and `check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from m2m.commands.given import NOTHING, FileSettings
from m2m.commands.pairs import aligned_mapping
from m2m.dataset import Row
from m2m.dataset.ask import mappings_hint, tagged_example
from m2m.dataset.guess import DIRECTION, Guess, Role, guess, readable
from m2m.dataset.mapping import AS_IT_IS, RowMapping, picked
from m2m.dataset.quality import Marked
from m2m.dataset.row_source import RowSource, left_out, open_source, part_names
from m2m.dataset.rows import Rows, checked_rows, read_rows
from m2m.dataset.unused import unused_columns, unused_words
from m2m.dataset.ways import Choice, ways
from m2m.errors import InputError
from m2m.evaluate.harness import SUFFIXES
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import Task
from m2m.formats.records import Record
from m2m.formats.rowfile import AS_IT_IS as PLAIN
from m2m.formats.rowfile import Options
from m2m.recipe import Target

# Reads a file's rows by a mapping; returns the error about bad rows.
Load = Callable[[RowMapping], InputError | None]


@dataclass
class Entry:
    """A file of training rows or of questions, with the mapping that m2m found for it.

    Attributes:
        files: its file, or its aligned files; of a target, those of dev.
        test: the same for a target's test questions.
        mapping: how the rows are read.
        shape: the name of the rows' shape, if m2m knows it; or "".
        asides: facts about this reading, for the user.
        questions: facts that only the user knows.
        options: how its files are read.
        source: its records; None of a task of lm-evaluation-harness.
        read: of a dataset: its rows.
        task, test_task: of a target: its dev and its test questions.
        fault: the error about bad rows.
        unused: columns that the model does not see, in words; or "".
    """

    files: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    mapping: RowMapping = AS_IT_IS
    shape: str = ""
    asides: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    options: Options = PLAIN
    source: RowSource | None = None
    read: Rows | None = None
    task: Task | None = None
    test_task: Task | None = None
    fault: InputError | None = None
    unused: str = ""

    @property
    def rows(self) -> Sequence[Row]:
        """Return the rows of a dataset."""
        return self.read.rows if self.read else []

    @property
    def notes(self) -> tuple[str, ...]:
        """Return facts for the user, each with the file's name."""
        names = ", ".join(file.name for file in self.files)
        skipped = self.read.skipped if self.read else self.task.skipped if self.task else 0
        words = [*self.asides, *(self.source.notes if self.source else ())]
        words += [left_out(skipped), self.unused]
        shaped = [f"{names} is read as {self.shape}"] if self.shape else []
        return (*shaped, *(f"{names}: {word}" for word in words if word))

    @property
    def file_fields(self) -> dict[str, Any]:
        """Return the fields of a recipe that say how the files are read."""
        return {key: value for key, value in vars(self.options).items()
                if value != getattr(PLAIN, key)}  # fmt: skip


class Unclear(Choice):
    """m2m does not know the columns of a file; its hint has all ways in which they can be meant.

    `aside` is a fact that helps to choose; or "".
    """

    aside = ""


def dataset_entry(files: tuple[Path, ...], given: FileSettings = NOTHING, first: int = 0) -> Entry:
    """Return a dataset with the mapping that reads it, and its rows.

    Args:
        files: the file, or aligned files.
        given: the settings that the user gave.
        first: how many rows of a large file are read; 0: all.

    Raises:
        Unclear: no mapping is certain; has the ways in which the rows could be meant.
        InputError: a file cannot be read, or has bad rows.
    """
    entry = read_dataset(files, given, first)
    if entry.fault:
        raise entry.fault
    return entry


def read_dataset(files: tuple[Path, ...], given: FileSettings = NOTHING, first: int = 0) -> Entry:
    """Return a dataset as `dataset_entry` does; the error about bad rows is its `fault`.

    Raises:
        Unclear, InputError: as `dataset_entry`.
    """
    if len(files) > 1:
        return _aligned(files, given)

    def read(options: Options) -> Entry:
        source = open_source(files, options=options, first=first)
        entry = Entry(files, options=options, source=source)

        def load(mapping: RowMapping) -> InputError | None:
            entry.read = read_rows(source, mapping)
            return _fault(source, entry.read, mapping)

        made = _decided(entry, [source], "dataset", given, load)
        seen = {row.line: row.plain_text for row in made.rows}
        return _with_unused(made, seen)

    return _first(given, read)


def _fault(source: RowSource, read: Rows, mapping: RowMapping) -> InputError | None:
    """Return the error about bad rows, if there are some and the user wants them refused."""
    try:
        checked_rows(source, read, mapping)
    except InputError as error:
        return error
    return None


def _first(given: FileSettings, read: Callable[[Options], Entry]) -> Entry:
    """Return the file as the first of the settings reads it; raise the error of the last one."""
    *others, last = given.tried()
    for options in others:
        try:
            entry = read(options)
        except InputError:
            continue
        if not entry.fault:
            return entry
    return read(last)


def _decided(
    entry: Entry, sources: Sequence[RowSource], part: Role, given: FileSettings, load: Load
) -> Entry:
    """Return the entry with the mapping that reads it: the user's, none, or the one of its shape.

    Args:
        entry: so far; `load` fills it.
        sources: its rows, the first to be trained on or asked.
        part: their purpose.
        given: the settings that the user gave.
        load: reads them by a mapping; raises InputError if it does not fit.
    """
    source = sources[0]
    if given.is_whole and given.fits(source):
        entry.mapping = given.whole(source)
        entry.fault = load(entry.mapping)
        return entry
    if given.is_enough:
        with suppress(InputError):
            if load(given.mapping) is None:
                entry.mapping = given.mapping
                return entry
        entry.read = None
    own, error = given.own(source), None
    if not given.fits(source):
        try:
            error = load(own)
        except InputError as caught:
            error, entry.read = caught, None
        if error is None:
            entry.mapping = own
            return entry
    records = [
        record for one in sources if one.records for record in picked(one.path, one.records, own)
    ]
    made = guess(source.path, records, part, source.label_names) if records else None
    if made is not None:
        return _guessed(entry, given.merged(made, source), records, load, (own, error))
    if error is None:
        entry.mapping = given.whole(source)
        entry.fault = load(entry.mapping)
        return entry
    error = _unclear(error, source, records, part)
    if entry.read is None:
        raise error
    entry.mapping, entry.fault = own, error
    return entry


def _guessed(
    entry: Entry,
    made: Guess,
    records: Sequence[Record],
    load: Load,
    before: tuple[RowMapping, InputError | None],
) -> Entry:
    """Return the entry as its shape is read, or as before if that reads as many rows."""
    own, path = entry.read, entry.files[0]
    entry.mapping, entry.questions = made.mapping, made.questions
    entry.shape, entry.asides = made.shape, made.notes
    try:
        entry.fault = load(readable(path, records, made.mapping))
    except (Marked, Choice):
        raise
    except InputError as caught:
        raise _shaped(entry, caught) from None
    if not entry.fault:
        return entry
    bad = len(entry.read.problems) if entry.read else 0
    if own and own.rows and len(own.problems) <= bad:  # the names of its columns are enough
        mapping, fault = before
        return Entry(
            entry.files, entry.test, mapping, options=entry.options, source=entry.source,
            read=own, fault=fault,
        )  # fmt: skip
    entry.fault = _shaped(entry, entry.fault)
    return entry


def _shaped(entry: Entry, error: InputError) -> InputError:
    """Return the error with the name of the shape in which m2m read the rows."""
    reading = f"m2m reads {entry.files[0].name} as {entry.shape}; {error.hint or ''}"
    return InputError(error.message, reading)


def _unclear(
    error: InputError, source: RowSource, records: Sequence[Record], part: Role
) -> InputError:
    """Return the error with the ways to choose from, if it asks how the rows are meant."""
    hint = mappings_hint(source.path, records, part, source.is_named_by_row) if records else ""
    if not hint or hint not in (error.hint or ""):
        return error
    choice = ways(source.path, records, part, source.is_named_by_row)
    unclear = Unclear(error.message, error.hint, choice)
    unclear.aside = tagged_example(records)
    return unclear


def _aligned(files: tuple[Path, ...], given: FileSettings) -> Entry:
    """Return aligned files as a dataset that translates the first into the second."""
    one, two = part_names(files)[:2]

    def read(options: Options) -> Entry:
        source = open_source(files, options=options)
        mapping = aligned_mapping(files)
        asides: tuple[str, ...] = (DIRECTION.format(one, two),)
        if given.fits(source):
            mapping, asides = given.whole(source), ()
        entry = Entry(files, mapping=mapping, asides=asides, options=options, source=source)
        entry.read = read_rows(source, mapping)
        entry.fault = _fault(source, entry.read, mapping)
        return _with_unused(entry, {})

    return _first(given.of_lines(), read)


def target_entry(
    dev: tuple[Path, ...], test: tuple[Path, ...], given: FileSettings = NOTHING
) -> Entry:
    """Return a target with the mapping that reads its files.

    Raises:
        Unclear: no mapping is certain; has the ways in which the rows could be meant.
        InputError: a file cannot be read.
    """
    if len(dev) > 1:
        entry = replace(_aligned(dev, given), test=test)
        _load(entry, entry.mapping, given.roots)
        return replace(entry, read=None)
    if dev[0].suffix.lower() in SUFFIXES:
        entry = Entry(dev, test)
        _load(entry, entry.mapping, given.roots)
        return entry

    def read(options: Options) -> Entry:
        sources = [open_source(files, options=options) for files in (dev, test) if files]
        entry = Entry(dev, test, options=options, source=sources[0])

        def load(mapping: RowMapping) -> InputError | None:
            _load(entry, mapping, given.roots)
            return None

        made = _decided(entry, sources, "target", given, load)
        asked = {
            example.line: "\n".join((example.system, example.prompt, *example.choices))
            for example in (made.task.examples if made.task else ())
        }
        return _with_unused(made, asked)

    return _first(given, read)


def _with_unused(entry: Entry, seen: Mapping[int, str]) -> Entry:
    """Return the entry with the columns that the model does not see.

    `seen` has the text of each row that it sees, by line.
    """
    records = [r for r in (entry.source.records if entry.source else ()) if r.line in seen]
    texts = [seen[record.line] for record in records]
    entry.unused = unused_words(unused_columns(records, entry.mapping, texts), records)
    return entry


def _load(entry: Entry, mapping: RowMapping, roots: Sequence[Path]) -> None:
    """Read a target's questions by a mapping; raise InputError if that does not fit."""
    target = Target(
        "target", entry.files[0], test=entry.test[0] if entry.test else None,
        dev_aligned=entry.files[1:], test_aligned=entry.test[1:],
        **{each.name: getattr(mapping, each.name) for each in fields(mapping)},
        **entry.file_fields,
    )  # fmt: skip
    entry.task = load_target(target, "dev", roots)
    if entry.test and entry.test[0].is_file():
        entry.test_task = load_target(target, "test", roots)


def settings_unused(given: FileSettings, entries: Sequence[Entry]) -> list[str]:
    """Return a note about options for files that are read without them.

    Raises:
        InputError: no file has the columns that an option names.
    """
    if unused := given.unused([entry.mapping for entry in entries]):
        names = ", ".join(f"--{'completion' if name == 'answer' else name}" for name in unused)
        raise InputError(
            f"no file can use {names}: a file uses an option if it has the columns and values that "
            "the options name",
            "`m2m data preview FILE --json` shows a row; leave the option out if it is not needed",
        )
    return [
        f"`{name}` was not needed to read any file, and is not in the recipe"
        for name, value in vars(given.options).items()
        if value != getattr(NOTHING.options, name)
        and all(getattr(entry.options, name) != value for entry in entries)
    ]


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
