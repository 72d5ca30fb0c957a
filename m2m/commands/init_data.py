"""New files of `m2m init`: questions split off a dataset, the rest of it, and a control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from m2m.commands.given import FileSettings
from m2m.commands.init_files import Files, Wanted
from m2m.commands.init_rows import Entry, dataset_entry, target_entry
from m2m.commands.split_off import (
    ENOUGH_DEV,
    ENOUGH_TEST,
    leaked_lines,
    rows_without,
    shuffled,
    split_off,
)
from m2m.counted import counted
from m2m.errors import InputError
from m2m.formats.atomic import write_text
from m2m.formats.json_text import json_text
from m2m.pipeline.leaks import Asked, all_leaked

CONTROL = "shuffled"


@dataclass
class NewFiles:
    """Files that are written next to a recipe, in a folder named after it; none is overwritten.

    Attributes:
        folder: where they are written.
        written: those that are there now.
        notes: facts for the user.
        remarks: notes of the recipe on a dataset, by its name.
    """

    folder: Path
    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, recipe: Path) -> NewFiles:
        """Return the new files of a recipe: none so far."""
        return cls(recipe.with_name(f"{recipe.stem}-data"))

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write rows as JSON lines.

        Raises:
            InputError: there is such a file.
        """
        path = self.folder / f"{name}.jsonl"
        if path.exists():
            raise InputError(
                f"{path} exists", "name another recipe with `--out`, or move the file away"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{json_text(row)}\n" for row in rows))
        self.written.append(path)
        return path

    def remove(self) -> None:
        """Delete them again, as the recipe could not be written."""
        for path in self.written:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def with_questions(
    wanted: Wanted, files: Files, datasets: dict[str, Entry], new: NewFiles
) -> dict[str, Entry]:
    """Split questions off a dataset; return the datasets without them, and add the target.

    Raises:
        InputError: there is no such dataset, or it has too few questions.
    """
    name = _chosen(wanted, datasets)
    entry, seed = datasets[name], wanted.seed
    split = split_off(entry, seed)
    dev, test = (
        new.write(f"{name}-{part}", rows)
        for part, rows in (("dev", split.dev), ("test", split.test))
    )
    given = FileSettings(split.mapping, alone=True)
    aims = [target_entry((path,), (), given).task for path in (dev, test)]
    asked = [Asked(task) for task in aims if task]
    files.aims = [target_entry((dev,), (test,), given)]
    files.objectives = [{"name": name, "dev": (dev,), "test": (test,)}]
    new.notes.append(
        f"no target was given, so {counted(len(split.dev), 'dev question')} and "
        f"{counted(len(split.test), 'test question')} are split off {_named(entry)} (seed {seed}; "
        f"rows with equal or nearly equal questions stay together): {dev}, {test}. A model is good "
        f"if {split.words}"
    )
    if len(split.dev) < ENOUGH_DEV or len(split.test) < ENOUGH_TEST:
        new.notes.append(
            f"these are few questions: with fewer than {ENOUGH_DEV} for dev and {ENOUGH_TEST} for "
            "test most differences stay unclear. Write more of them into the two files"
        )
    made = {}
    for other, own in datasets.items():
        lines = {*split.held} if other == name else set[int]()
        made[other] = _without(other, own, (lines, leaked_lines(own, asked) - lines), new)
    return made


def without_asked(files: Files, datasets: dict[str, Entry], new: NewFiles) -> dict[str, Entry]:
    """Return the datasets without the rows of the user's questions, which `m2m run` refuses."""
    tasks = [task for aim in files.aims for task in (aim.task, aim.test_task) if task]
    asked = [Asked(task) for task in tasks]
    made = {}
    for name, own in datasets.items():
        leaks = {own.rows[place].line for place in all_leaked(own.rows, asked)}
        made[name] = _without(name, own, (set(), leaks), new)
    return made


def _without(name: str, own: Entry, parts: tuple[set[int], set[int]], new: NewFiles) -> Entry:
    """Return a dataset without the lines that are questions, and those that ask one, too."""
    lines, leaks = parts
    made = _copied(name, own, lines | leaks, new) if lines | leaks else own
    if leaks:
        new.notes.append(
            f"left out of {made.files[0]}: {counted(len(leaks), 'row')} of {_named(own)} with dev "
            "or test questions"
        )
    return made


def with_control(
    wanted: Wanted, datasets: dict[str, Entry], new: NewFiles, before: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Add a dataset with the questions of one and the answers of its other rows.

    Args:
        wanted: the recipe that the user wants.
        datasets: the datasets of the recipe.
        new: gets the file.
        before: the datasets with the names of the user's files.
    """
    name = _chosen(wanted, {**before})
    own = CONTROL if CONTROL not in datasets else f"{name}-{CONTROL}"
    rows = shuffled(datasets[name], set(), wanted.seed)
    path = new.write(own, rows)
    given = FileSettings(replace(FileSettings().mapping, system="{system?}"), alone=True)
    has_system = any("system" in row for row in rows)
    entry = dataset_entry((path,), given if has_system else FileSettings())
    new.remarks[own] = f"control: answers of {name} in a random order (seed {wanted.seed})"
    new.notes.append(
        f"{own} is a control, with answers of {name} in a random order (seed {wanted.seed}): "
        f"{path}. It must end near the bottom of the ranking; if not, do not trust the ranking"
    )
    return {**datasets, own: entry}


def _chosen(wanted: Wanted, datasets: dict[str, Entry]) -> str:
    """Return the name of the dataset whose questions are meant: the first if none is said."""
    if wanted.split is None:
        return next(iter(datasets))
    for name, entry in datasets.items():
        if wanted.split in entry.files or str(wanted.split) in (name, entry.files[0].name):
            return name
    known = ", ".join(str(entry.files[0]) for entry in datasets.values())
    raise InputError(f"--split {wanted.split}: is not one of the datasets", f"name one of {known}")


def _named(entry: Entry) -> str:
    return ", ".join(file.name for file in entry.files)


def _copied(name: str, entry: Entry, lines: set[int], new: NewFiles) -> Entry:
    """Write a copy of a dataset without some of its rows, and read it again.

    Raises:
        InputError: no row is left, or the copy is read in another way.
    """
    kept = [row.plain_text for row in entry.rows if row.line not in lines]
    if not kept:
        raise InputError(
            f"{entry.files[0]}: all rows are also dev or test questions",
            "give other questions with `--target`, or leave this dataset out",
        )
    path = new.write(f"{name}-train", rows_without(entry, lines))
    copy = dataset_entry((path,), FileSettings(entry.mapping, alone=True))
    if [row.plain_text for row in copy.rows] != kept:
        raise InputError(
            f"{entry.files[0]}: a copy of its rows as JSON lines is read in another way",
            "give questions with `--target FILE`, so that no copy is needed",
        )
    return replace(copy, asides=entry.asides, shape=entry.shape, questions=entry.questions)
