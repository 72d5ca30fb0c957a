"""The next line to type if `m2m init` has a question: the same command with the missing option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from m2m.commands.given import Given
from m2m.commands.init_rows import Entry, Unclear
from m2m.dataset.ask import as_options
from m2m.dataset.quality import Marked
from m2m.dataset.ways import Choice, Way
from m2m.errors import InputError, M2MError
from m2m.formats.rowfile import AS_IT_IS as PLAIN

_MOST = 3
_SETTING = re.compile(r'`(encoding|header|quotes|bad_rows) = "([\w-]+)"')
_PAIR = re.compile(r'path = \["([^"/\\]+)", "([^"/\\]+)"\]')
_PLAIN = re.compile(r"[\w./:=@+,-]+")
_UNSAFE = re.compile(r'["$`!%\\]')  # in double quotes, in one of the shells

Read = Callable[[tuple[Path, ...], Given], Entry]


@dataclass(frozen=True)
class Command:
    """A call of `m2m init`.

    Attributes:
        model, template, datasets, targets, tests, out: as `start_recipe` takes them.
        given: the settings for the files.
    """

    model: str
    template: str
    datasets: Sequence[Path]
    targets: Sequence[Path]
    tests: Sequence[Path]
    out: Path
    given: Given

    def line(self) -> str:
        """Return the line to type, for the shells of Linux, macOS and Windows."""
        parts = ["m2m", "init", "--model", self.model, "--data", *map(str, self.datasets)]
        for option, paths in (("--target", self.targets), ("--test", self.tests)):
            parts += [part for path in paths for part in (option, str(path))]
        parts += ["--template", self.template] if self.template != "chat" else []
        parts += ["--out", str(self.out)] if self.out != Path("recipe.toml") else []
        parts += [part for root in self.given.roots for part in ("--data-root", str(root))]
        for name, value in vars(self.given.options).items():
            if value != getattr(PLAIN, name):
                parts += [f"--{name.replace('_', '-')}", value]
        parts += as_options(Way(self.given.mapping))
        return " ".join(map(_quoted, parts))


def _quoted(part: str) -> str:
    """Return an argument as Bash and cmd.exe read it; a template's `\\n` is no danger to them."""
    if _PLAIN.fullmatch(part):
        return part
    return shlex.quote(part) if _UNSAFE.search(part.replace("\\n", "")) else f'"{part}"'


@dataclass(frozen=True)
class Failed:
    """A file that `m2m init` cannot use so far, with its error, and how to read it again."""

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
        try:
            for other in others:
                other.read(other.files, given)
        except M2MError:
            continue
        datasets = [*command.datasets]
        if len(files) > 1:
            place = datasets.index(first.files[0])
            datasets[place : place + 1] = files
        lines.append(replace(command, datasets=datasets, given=given).line())
    return lines[:_MOST]


def settings_that_work(
    failed: Failed, given: Given, deeper: bool = True
) -> list[tuple[tuple[Path, ...], Given]]:
    """Return the files and settings with which a file can be used, as its error names them."""
    found: list[list[tuple[tuple[Path, ...], Given]]] = []
    for files, setting in _named(failed, given):
        try:
            failed.read(files, setting)
            found.append([(files, setting)])
        except (Choice, Marked) as error:
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
