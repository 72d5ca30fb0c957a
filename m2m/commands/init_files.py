"""Read the files of `m2m init`: datasets, targets and test files, each with its own settings."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from m2m.commands.given import NOTHING, FileSettings
from m2m.commands.init_lines import Command, Failed, refused
from m2m.commands.init_rows import Entry, dataset_entry, settings_unused, target_entry
from m2m.commands.pairs import grouped
from m2m.counted import counted
from m2m.errors import InputError, M2MError
from m2m.evaluate.targets import untested
from m2m.formats.archives import has_rows
from m2m.formats.rowfile import Several

_DEV, _TEST = re.compile("dev|val|valid|validation"), re.compile("test")
_PART = re.compile("dev|(?<![a-z])val(id(ation)?)?(?![a-z])")  # in the name of a dev file
_LATIN = re.compile(r"LATIN (SMALL|CAPITAL) (?:LETTER|LIGATURE) (?:[A-Z]+ )*?([A-Z]+)(?: WITH .*)?")
# Letters whose names in Unicode do not begin with the letters that people write for them.
_CALLED = {"ENG": "N", "ESH": "S", "ETH": "D", "EZH": "Z", "SCHWA": "E", "THORN": "TH",
           "SALTILLO": "", "STOP": ""}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """The recipe that a user wants.

    Attributes:
        out: the file to write.
        datasets: files of rows, or folders of such files.
        targets: dev files; without one, questions are split off a dataset.
        tests: test files, the first for the first target and so on. For a target without one, a
            file with the dev file's name and "test" for "dev" or "valid" in its folder is used.
        model: a name under models/, or a folder; "": the proposed one.
        template: "chat", "plain" or "auto": chat if the model has a chat template.
        given: how the files are read.
        own: how single files are read.
        split: the dataset of which questions are split off; None: the first.
        control: whether to add a dataset with shuffled answers; None: nobody has said.
        seed: of the split and of the control.
        full: whether the recipe shows every field.
    """

    out: Path
    datasets: tuple[Path, ...]
    targets: tuple[Path, ...] = ()
    tests: tuple[Path, ...] = ()
    model: str = ""
    template: str = "auto"
    given: FileSettings = NOTHING
    own: tuple[tuple[Path, FileSettings], ...] = ()
    split: Path | None = None
    control: bool | None = None
    seed: int = 0
    full: bool = False

    @property
    def command(self) -> Command:
        """Return the call of `m2m init` that asks for this."""
        files = [("", path) for path in self.datasets]
        files += [("--target", path) for path in self.targets]
        files += [("--test", path) for path in self.tests]
        model = ["--model", self.model] if self.model else []
        rest = ["--template", self.template] if self.template != "auto" else []
        rest += ["--split", str(self.split)] if self.split else []
        if self.control is not None:
            rest += ["--control" if self.control else "--no-control"]
        rest += ["--seed", str(self.seed)] if self.seed else []
        rest += ["--full"] if self.full else []
        rest += ["--out", str(self.out)] if self.out != Path("recipe.toml") else []
        words = ("m2m", "init", *model, "--data")
        return Command(words, (*files,), (*rest,), self.given, self.own)

    def with_command(self, command: Command) -> Wanted:
        """Return it with the files and settings of a call."""
        named = {
            option: tuple(path for own, path in command.files if own == option)
            for option in ("", "--target", "--test")
        }
        return replace(
            self, datasets=named[""], targets=named["--target"], tests=named["--test"],
            given=command.given, own=command.own,
        )  # fmt: skip


@dataclass
class Files:
    """The files of a recipe, read.

    Attributes:
        wanted: the wish, with the files of a folder in place of it.
        entries: the datasets.
        aims: the targets.
        objectives: name, dev and test of each target.
        notes: facts for the user.
    """

    wanted: Wanted
    entries: list[Entry] = field(default_factory=list)
    aims: list[Entry] = field(default_factory=list)
    objectives: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def question_files(datasets: Sequence[Path] = ()) -> list[Path]:
    """Return the dev files, then the test files, in the folders of the datasets and here."""
    paths = (*datasets, Path())
    folders = dict.fromkeys(next(p for p in (q, *q.parents) if p.is_dir()) for q in paths)
    near = [one for folder in folders for one in sorted(folder.iterdir()) if has_rows(one.name)]
    return [one for part in (_DEV, _TEST) for one in near if part.fullmatch(one.stem.lower())]


def read_files(wanted: Wanted) -> Files:
    """Read all files.

    Raises:
        InputError: a file is wrong; the message lists all wrong files, and the hint has the next
            line to type.
    """
    files = _in_folders(wanted)
    objectives, notes = _aims(grouped(files.wanted.targets), grouped(files.wanted.tests))
    files.objectives, files.notes = objectives, files.notes + notes
    wanted = files.wanted = _without_questions(files)
    command, failed = wanted.command, list[Failed]()
    for group in grouped(wanted.datasets, wanted.given.mapping.text):
        try:
            files.entries.append(dataset_entry(group, command.given_for(group)))
        except M2MError as error:
            failed.append(Failed(group, error, dataset_entry))
    for objective in objectives:
        read = functools.partial(_target, objective.get("test", ()))
        try:
            files.aims.append(read(objective["dev"], command.given_for(objective["dev"])))
        except M2MError as error:
            failed.append(Failed(objective["dev"], error, read))
    if failed:
        raise refused(command, failed, "no recipe written")
    every, owned = [*files.entries, *files.aims], {path for path, _ in wanted.own}
    shared = [entry for entry in every if not owned & {*entry.files}]
    files.notes += settings_unused(wanted.given, shared or every)
    for path, given in wanted.own:
        files.notes += settings_unused(given, [entry for entry in every if path in entry.files])
    return files


def _in_folders(wanted: Wanted) -> Files:
    """Return the files with those of a folder in its place: datasets, and dev and test files."""
    files, datasets = Files(wanted), list[Path]()
    targets, tests = [*wanted.targets], [*wanted.tests]
    for path in wanted.datasets:
        members = _members(path, wanted.given)
        dev = [one for one in members if _DEV.fullmatch(one.stem.lower())]
        test = [one for one in members if _TEST.fullmatch(one.stem.lower())]
        if not members or wanted.targets or len(dev) > 1 or (test and not dev):
            datasets += [path] if not members or dev or test else members
            continue
        datasets += [one for one in members if one not in (*dev, *test)]
        targets, tests = [*targets, *dev], [*tests, *test]
        names = ", ".join(one.name for one in members)
        files.notes.append(f"files of {path}: {names}")
    files.wanted = replace(wanted, datasets=(*datasets,), targets=(*targets,), tests=(*tests,))
    return files


def _without_questions(files: Files) -> Wanted:
    """Return the wish without the dev and test files among the datasets, and note them."""
    wanted = files.wanted
    asked = {p.resolve() for aim in files.objectives for p in (*aim["dev"], *aim.get("test", ()))}
    out = [path for path in wanted.datasets if path.resolve() in asked]
    files.notes += [f"{path} has the questions, so it is no dataset" for path in out]
    kept = tuple(path for path in wanted.datasets if path not in out)
    if wanted.datasets and not kept:
        raise InputError("all files have questions: no dataset is left", "name one with `--data`")
    own = tuple(one for one in wanted.own if one[0] not in out or one[0] in wanted.targets)
    return replace(wanted, datasets=kept, own=own)


def _members(path: Path, given: FileSettings) -> list[Path]:
    """Return the files of a folder, if each has rows of its own; [] for anything else.

    The splits of one dataset, such as train and validation, are no such files.
    """
    if not path.is_dir():
        return []
    try:
        dataset_entry((path,), given, first=1)
    except Several:
        files = [one for one in path.iterdir() if one.is_file() and has_rows(one.name)]
        named = sorted(one for one in files if not one.name.startswith((".", "~$", "dataset_")))
        return [] if any("train" in one.stem.lower() for one in named) else named
    except M2MError:
        return []
    return []


def _target(test: tuple[Path, ...], dev: tuple[Path, ...], given: FileSettings) -> Entry:
    return target_entry(dev, test, given)


def _aims(
    targets: Sequence[tuple[Path, ...]], tests: Sequence[tuple[Path, ...]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return name, dev and test of every target, and notes about them for the user.

    Raises:
        InputError: there are more test files than targets.
    """
    if len(tests) > len(targets):
        raise InputError(
            f"{counted(len(tests), 'test file')} for {counted(len(targets), 'target')}",
            "give each `--target` at most one `--test`, in the same order",
        )
    objectives: list[dict[str, Any]] = []
    notes = []
    aims = [files[0].absolute() for files in targets]
    nameless = ("dev", "val", "valid")  # a target of such a file is named after its folder
    names = unlike(aim.parent.name if aim.stem in nameless else aim.stem for aim in aims)
    for number, (dev, name) in enumerate(zip(targets, names, strict=True)):
        objectives.append({"name": name, "dev": dev})
        tests_near = (  # FLORES calls its test part devtest
            tuple(file.with_name(_PART.sub(word, file.name, count=1)) for file in dev)
            for word in ("test", "devtest")
        )
        near = next((n for n in tests_near if n != dev and all(map(Path.is_file, n))), None)
        if number < len(tests):
            objectives[-1]["test"] = tests[number]
        elif near:
            objectives[-1]["test"] = near
            listed = ", ".join(map(str, near))
            notes.append(f"using {listed} as test questions for {name}")
        else:
            notes.append(
                f"{untested(name)}. Give a second file with `--test`; or name this as `--data`, "
                "without `--target`: m2m then holds some of its rows back for dev and test"
            )
    return objectives, notes


def unlike(stems: Any) -> list[str]:
    """Make names that a recipe takes, all different."""
    names: list[str] = []
    for stem in stems:
        # Without the marks of letters such as ọ̀.
        letters = unicodedata.normalize("NFKD", stem.replace("ß", "ss"))
        bare = "".join(_plain(each) for each in letters if not unicodedata.combining(each))
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", bare).strip("._-") or "data"
        name, number = plain, 2
        while name.lower() in {known.lower() for known in names}:
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return names


def _plain(letter: str) -> str:
    """Return the letters of English after which Unicode names a Latin one: d for ɗ, ae for æ."""
    if not (named := _LATIN.fullmatch(unicodedata.name(letter, ""))):
        return letter
    size, word = named.groups()
    plain = _CALLED.get(word, word if len(word) <= 2 else word[0])
    return plain if size == "CAPITAL" else plain.lower()
