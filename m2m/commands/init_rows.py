"""How `m2m init` finds out the way that each file's rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from m2m.dataset import Row, load_dataset
from m2m.dataset.guess import UNKNOWN, Guess, guess
from m2m.dataset.mapping import AS_IT_IS, RowMapping
from m2m.dataset.source import Source, open_source, part_names
from m2m.errors import InputError, M2MError
from m2m.evaluate.harness import SUFFIXES
from m2m.evaluate.targets import load_target
from m2m.opening import ROWS, read_once
from m2m.recipe import Dataset, Target

_LONGEST_PART = 8  # letters of a language in a file's name: "swh_Latn"


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
    """

    files: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    mapping: RowMapping = AS_IT_IS
    rows: list[Row] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


def grouped(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return the files, those of which the lines belong together as one: train.en and train.yo."""
    groups: list[tuple[Path, ...]] = []
    for path in paths:
        pair = next((one for one in groups if len(one) == 1 and _are_aligned(one[0], path)), None)
        if pair:
            groups[groups.index(pair)] = (*pair, path)
        else:
            groups.append((path,))
    return groups


def _are_aligned(one: Path, other: Path) -> bool:
    """Return whether two text files differ in one part of their names, and have as many lines."""
    names = part_names([one, other])
    named = names != ["0", "1"] and max(map(len, names)) <= _LONGEST_PART
    if not (named and one.parent == other.parent):
        return False
    try:  # alone, m2m does not read a file that ends with a language
        if one.stem != other.stem and any(
            open_source([path]).kind != "text" for path in (one, other)
        ):
            return False
        open_source([one, other])
    except M2MError:
        return False
    return read_once(one, ROWS).sha256 != read_once(other, ROWS).sha256


def dataset_entry(files: tuple[Path, ...]) -> Entry:
    """Return a dataset with the mapping that reads it, and its rows.

    Raises:
        InputError: no mapping is certain; the message says how the rows could be meant.
    """
    if len(files) > 1:
        return _aligned(files)
    entry = Entry(files)
    source = open_source(files)
    try:
        entry.rows = load_dataset(source)
        return entry
    except InputError as error:
        made = (
            guess(source.path, source.records, "dataset", source.label_names)
            if source.records
            else None
        )
        if made is None:
            raise
        entry.mapping, entry.notes, entry.questions = (
            made.mapping,
            _notes(made, source),
            made.questions,
        )
        try:
            entry.rows = load_dataset(source, _readable(made.mapping))
        except InputError:
            raise error from None
    return entry


def aligned_mapping(dataset: Dataset) -> Dataset:
    """Return a dataset of aligned files that translates the first into the second."""
    one, two = part_names(dataset.files)[:2]
    return replace(dataset, prompt=f"{{{one}}}", completion=f"{{{two}}}")


def _aligned(files: tuple[Path, ...]) -> Entry:
    one, two = part_names(files)[:2]
    mapping = RowMapping.of(aligned_mapping(Dataset("aligned", files[0], path_aligned=files[1:])))
    names = ", ".join(file.name for file in files)
    note = f"{names}: translates {one} into {two}; exchange the two for the other direction"
    return Entry(
        files, mapping=mapping, rows=load_dataset(open_source(files), mapping), notes=(note,)
    )


def target_entry(
    dev: tuple[Path, ...], test: tuple[Path, ...], roots: Sequence[Path] = ()
) -> Entry:
    """Return a target with the mapping that reads its files.

    Raises:
        InputError: no mapping is certain; the message says how the rows could be meant.
    """
    entry = Entry(dev, test)
    if len(dev) > 1:
        entry = replace(_aligned(dev), test=test, rows=[])
    try:
        _load(entry, entry.mapping, roots)
        return entry
    except InputError as error:
        if dev[0].suffix.lower() in SUFFIXES or len(dev) > 1:
            raise
        sources = [open_source(files) for files in (dev, test) if files]
        records = [record for source in sources for record in source.records]
        made = guess(dev[0], records, "target", sources[0].label_names) if records else None
        if made is None:
            raise
        entry.mapping, entry.questions = made.mapping, made.questions
        entry.notes = _notes(made, sources[0])
        try:
            _load(entry, _readable(made.mapping), roots)
        except InputError:
            raise error from None
    return entry


def _load(entry: Entry, mapping: RowMapping, roots: Sequence[Path]) -> None:
    target = Target(
        "target", entry.files[0], test=entry.test[0] if entry.test else None,
        dev_aligned=entry.files[1:], test_aligned=entry.test[1:],
        **{each.name: getattr(mapping, each.name) for each in fields(mapping)},
    )  # fmt: skip
    load_target(target, "dev", roots)
    if entry.test and entry.test[0].is_file():
        load_target(target, "test", roots)


def _notes(made: Guess, source: Source) -> tuple[str, ...]:
    name = source.path.name
    return (f"{name} is read as {made.shape}", *(f"{name}: {note}" for note in made.notes))


def _readable(mapping: RowMapping) -> RowMapping:
    """Return the mapping with the user's answers in place of the words with "?"."""
    return replace(mapping, answers="index0") if mapping.answers == UNKNOWN else mapping


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
