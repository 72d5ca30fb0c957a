"""The rows of a file that was read, and the settings that decide how it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from m2m.errors import InputError, Problems
from m2m.opening import Text

# How people save a table as text that every program reads.
AS_CSV = (
    "save it as CSV UTF-8 (Excel: File > Save As > CSV UTF-8; LibreOffice Calc: File > Save As > "
    "Text CSV, character set Unicode (UTF-8))"
)
MOST_MEMBERS = 8  # that are shown


class Fault(Exception):
    """A file as a whole cannot be read; the caller adds its name.

    Args:
        message: the fault and its place, without the file.
        hint: the next step.
        members: names of its parts that may have the rows: files, sheets, splits, languages.
    """

    def __init__(
        self, message: str, hint: str = "correct the file", members: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.members = message, hint, tuple(members)


class Several(InputError):
    """A file has several parts with rows; `members` has the path of each."""

    def __init__(self, message: str, members: Sequence[Path]) -> None:
        self.members = (*members,)
        shown = [f'path = "{member.as_posix()}"' for member in members[:MOST_MEMBERS]]
        shown += ["..."] * (len(members) > MOST_MEMBERS)
        super().__init__(message, f"name the one that is meant: {' or '.join(shown)}")


@dataclass(frozen=True)
class Options:
    """How a file of rows is read; the fields of a recipe with the same names.

    Attributes:
        encoding: of a text file, such as "cp1252"; "": UTF-8, or UTF-16 if the bytes show it.
        header: whether the first row of a table names the columns: "yes", "no", or "auto"; or the
            number of the line that names them.
        quotes: what quotation marks in a table do: they surround "fields", also with \" for one
            inside ("backslash"), belong to the "text", or "auto".
        bad_rows: "refuse" or "skip".
        exact: whether NaN and infinite numbers of JSON, Parquet and Arrow stay, and bytes are
            written as Python writes them: so `datasets` has them. Otherwise NaN is null.
    """

    encoding: str = ""
    header: str | int = "auto"
    quotes: str = "auto"
    bad_rows: str = "refuse"
    exact: bool = False

    def mark(self, sha256: str, inner: str) -> str:
        """Return the hash of a file's bytes, mixed with all that makes other rows of these bytes.

        A plain file that is read with the defaults keeps the hash of its bytes.
        """
        settings = [inner, self.encoding, self.header, self.quotes]
        if settings == ["", "", "auto", "auto"]:
            return sha256
        return hashlib.sha256(json.dumps([sha256, *settings]).encode("utf-8")).hexdigest()


AS_IT_IS = Options()


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its fields by name, and the line (from 1) on which it begins.

    Files without lines (Parquet, an array of JSON on one line) and folders count rows instead.
    """

    fields: dict[str, Any]
    line: int


def numbered(records: Sequence[Record]) -> list[Record]:
    """Number the rows instead of the lines if several begin on one line: a line names one row."""
    if all(one.line < other.line for one, other in pairwise(records)):
        return [*records]
    return [Record(record.fields, number) for number, record in enumerate(records, 1)]


@dataclass(frozen=True)
class RowFile(Text):
    """A file of rows that was read once: its rows come from the same bytes as its hash.

    Attributes:
        text: the text of a file of bare texts; "" for all others, whose rows are enough.
        sha256: see `Options.mark`.
        records: its rows; those of large JSON lines are not in memory (`m2m.formats.spooled`).
        problems: its rows that cannot be read, as sentences with their lines.
        kind: "json", "table", "text", "columns" (Parquet, Arrow) or "translations".
        options: how it was read.
        notes: the parts that were left out, in sentences.
        label_names: words for the numbers of a column, if the file has them (`ClassLabel`).
        is_part: whether only its first rows were read.
    """

    records: Sequence[Record] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    kind: str = "json"
    options: Options = AS_IT_IS
    notes: tuple[str, ...] = ()
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    is_part: bool = False
