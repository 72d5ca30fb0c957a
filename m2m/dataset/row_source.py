"""The rows of a dataset or a target: one file, or aligned files with a sentence on each line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

from m2m.counted import are
from m2m.dataset.columns import SIDES, is_side
from m2m.dataset.nested import unnested
from m2m.dataset.parting import first_parting
from m2m.dataset.plain_text import TAGS, sibling_in_step
from m2m.errors import InputError, Problems
from m2m.formats.folders import NO_ROWS
from m2m.formats.nature import UNKNOWN
from m2m.formats.records import (
    Record,
    RowFile,
    lines_text,
    read_records,
    rows_text,
    rows_text_again,
)
from m2m.formats.rowfile import AS_IT_IS, Options
from m2m.opening import Text

_MOST_TAGGED = 20  # files that are compared with all others of their folder
_LINE = re.compile("\r\n|\n|\r")
_CHANGED = "run it again: it takes the files as they are"


@dataclass(frozen=True)
class RowSource:
    """The rows of a file, or of aligned files, read once.

    Attributes:
        path: the first file.
        records: its rows.
        sha256: hash of the bytes of all files.
        files: all files.
        text: the text of a single file of bare texts.
        kind: of a single file, such as "text" or "table"; see `RowFile`.
        label_names: words for the numbers of a column, if the file has them.
        notes: the parts of the file that were left out, in sentences.
        skips: whether bad rows are left out, not refused.
        skipped: how many rows were left out so far.
        faults: of those rows, in sentences.
        header: the setting with which a table was read.
        is_part: whether only the first rows were read.
    """

    path: Path
    records: Sequence[Record]
    sha256: str
    files: tuple[Path, ...]
    text: str = ""
    kind: str = "aligned"
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skips: bool = False
    skipped: int = 0
    faults: tuple[str, ...] = ()
    header: str | int = "auto"
    is_part: bool = False

    @property
    def is_named_by_row(self) -> bool:
        """Return whether the first row of a table was taken for the names of its columns."""
        return self.kind in ("table", "workbook") and self.header == "auto"

    @property
    def name(self) -> str:
        """Return the name for messages: "train.en" or "train.en, train.yo"."""
        return ", ".join([str(self.path), *(file.name for file in self.files[1:])])


def options_of(section: Any) -> Options:
    """Return how the files of a dataset or a target of a recipe are read."""
    names = [spec.name for spec in fields(Options) if hasattr(section, spec.name)]
    return Options(**{name: getattr(section, name) for name in names})


def left_out(count: int) -> str:
    """Return in words how many bad rows were left out; "" for none."""
    return f'{are(count, "bad row")} left out (bad_rows = "skip")' if count else ""


def or_skip(hint: str, *, some_are_good: bool) -> str:
    """Return a hint about bad rows, with the offer to leave them out if others are left."""
    offer = 'or leave them out with `bad_rows = "skip"` in the recipe'
    return f"{hint}, {offer}" if some_are_good else hint


def as_source(
    source: Path | Text | RowSource, options: Options = AS_IT_IS, first: int = 0
) -> RowSource:
    """Return the rows of a file, of its text, or rows that were read already.

    Raises:
        InputError: the file cannot be read, or its rows are malformed.
    """
    if isinstance(source, RowSource):
        return source
    file = rows_text(source, options=options, first=first) if isinstance(source, Path) else source
    records, notes = unnested(file.path, read_records(file))
    if not isinstance(file, RowFile):
        return RowSource(file.path, records, file.sha256, (file.path,), file.text, "text")
    notes = (*file.notes, *notes)
    return RowSource(
        file.path, records, file.sha256, (file.path,), file.text, file.kind, file.label_names,
        notes, file.options.bad_rows == "skip", len(file.problems), tuple(file.problems),
        file.options.header, file.is_part,
    )  # fmt: skip


def open_source(
    files: Sequence[Path], sha256: str = "", options: Options = AS_IT_IS, first: int = 0
) -> RowSource:
    """Read one file of rows, or several that are aligned line by line.

    Args:
        files: one, or several aligned text files.
        sha256: that of an earlier reading; files with other bytes are refused.
        options: how they are read; aligned files have an encoding and bad rows, and no header.
        first: how many rows of one large file are read; 0: all. See `rows_text`.

    Raises:
        InputError: a file cannot be read or has changed, or the files have different numbers of
            lines, or `options` do not fit them.
    """
    if len(files) == 1:
        try:
            if sha256:
                return as_source(rows_text_again(files[0], sha256, options))
            return as_source(files[0], options, first)
        except InputError as error:
            raise _with_sibling(files[0], error) from None
    for name in ("header", "quotes"):
        if getattr(options, name) != getattr(AS_IT_IS, name):
            raise InputError(
                f"{files[0]}: {name} is for tables, and aligned files have a sentence on each line",
                "leave it out",
            )
    texts = [lines_text(file, options) for file in files]
    names = part_names(files)  # templates use them, so they decide the rows as the bytes do
    parts = [[text.sha256, name] for text, name in zip(texts, names, strict=True)]
    mark = hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
    if sha256 not in ("", mark):
        raise InputError(f"{files[0]}: changed since this command began", _CHANGED)
    records, problems = _aligned(files, texts, names)
    skips = options.bad_rows == "skip"
    if not (skips and records):
        hint = "delete these lines from all of the files, or leave them out with "
        hint += '`bad_rows = "skip"` in the recipe'
        problems.raise_if_any(InputError, str(files[0]), hint)
    return RowSource(
        files[0], tuple(records), mark, tuple(files), skips=skips, skipped=len(problems),
        faults=tuple(problems),
    )  # fmt: skip


def _with_sibling(path: Path, error: InputError) -> InputError:
    """Return the error about a file such as train.en with how to read it and train.yo together.

    Of a folder without files of rows, such as one of FLORES, two files are named.
    """
    if UNKNOWN not in error.message and NO_ROWS not in error.message:
        return error
    inside = [*sorted(path.glob("*")), *sorted(path.glob("*/*"))] if path.is_dir() else [path]
    tagged = (o for o in inside if any(map(is_side, TAGS.split(o.name))) and o.is_file())
    pairs = ((one, sibling_in_step(one)) for one in islice(tagged, _MOST_TAGGED))
    first, other = next(((one, other) for one, other in pairs if other), (path, ""))
    if not other:
        return error
    pair = sorted([first.name, other])
    if path.is_dir():
        pair = [(first.parent / name).as_posix() for name in pair]
    one, two = part_names([Path(name) for name in pair])
    hint = f'write path = ["{pair[0]}", "{pair[1]}"] with prompt = "{{{one}}}" and completion = '
    return InputError(error.message, f'{hint}"{{{two}}}", if each line of {other} translates it')


def _aligned(
    files: Sequence[Path], texts: Sequence[Text], names: Sequence[str]
) -> tuple[list[Record], Problems]:
    """Return a row for each line, and the lines that are empty in some of the files.

    The fields of a row are named by number from 0, and by `names`.
    """
    columns = [_lines(text.text) for text in texts]
    _cut_empty(columns)
    if len({len(lines) for lines in columns}) > 1:
        raise _uneven(files, columns)
    problems, records = Problems(), []
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        blank = [name for name, cell in zip(names, cells, strict=True) if not cell.strip()]
        if len(blank) == len(cells):
            continue
        if blank:
            problems.add(f"line {number}: empty in {', '.join(blank)}, and not in the others")
            continue
        by_number = {str(place): cell for place, cell in enumerate(cells)}
        records.append(Record({**by_number, **dict(zip(names, cells, strict=True))}, number))
    return records, problems


def _lines(text: str) -> list[str]:
    lines = _LINE.split(text.removesuffix("\n").removesuffix("\r"))
    return [line.removeprefix("\ufeff") for line in lines]  # a BOM from files that were joined


def _cut_empty(columns: Sequence[list[str]]) -> None:
    """Delete empty lines at the end that other files do not have: they hide no sentence."""
    least = min(map(len, columns))
    for lines in columns:
        while len(lines) > least and not lines[-1].strip():
            lines.pop()


def _uneven(files: Sequence[Path], columns: Sequence[Sequence[str]]) -> InputError:
    """Return the error about aligned files with different numbers of lines."""
    counts = [f"{file.name} {len(lines):,}" for file, lines in zip(files, columns, strict=True)]
    place = first_parting(*columns) if len(files) == 2 else None
    hint = "look for the first line that does not fit"
    if place is not None:
        near = [
            f"{file.name} has {lines[place] if place < len(lines) else ''!r:.60}"
            for file, lines in zip(files, columns, strict=True)
        ]
        hint = (
            f"they probably part at line {place + 1}, in which {' and '.join(near)}: add or delete "
        )
        hint += "the line without a partner"
    hint += '; to read each file as bare texts, write text = "{text}" (or give `--text "{text}"`)'
    return InputError(
        f"{files[0]}: aligned files need the same number of lines, found {', '.join(counts)}", hint
    )


def part_names(files: Sequence[Path]) -> list[str]:
    """Return the part of each file's name that differs: "en" and "yo" of train.en and train.yo."""
    parts = [re.split(r"[._-]", file.name) for file in files]
    if len({len(one) for one in parts}) == 1:
        for place in range(len(parts[0])):
            names = [one[place] for one in parts]
            rest = {
                tuple("" if part in SIDES else part for part in one[:place] + one[place + 1 :])
                for one in parts
            }
            if len({*names}) == len(files) and len(rest) == 1 and all(names):
                return names
    return [str(place) for place in range(len(files))]
