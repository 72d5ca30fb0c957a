"""The next line to type if a command has a question: the same one with the missing option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from m2m.commands.given import Given
from m2m.commands.init_rows import Entry, Unclear
from m2m.dataset.ask import as_options
from m2m.dataset.guess import UNKNOWN
from m2m.dataset.quality import Marked
from m2m.dataset.ways import Choice, Way
from m2m.errors import InputError, M2MError
from m2m.formats.rowfile import AS_IT_IS as PLAIN
from m2m.formats.rowfile import MOST_MEMBERS, Several

_MOST = 3
_NO_HEADER = re.compile(" --header no( |$)")
_SETTING = re.compile(r'`(encoding|header|quotes|bad_rows) = "([\w-]+)"')
_READING = re.compile(r'answers = "(\w+)"')
_PAIR = re.compile(r'path = \["([^"/\\]+)", "([^"/\\]+)"\]')
_ASKED = re.compile("dev|val|test")  # in the name of a part with questions
_PLAIN = re.compile(r"[\w./:=@+,-]+")
_UNSAFE = re.compile(r'["$`!%\\]')  # in double quotes, in one of the shells

Read = Callable[[tuple[Path, ...], Given], Entry]


@dataclass(frozen=True)
class Command:
    """A call of a command that reads files.

    Attributes:
        words: its first words: "m2m", "data", "preview".
        files: its files, each with the option before it; or "".
        rest: its other words.
        given: the settings for the files.
    """

    words: tuple[str, ...]
    files: tuple[tuple[str, Path], ...]
    rest: tuple[str, ...]
    given: Given

    def line(self) -> str:
        """Return the line to type, for the shells of Linux, macOS and Windows."""
        parts = [*self.words]
        parts += [part for option, path in self.files for part in (option, str(path)) if part]
        parts += self.rest
        parts += [part for root in self.given.roots for part in ("--data-root", str(root))]
        for name, value in vars(self.given.options).items():
            if value != getattr(PLAIN, name):
                parts += [f"--{name.replace('_', '-')}", value]
        parts += as_options(Way(self.given.mapping))
        return " ".join(map(quoted, parts))

    def of(self, path: Path, files: Sequence[Path]) -> Command:
        """Return the command with other files, or a part of it, in place of a file."""
        if files[0] == path and len(files) == 1:
            return self
        place = [own for _, own in self.files].index(path)
        option = self.files[place][0]
        changed = [*self.files[:place], *((option, file) for file in files)]
        return replace(self, files=(*changed, *self.files[place + 1 :]))


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
    lines = []
    for files, given in settings_that_work(first, command.given):
        whole: Command | None = replace(command, given=given).of(first.files[0], files)
        for other in others:
            whole = whole and _with_other(whole, other)
        if whole:
            lines.append(whole.line())
    return lines[: MOST_MEMBERS if isinstance(first.error, Several) else _MOST]


def _with_other(command: Command, other: Failed) -> Command | None:
    """Return the command with a part of another file that works; None if there is none."""
    parts = list(other.error.members) if isinstance(other.error, Several) else []
    named = [path for _, path in command.files]
    if ("--target", other.files[0]) in command.files:
        parts.sort(key=lambda part: not _ASKED.search(part.name.lower()))
    for files in (other.files, *((path,) for path in parts if path not in named)):
        with suppress(M2MError):
            other.read(files, command.given)
            return command.of(other.files[0], files)
    return None


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
        error = failed[0].error
        return error if isinstance(error, InputError) else InputError(error.message, error.hint)
    problems = [
        _with_hint(one.error.message, one.error.aside)
        if ask and isinstance(one.error, Unclear)
        else _with_hint(one.error.message, one.error.hint or "")
        for one, ask in zip(failed, asks, strict=True)
    ]
    start = f"{heading}: " if heading else ""
    listed = "".join(f"\n  - {problem}" for problem in problems)
    message = f"{start}{len(problems)} files{listed}" if len(failed) > 1 else start + problems[0]
    hint = choose(lines) if lines else "correct this and run it again"
    return InputError(message, hint)


def answer_lines(command: Command, entries: Sequence[Entry]) -> list[str]:
    """Return the command with the answers to files' questions, and with a ? for each word.

    [] if the questions of the files differ.
    """
    given, asked = command.given, [entry for entry in entries if entry.questions]
    kinds = {(entry.mapping.labels, entry.mapping.answers) for entry in asked}
    if len(kinds) != 1:
        return []
    ((labels, _),) = kinds
    if not any(word.startswith(UNKNOWN) for _, word in labels):
        labels = given.mapping.labels
    readings = _READING.findall(" ".join(asked[0].questions)) or [given.mapping.answers]
    mappings = [replace(given.mapping, labels=labels, answers=one) for one in readings]
    settings = [replace(given, mapping=mapping) for mapping in mappings]
    return [replace(command, given=setting).line() for setting in settings]


def choose(lines: Sequence[str]) -> str:
    """Return the hint to run one of some lines."""
    which = "this line, if it" if len(lines) == 1 else "the one of these lines that"
    rule = " (`--header no`: line 1 is a row, too)" if any(map(_NO_HEADER.search, lines)) else ""
    return f"run {which} says what is meant{rule}:\n  " + "\n  ".join(lines)


def _with_hint(message: str, hint: str) -> str:
    shown = hint.replace("\n", "\n    ")
    return f"{message}\n    {shown}" if hint else message


def settings_that_work(
    failed: Failed, given: Given, deeper: bool = True
) -> list[tuple[tuple[Path, ...], Given]]:
    """Return the files and settings with which a file can be used, as its error names them."""
    found: list[list[tuple[tuple[Path, ...], Given]]] = []
    for files, setting in _named(failed, given):
        try:
            failed.read(files, setting)
            found.append([(files, setting)])
        except (Choice, Marked, Several) as error:
            if deeper:
                found.append(
                    settings_that_work(Failed(files, error, failed.read), setting, deeper=False)
                )
        except InputError as error:  # some rows are bad
            if deeper and _SETTING.search(error.hint or ""):
                found.append(
                    settings_that_work(Failed(files, error, failed.read), setting, deeper=False)
                )
    return [one for rank in zip_longest(*found) for one in rank if one]


def _named(failed: Failed, given: Given) -> list[tuple[tuple[Path, ...], Given]]:
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
    changed = [replace(given, options=replace(given.options, **{k: v})) for k, v in settings]
    return [*chosen, *((failed.files, one) for one in changed)]


def _with(way: Way, given: Given) -> Given:
    header = given.options.header if way.header == "auto" else way.header
    mapping = replace(way.mapping, where=given.mapping.where or way.mapping.where)
    return replace(given, mapping=mapping, options=replace(given.options, header=header))
