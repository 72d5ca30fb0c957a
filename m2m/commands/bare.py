"""Files that a command names without a recipe: they are read as `m2m init` reads them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from m2m.commands.given import NOTHING, FileSettings
from m2m.commands.init_lines import Command, Failed, answer_lines, next_lines, quoted
from m2m.commands.init_rows import Entry, dataset_entry, read_dataset, settings_unused, target_entry
from m2m.commands.pairs import grouped
from m2m.dataset.ask import as_options, in_one_line
from m2m.dataset.guess import Role
from m2m.dataset.ways import Way
from m2m.errors import M2MError
from m2m.recipe.new_recipe import toml_value


@dataclass
class Bare:
    """A bare file, or aligned files, as it was read.

    Attributes:
        files: the file, or the aligned files.
        part: "dataset" or "target".
        entry: its rows and how they are read; None if it cannot be used.
        error: why it cannot be used; also if only some of its rows are bad.
        lines: commands to choose from that can be typed next.
    """

    files: tuple[Path, ...]
    part: Role
    entry: Entry | None = None
    error: M2MError | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def is_shown(self) -> bool:
        """Return whether it has rows that can be used."""
        return self.entry is not None and bool(self.entry.rows or self.entry.task)

    @property
    def mapping(self) -> str:
        """Return how the rows are read, in one line: for a recipe, and as options; "" as is."""
        if self.entry is None:
            return ""
        fields, mapping = self.entry.file_fields, self.entry.mapping
        written = [f"{key} = {toml_value(value)}" for key, value in fields.items()]
        options = [f"--{k.replace('_', '-')} {quoted(str(v))}" for k, v in fields.items()]
        if mapping.as_json():
            written.append(in_one_line(mapping, self.part))
            options += [quoted(word) for word in as_options(Way(mapping))]
        start = f"read as {self.entry.shape}: " if self.entry.shape else "read with "
        return f"{start}{', '.join(written)} (options: {' '.join(options)})" if written else ""

    def failed(self, first: int) -> Failed | None:
        """Return the file with its error, for `next_lines`."""
        if self.error is None:
            return None
        read = functools.partial(dataset_entry, first=first)
        return Failed(self.files, self.error, read if self.part == "dataset" else _target)


def command_of(
    words: Sequence[str],
    files: Sequence[Path],
    targets: Sequence[Path] = (),
    rest: Sequence[str] = (),
    given: FileSettings = NOTHING,
) -> Command:
    """Return the call of a command with these bare files."""
    count = len(grouped(files, given.mapping.text)) + len(grouped(targets, given.mapping.text))
    named = [*(("", path) for path in files), *(("--target", path) for path in targets)]
    return Command((*words,), (*named,), (*rest,), replace(given, alone=count == 1))


def read_bare(command: Command, first: int = 0) -> list[Bare]:
    """Read all files of a command, the datasets first; each has its rows or its error.

    Args:
        command: the call, for the lines that can be typed next.
        first: how many rows of a large dataset are read; 0: all.

    Raises:
        InputError: no file can use one of the settings.
    """
    given, found = command.given, list[Bare]()
    parts: tuple[tuple[Role, str], ...] = (("dataset", ""), ("target", "--target"))
    for part, option in parts:
        paths = [path for own, path in command.files if own == option]
        found += [Bare(files, part) for files in grouped(paths, given.mapping.text)]
    for bare in found:
        try:
            if bare.part == "dataset":
                bare.entry = read_dataset(bare.files, given, first)
            else:
                bare.entry = target_entry(bare.files, (), given)
            bare.error = bare.entry.fault
        except M2MError as error:
            bare.error = error
    if not any(bare.error for bare in found):
        settings_unused(given, [bare.entry for bare in found if bare.entry])
    _add_lines(command, found, first)
    return found


def _target(files: tuple[Path, ...], given: FileSettings) -> Entry:
    return target_entry(files, (), given)


def _add_lines(command: Command, found: Sequence[Bare], first: int) -> None:
    """Give each file that has an error or a question the lines to type."""
    failed = [one for one in (bare.failed(first) for bare in found) if one]
    together = next_lines(command, failed) if failed else []
    for bare in found:
        if own := bare.failed(first):
            alone = command_of(command.words, bare.files, (), command.rest, command.given)
            bare.lines = together or (
                next_lines(alone, [own]) if len(failed) > 1 and bare.part == "dataset" else []
            )
        elif bare.entry and bare.entry.questions:
            bare.lines = answer_lines(command, [bare.entry])
