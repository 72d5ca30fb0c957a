"""The questions of `m2m init` on a terminal; each has a default that Enter takes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from m2m.cli.console import asked, say
from m2m.escaping import one_line

if TYPE_CHECKING:
    from m2m.commands.given import FileSettings
    from m2m.commands.init_files import Files, Wanted
    from m2m.commands.init_lines import Failed
    from m2m.commands.init_rows import Entry

_MOST = 30  # files of this folder that are listed


def is_terminal() -> bool:
    """Return whether a person can read questions and type answers."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Asking:
    """Asks for the files, their columns, the words of labels, the questions and the base.

    Args:
        wanted: the answers that the options give.

    Attributes:
        wanted: with all answers.
        files: its files, read.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.files: Files

    def ask(self) -> tuple[Wanted, Files]:
        """Ask for all that is missing; return the answers and the files."""
        from m2m.commands.init import refuse_existing
        from m2m.commands.split_off import shuffled
        from m2m.errors import InputError

        refuse_existing(self.wanted.out)
        if self.wanted.datasets:
            self.files = self._read()
        else:
            self._until_it_works(self._data)
        if not (self.files.aims or self.wanted.split):
            self._until_it_works(self._target)
        if not self.wanted.model:
            self._base()
        entries = self.files.entries
        if self.wanted.control is None:
            with suppress(InputError):  # its rows have no answers that differ
                own = [entry for entry in entries if self.wanted.split in entry.files]
                shuffled((own or entries)[0], set(), self.wanted.seed)
                say(
                    "A control is a copy of a dataset with shuffled answers. It must not help; if "
                    "it does, do not trust the ranking.",
                    err=True,
                )
                control = click.confirm(asked("Add a control?"), default=True, err=True)
                self.wanted = replace(self.wanted, control=control)
        self.files.wanted = self.wanted
        return self.wanted, self.files

    def _until_it_works(self, ask: Callable[[], None]) -> None:
        """Ask a question again as long as its answer cannot be used."""
        from m2m.errors import M2MError

        before = self.wanted
        while True:
            try:
                return ask()
            except M2MError as error:
                say("", *error.for_user().split("\n"), err=True)
                self.wanted = before

    def _data(self) -> None:
        """Ask for the files of data."""
        self.wanted = replace(self.wanted, datasets=_paths())
        self.files = self._read()

    def _read(self) -> Files:
        """Read the files, and ask about each until all can be read."""
        from m2m.commands.init_files import read_files
        from m2m.commands.init_lines import Refused

        while True:
            try:
                files = read_files(self.wanted)
            except Refused as error:
                for one in error.failed:
                    self._choose(one)
                continue
            self.wanted = files.wanted
            open_entries = [e for e in (*files.entries, *files.aims) if e.questions]
            if not open_entries:
                return files
            for entry in open_entries:
                self._words(entry)

    def _choose(self, failed: Failed) -> None:
        """Ask how a file is meant, or whether to leave it out; raise its error if neither helps."""
        from m2m.commands.init_lines import settings_that_work
        from m2m.formats.rowfile import Several

        command, path = self.wanted.command, failed.files[0]
        is_dataset = ("", path) in command.files
        ways = settings_that_work(failed, command.given_for(failed.files))
        parts = failed.error.members if isinstance(failed.error, Several) and is_dataset else ()
        shown = [_shown(failed, files, given) for files, given in ways]
        leave = [f"leave {path.name} out"] if is_dataset and len(self.wanted.datasets) > 1 else []
        each = [f"all, each as a dataset: {', '.join(part.name for part in parts)}"] * bool(parts)
        if not (shown or leave or each):
            raise failed.error
        say("", failed.error.message, err=True)
        if not (ways or parts) and failed.error.hint:
            say(*failed.error.hint.split("\n"), err=True)
        picked = _pick(f"How is {path.name} meant?", [*each, *shown, *leave]) - len(each)
        if picked < 0:
            self.wanted = self.wanted.with_command(command.of(path, parts))
        elif picked < len(ways):
            files, given = ways[picked]
            changed = command.of(path, files).with_own(files, given)
            self.wanted = self.wanted.with_command(changed)
        else:
            rest = [one for one in self.wanted.datasets if one not in failed.files]
            self.wanted = replace(self.wanted, datasets=(*rest,))

    def _words(self, entry: Entry) -> None:
        """Ask for the words that labels mean, and for the reading of answers."""
        from m2m.commands.init_lines import answer_lines
        from m2m.dataset.answers import READINGS
        from m2m.dataset.guess import UNKNOWN

        command = self.wanted.command
        given = command.given_for(entry.files)
        mapping, name = entry.mapping, entry.files[0].name
        for question in entry.questions:
            say("", question, err=True)
        if any(word.startswith(UNKNOWN) for _, word in mapping.labels):
            end = f"mean in {name}, in words of your language?"
            asks = [(key, asked(f"What does {key} {end}")) for key, _ in mapping.labels]
            words = [(key, click.prompt(text, err=True).strip()) for key, text in asks]
            mapping = replace(mapping, labels=tuple(words))
        if mapping.answers == UNKNOWN:
            lines = answer_lines(replace(command, given=given, own=()), [entry])
            readings = [line.rpartition("--answers ")[2].split()[0] for line in lines]
            shown = [READINGS.get(reading, reading) for reading in readings]
            picked = _pick(f"What is an answer of {name}?", shown)
            mapping = replace(mapping, answers=readings[picked])
        changed = command.with_own(entry.files, replace(given, mapping=mapping))
        self.wanted = replace(self.wanted, own=changed.own)

    def _target(self) -> None:
        """Ask for a file of questions, or for the dataset that they are split off."""
        from m2m.commands.init_files import question_files
        from m2m.commands.split_off import split_off

        say(
            "",
            "The model is judged on questions that it was not trained on. If you have a file of "
            "such questions with answers, type its name. Else type -: m2m holds some rows of a "
            "dataset back.",
            err=True,
        )
        near = [*map(str, question_files(self.wanted.datasets)), "-"]
        if path := _path("File of questions", near[0]):
            self.wanted = replace(self.wanted, targets=(path,))
            self.files = self._read()
            return
        place, entries = 0, self.files.entries
        if len(entries) > 1:
            names = [entry.files[0].name for entry in entries]
            place = _pick("Which of these is most like the questions that you care about?", names)
        # Also of a single dataset: with it, the line to repeat does not ask for a file.
        self.wanted = replace(self.wanted, split=entries[place].files[0])
        split_off(entries[place], self.wanted.seed)

    def _base(self) -> None:
        """Show the models of this machine, and ask for one."""
        from m2m.commands.base_choice import advice, proposal
        from m2m.commands.init import texts_of
        from m2m.pipeline.inputs import model_folders

        found = proposal(texts_of(self.files), model_folders(self.wanted.out))
        if len(found) == 1:
            say("", f"The base is {found[0].sentence}.", err=True)
            place = 0
        else:
            place = _pick("Which base model?", [one.sentence for one in found])
        for note in advice(found[place]):
            say(f"Note: {note}", err=True)
        self.wanted = replace(self.wanted, model=found[place].name)


def _shown(failed: Failed, files: tuple[Path, ...], given: FileSettings) -> str:
    """Return a way to read a file, with its first row as the model will see it."""
    from m2m.dataset.ask import in_one_line

    entry = failed.read(files, given)
    if entry.rows:
        question, answer = entry.rows[0].sides
    elif entry.task:
        question, answer = entry.task.examples[0].prompt, entry.task.examples[0].answer
    else:
        question, answer = "", ""
    named = f"{files[0].name}: " if files != failed.files else ""
    fields = [f'{key} = "{value}"' for key, value in entry.file_fields.items()]
    how = ", ".join(filter(None, [*fields, in_one_line(given.mapping, "dataset")]))
    header = " (line 1 is a row, too)" if given.options.header == "no" else ""
    row = f"question «{_cut(question)}», answer «{_cut(answer)}»" if question else _cut(answer)
    return f"{named}{row}{f'   [{how}]' * bool(how)}{header}"


def _cut(text: str) -> str:
    return one_line(text if len(text) <= 60 else f"{text[:60]}...")


def _paths() -> tuple[Path, ...]:
    """Ask for the files of data; those of this folder are listed."""
    from m2m.commands.init_files import question_files
    from m2m.formats.archives import has_rows

    here = sorted(p for p in Path().iterdir() if has_rows(p.name) or p.suffix.lower() == ".zip")
    asks = question_files()
    for path in here[:_MOST]:
        say(f"  {path}{' (by its name, questions)' * (path in asks)}", err=True)
    data = [path for path in here if path not in asks]
    text = "Your data: names of files or of a folder, with spaces between them"
    while True:
        default = shlex.join(map(str, data)) if 0 < len(data) <= _MOST else None
        shown = asked(f"{text} [{default}]" if default else text)
        typed = click.prompt(shown, err=True, default=default, show_default=False)
        paths = [Path(word).expanduser() for word in _words_of(typed)]
        # A sheet of a table, or a file in an archive, is named below it: words.xlsx/Sheet1.
        missing = [str(p) for p in paths if not (p.exists() or any(q.is_file() for q in p.parents))]
        if paths and not missing:
            return tuple(paths)
        say(f"there is no {', '.join(missing)}", err=True)


def _words_of(typed: str) -> list[str]:
    """Split as a shell does; a name with spaces needs no quotation marks if it is the only one."""
    if Path(typed.strip()).exists():
        return [typed.strip()]
    try:
        # Backslashes separate folders on Windows; quotation marks stay there, and are taken off.
        words = shlex.split(typed, posix=sys.platform != "win32")
        return [word.strip("'\"") for word in words]
    except ValueError:
        return typed.split()


def _path(question: str, default: str) -> Path | None:
    while True:
        shown = asked(f"{question} [{default}]")
        typed = click.prompt(shown, default=default, show_default=False, err=True).strip()
        path = Path(typed.strip("'\"")).expanduser()
        if typed == "-" or path.exists():
            return path if typed != "-" else None
        say(f"there is no {path}", err=True)


def _pick(question: str, choices: Sequence[str]) -> int:
    """Ask for one of some choices; return its place."""
    for number, choice in enumerate(choices, 1):
        say(f"  {number}  {choice}", err=True)

    def place(typed: str) -> int:
        number = int(typed) if typed.isdecimal() else 0
        if 1 <= number <= len(choices):
            return number - 1
        begins = [i for i, one in enumerate(choices) if one.lower().startswith(typed.lower())]
        if len(begins) == 1:
            return begins[0]
        raise click.UsageError(f"type a number from 1 to {len(choices)}, or how its line begins")

    return int(click.prompt(asked(question), default="1", value_proc=place, err=True))
