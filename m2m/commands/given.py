"""The settings that a user gives to a command for all of its files, applied to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from m2m.dataset.guess import UNKNOWN, Guess
from m2m.dataset.mapping import AS_IT_IS, RowMapping
from m2m.dataset.row_source import RowSource
from m2m.dataset.templates import names_in, value_at
from m2m.formats.rowfile import AS_IT_IS as PLAIN
from m2m.formats.rowfile import Options

_LOOKED_AT = 50  # rows that show the columns
_TEMPLATES = ("prompt", "answer", "system", "text", "messages", "choices")


@dataclass(frozen=True)
class FileSettings:
    """How files are read, as the user says for all of them together.

    A file uses the settings that fit it. `quotes` and `bad_rows` hold for all; `encoding` and
    `header` only for a file that cannot be read without them, because other files have theirs.
    Templates hold for a file with all of their columns, `labels` for one with these values.

    Attributes:
        mapping: how rows are read.
        options: how files are read.
        roots: more folders in which a task file may name files, in addition to its own.
        alone: whether there is one file only: its columns must be those of the settings.
    """

    mapping: RowMapping = AS_IT_IS
    options: Options = PLAIN
    roots: tuple[Path, ...] = ()
    alone: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether the templates say all that is needed to read a row."""
        mapping = self.mapping
        return bool(mapping.text or mapping.messages or (mapping.prompt and mapping.answer))

    def tried(self) -> list[Options]:
        """Return the ways to read a file, of which the first that works is used."""
        if self.alone:
            return [self.options]
        shared = replace(self.options, encoding="", header="auto")
        return [*dict.fromkeys([shared, self.options])]

    def of_lines(self) -> FileSettings:
        """Return the settings for aligned files, which are no tables."""
        return replace(self, options=replace(self.options, header="auto", quotes="auto"))

    def fits(self, source: RowSource) -> bool:
        """Return whether there are templates, and a file has the columns that they name."""
        if self.alone:
            return bool(self.mapping.templates)
        names = {name for template in self.mapping.templates for name in names_in(template)}
        names -= {"choices"}
        if (
            self.options.header == "no"
            and source.is_named_by_row
            and any(map(str.isdecimal, names))
        ):
            return False  # the first row has a number in it: {1} means the first column
        return bool(self.mapping.templates) and any(
            all(value_at(record.fields, name, missing=self) is not self for name in names)
            for record in source.records[:_LOOKED_AT]
        )

    @property
    def is_enough(self) -> bool:
        """Return whether the settings may say all that the row's own columns leave open."""
        return self.alone and replace(self.mapping, where=()) != AS_IT_IS

    def whole(self, source: RowSource) -> RowMapping:
        """Return the settings for a file that fits them, without `where` for columns it lacks."""
        if self.alone:
            return self.mapping
        held = {name for record in source.records[:_LOOKED_AT] for name in record.fields}
        where = tuple(
            pick for pick in self.mapping.where if {pick[0], pick[0].split(".")[0]} & held
        )
        return replace(self.mapping, where=where)

    def own(self, source: RowSource) -> RowMapping:
        """Return the settings for a file that m2m reads by itself: `where`."""
        return RowMapping(where=self.whole(source).where)

    def merged(self, made: Guess, source: RowSource) -> Guess:
        """Return a guess with the user's settings in place of its own."""
        mapping, questions = made.mapping, made.questions
        if self.fits(source):
            given = {n: getattr(self.mapping, n) for n in _TEMPLATES if getattr(self.mapping, n)}
            mapping = replace(mapping, **given)
        known, asked = self.mapping.words, {key for key, _ in mapping.labels}
        if known and asked and asked <= known.keys():
            mapping, questions = replace(mapping, labels=self.mapping.labels), ()
        if mapping.answers == UNKNOWN and self.mapping.answers != "auto":
            mapping, questions = replace(mapping, answers=self.mapping.answers), ()
        where = dict.fromkeys((*self.own(source).where, *mapping.where))
        return replace(made, mapping=replace(mapping, where=tuple(where)), questions=questions)

    def unused(self, mappings: Sequence[RowMapping]) -> list[str]:
        """Return the settings that none of the files uses."""
        names = [*_TEMPLATES, "labels", "answers"]
        unused = [
            name
            for name in names
            if getattr(self.mapping, name) != getattr(AS_IT_IS, name)
            and all(getattr(m, name) != getattr(self.mapping, name) for m in mappings)
        ]
        used = {pick for mapping in mappings for pick in mapping.where}
        return unused + ["where"] * any(pick not in used for pick in self.mapping.where)


NOTHING = FileSettings()
