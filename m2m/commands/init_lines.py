"""The next line to type if a command has a question: the same one with the missing option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from m2m.commands.given import FileSettings
from m2m.commands.init_rows import Entry, Unclear
from m2m.counted import counted
from m2m.dataset.ask import as_options
from m2m.dataset.guess import UNKNOWN
from m2m.dataset.quality import Marked
from m2m.dataset.ways import Choice, Way
from m2m.errors import InputError, M2MError
from m2m.formats.rowfile import AS_IT_IS as PLAIN
from m2m.formats.rowfile import MOST_MEMBERS, Several

_MOST = 3
_NO_HEADER = re.compile(" --header no( |$)")
_SETTING = re.compile(r'`(encoding|header|quotes|bad_rows) = (?:"([\w-]+)"|(\d+))`')
_READING = re.compile(r'answers = "(\w+)"')
_PAIR = re.compile(r'path = \["([^"/\\]+)", "([^"/\\]+)"\]')
_ASKED = re.compile("dev|val|test")  # in the name of a part with questions
_PLAIN = re.compile(r"[\w./:=@+,-]+")
_UNSAFE = re.compile(r'["$`!%\\]')  # in double quotes, in one of the shells

Read = Callable[[tuple[Path, ...], FileSettings], Entry]


@dataclass(frozen=True)
class Command:
    """A call of a command that reads files.

    Attributes:
        words: its first words: "m2m", "data", "preview".
        files: its files, each with the option before it; or "".
        rest: its other words.
        given: the settings for the files.
        own: the settings of single files, in place of `given` (`--for FILE`).
    """

    words: tuple[str, ...]
    files: tuple[tuple[str, Path], ...]
    rest: tuple[str, ...]
    given: FileSettings
    own: tuple[tuple[Path, FileSettings], ...] = ()

    def line(self) -> str:
        """Return the line to type, for the shells of Linux, macOS and Windows."""
        parts = [*self.words]
        parts += [part for option, path in self.files for part in (option, str(path)) if part]
        parts += self.rest
        parts += [part for root in self.given.roots for part in ("--data-root", str(root))]
        parts += _as_words(self.given)
        for path, given in self.own:
            parts += ["--for", str(path), *_as_words(given)]
        return " ".join(map(quoted, parts))

    def given_for(self, files: Sequence[Path]) -> FileSettings:
        """Return the settings with which a file, or aligned files, are read."""
        return next((given for path, given in self.own if path in files), self.given)

    def with_given(self, files: Sequence[Path], given: FileSettings) -> Command:
        """Return the command with other settings for a file: its own ones if it has some."""
        if any(path in files for path, _ in self.own):
            return self.with_own(files, given)
        return replace(self, given=given)

    def with_own(self, files: Sequence[Path], given: FileSettings) -> Command:
        """Return the command with settings that are for a file alone."""
        rest = [(path, other) for path, other in self.own if path not in files]
        return replace(self, own=(*rest, (files[0], replace(given, alone=True))))

    def of(self, path: Path, files: Sequence[Path]) -> Command:
        """Return the command with other files, or a part of it, in place of a file."""
        if files[0] == path and len(files) == 1:
            return self
        place = [own for _, own in self.files].index(path)
        option = self.files[place][0]
        changed = [*self.files[:place], *((option, file) for file in files)]
        # The other file of an aligned pair may be there already.
        return replace(self, files=tuple(dict.fromkeys((*changed, *self.files[place + 1 :]))))


def _as_words(given: FileSettings) -> list[str]:
    """Return settings as options."""
    parts = list[str]()
    for name, value in vars(given.options).items():
        if value != getattr(PLAIN, name):
            parts += [f"--{name.replace('_', '-')}", str(value)]
    return [*parts, *as_options(Way(given.mapping))]


def quoted(part: str) -> str:
    """Return an argument as Bash and cmd.exe read it; a template's `\\n` is no danger to them."""
    if _PLAIN.fullmatch(part):
        return part
    return shlex.quote(part) if _UNSAFE.search(part.replace("\\n", "")) else f'"{part}"'


@dataclass(frozen=True)
class Failed:
    """A file that a command cannot use so far, with its error, and how to read it again."""

    files: tuple[Path, ...]
    error: M2MError
    read: Read


def next_lines(command: Command, failed: Sequence[Failed]) -> list[str]:
    """Return the commands that work; [] if no single line answers all questions.

    Each was tried: with it, every file can be used.
    """
    first, *others = failed
    if others and command.words[1] == "init" and (own := _each_its_own(command, failed)):
        return own
    lines = []
    for files, given in settings_that_work(first, command.given_for(first.files)):
        whole: Command | None = command.with_given(first.files, given).of(first.files[0], files)
        for other in others:
            whole = whole and _with_other(whole, other)
        if whole:
            lines.append(whole.line())
    return lines[: MOST_MEMBERS if isinstance(first.error, Several) else _MOST]


def _each_its_own(command: Command, failed: Sequence[Failed]) -> list[str]:
    """Return commands with settings for each file, if the files are not all meant alike.

    Settings for all files could read one of them in a way that nobody means.
    """
    ways = [settings_that_work(one, command.given_for(one.files)) for one in failed]
    if not all(ways) or all(own[0][1] == ways[0][0][1] for own in ways):
        return []
    lines = dict[str, None]()
    for rank in range(_MOST):
        whole = command
        for one, own in zip(failed, ways, strict=True):
            files, given = own[min(rank, len(own) - 1)]
            whole = whole.of(one.files[0], files)
            if given != command.given:
                whole = whole.with_own(files, given)
        lines[whole.line()] = None
    return [*lines]


def _with_other(command: Command, other: Failed) -> Command | None:
    """Return the command with a part of another file that works; None if there is none."""
    parts = list(other.error.members) if isinstance(other.error, Several) else []
    named = [path for _, path in command.files]
    if ("--target", other.files[0]) in command.files:
        parts.sort(key=lambda part: not _ASKED.search(part.name.lower()))
    for files in (other.files, *((path,) for path in parts if path not in named)):
        with suppress(M2MError):
            other.read(files, command.given_for(other.files))
            return command.of(other.files[0], files)
    return None


class Refused(InputError):
    """Files that a command cannot use so far; `failed` has each with its error."""

    failed: Sequence[Failed] = ()


def refused(command: Command, failed: Sequence[Failed], heading: str = "") -> InputError:
    """Return the error about files that cannot be used so far, with the next line to type.

    Args:
        command: the command that failed.
        failed: its files that cannot be used.
        heading: its first words, such as "no recipe written"; or "".
    """
    lines = next_lines(command, failed)
    asks = [bool(lines) and isinstance(one.error, Unclear) for one in failed]
    if len(failed) == 1 and not lines and not heading:
        only = failed[0].error
        return only if isinstance(only, InputError) else InputError(only.message, only.hint)
    problems = [
        _with_hint(one.error.message, one.error.aside)
        if ask and isinstance(one.error, Unclear)
        else _with_hint(one.error.message, one.error.hint or "")
        for one, ask in zip(failed, asks, strict=True)
    ]
    start = f"{heading}: " if heading else ""
    listed = "".join(f"\n  - {problem}" for problem in problems)
    several = f"{counted(len(problems), 'file')}{listed}"
    message = start + (several if len(failed) > 1 else problems[0])
    hint = choose(lines) if lines else "correct this and run it again"
    error = Refused(message, hint)
    error.failed = failed
    return error


def answer_lines(command: Command, entries: Sequence[Entry]) -> list[str]:
    """Return the command with the answers to files' questions, and with a ? for each word.

    [] if the questions of the files differ.
    """
    asked = [entry for entry in entries if entry.questions]
    kinds = {(entry.mapping.labels, entry.mapping.answers) for entry in asked}
    if len(kinds) != 1:
        return []
    ((labels, _),) = kinds
    files = asked[0].files
    given = command.given_for(files)
    if not any(word.startswith(UNKNOWN) for _, word in labels):
        labels = given.mapping.labels
    readings = _READING.findall(" ".join(asked[0].questions)) or [given.mapping.answers]
    mappings = [replace(given.mapping, labels=labels, answers=one) for one in readings]
    settings = [replace(given, mapping=mapping) for mapping in mappings]
    return [command.with_given(files, setting).line() for setting in settings]


def choose(lines: Sequence[str]) -> str:
    """Return the hint to run one of some lines."""
    which = "this line, if it" if len(lines) == 1 else "the one of these lines that"
    rule = " (`--header no`: line 1 is a row, too)" if any(map(_NO_HEADER.search, lines)) else ""
    return f"run {which} says what is meant{rule}:\n  " + "\n  ".join(lines)


def _with_hint(message: str, hint: str) -> str:
    shown = hint.replace("\n", "\n    ")
    return f"{message}\n    {shown}" if hint else message


def settings_that_work(
    failed: Failed, given: FileSettings, deeper: bool = True
) -> list[tuple[tuple[Path, ...], FileSettings]]:
    """Return the files and settings with which a file can be used, as its error names them."""
    found: list[list[tuple[tuple[Path, ...], FileSettings]]] = []
    inside = isinstance(failed.error, Several)  # its parts have settings, too
    for files, setting in _named(failed, given):
        try:
            failed.read(files, setting)
            found.append([(files, setting)])
        except InputError as error:
            asks = isinstance(error, Choice | Marked | Several)  # or else some rows are bad
            if deeper and (asks or _SETTING.search(error.hint or "")):
                inner = Failed(files, error, failed.read)
                found.append(settings_that_work(inner, setting, deeper=inside))
    return [one for rank in zip_longest(*found) for one in rank if one]


def _named(failed: Failed, given: FileSettings) -> list[tuple[tuple[Path, ...], FileSettings]]:
    error, path = failed.error, failed.files[0]
    if isinstance(error, Marked):
        wheres = [(*given.mapping.where, where) for where in error.choice]
        mappings = [replace(given.mapping, where=where) for where in wheres]
        return [(failed.files, replace(given, mapping=mapping)) for mapping in mappings]
    chosen = [
        (failed.files, _with(way, given))
        for way in (error.choice if isinstance(error, Choice) else ())
    ]
    if isinstance(error, Unclear):
        return chosen
    if isinstance(error, Several):
        return [((member,), given) for member in error.members]
    words = f"{error.message} {error.hint}"
    if pair := _PAIR.search(words):
        return [(tuple(path.with_name(name) for name in pair.groups()), given)]
    settings = dict.fromkeys(_SETTING.findall(words))
    values: list[dict[str, Any]] = [{name: word or int(n)} for name, word, n in settings]
    changed = [replace(given, options=replace(given.options, **value)) for value in values]
    return [*chosen, *((failed.files, one) for one in changed)]


def _with(way: Way, given: FileSettings) -> FileSettings:
    header = given.options.header if way.header == "auto" else way.header
    mapping = replace(way.mapping, where=given.mapping.where or way.mapping.where)
    return replace(given, mapping=mapping, options=replace(given.options, header=header))
