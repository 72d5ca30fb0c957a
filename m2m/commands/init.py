"""`m2m init`: write a recipe for a user's files, checked before it is written."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.checkpoint import find_model
from m2m.commands.given import NOTHING, Given
from m2m.commands.init_lines import Command, Failed, answer_lines, refused
from m2m.commands.init_rows import (
    Entry,
    dataset_entry,
    settings_unused,
    target_entry,
    written_fields,
)
from m2m.commands.pairs import grouped
from m2m.counted import counted
from m2m.dataset import encode
from m2m.errors import InputError, M2MError
from m2m.escaping import one_line
from m2m.formats.atomic import write_text
from m2m.opening import refuse_outside
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.recipe import Train, load_recipe
from m2m.recipe.new_recipe import recipe_text
from m2m.tokenizer import Formatter

# Names that `load_recipe` refuses, and bytes that are not UTF-8 (lone surrogates).
_OPEN = re.compile(r'(labels|answers) = .*"\?')
_FILES = ("name", "path", "dev", "test")
_UNNAMED = re.compile("[\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Started:
    """A written recipe, with notes about the choices that m2m made for the user."""

    recipe: Path
    notes: tuple[str, ...]
    roots: tuple[Path, ...] = ()  # folders of files outside the recipe's own folder
    questions: tuple[str, ...] = ()  # what the user must write into it first
    open_lines: tuple[str, ...] = ()  # the lines of the recipe with a ? in its place
    lines: tuple[str, ...] = ()  # commands that answer the questions at once


def start_recipe(
    out: Path,
    model: str,
    template: str,
    datasets: Sequence[Path],
    targets: Sequence[Path],
    tests: Sequence[Path],
    given: Given = NOTHING,
) -> Started:
    """Write a recipe with every field explained.

    Args:
        out: the file to write.
        model: a name under models/, or a folder.
        template: "chat" or "plain".
        datasets: files of rows.
        targets: dev files.
        tests: test files, the first for the first target and so on. For a target without one, a
            file with the dev file's name and "test" for "dev" in the same folder is used.
        given: how the files are read.

    Raises:
        InputError: `out` exists, or a file is wrong; the message lists all wrong files, and the
            hint has the next line to type.
    """
    if out.exists():
        raise InputError(f"{out} exists", "name another file with `--out`, or move it away")
    base = find_model(model, model_folders(out))
    objectives, notes = _aims(grouped(targets), grouped(tests))
    formatter = make_formatter(base.gguf, template)
    command = _command(out, model, template, datasets, targets, tests, given)
    entries, aims, longest = _checked(command, objectives, formatter)
    notes += settings_unused(given, [*entries, *aims])
    train: dict[str, Any] = {}
    most = base.config.exact_length
    if longest > most:
        notes.append(f"rows of up to {longest} tokens do not fit {base.name}, which reads {most}")
    if min(longest, most) > Train.max_length:
        limit = min(longest, most)
        train = {"batch_tokens": limit, "max_length": limit}
        notes.append(
            f"the longest row has {longest} tokens: max_length and batch_tokens are raised"
        )
    names = _names([entry.files[0].stem for entry in entries])
    mapped = written_fields(
        [
            *(
                ("datasets", name, entry.mapping)
                for name, entry in zip(names, entries, strict=True)
            ),
            *(("targets", o["name"], aim.mapping) for o, aim in zip(objectives, aims, strict=True)),
        ]
    )
    rows: list[dict[str, Any]] = [
        {"name": name, "path": _one(entry.files), "licence": "", **entry.file_fields, **own}
        for name, entry, own in zip(names, entries, mapped, strict=False)
    ]
    objectives = [
        {
            **o,
            "dev": _one(aim.files),
            **({"test": _one(aim.test)} if aim.test else {}),
            **aim.file_fields,
            **own,
        }
        for o, aim, own in zip(objectives, aims, mapped[len(rows) :], strict=True)
    ]
    folder = out.absolute().parent
    rows, objectives = _seen_from(folder, rows), _seen_from(folder, objectives)
    _check_names([v for e in (*rows, *objectives) for key in _FILES for v in [e.get(key, "")]])
    named = any((root / model).is_dir() for root in model_folders(out))
    text = recipe_text(
        {
            "base": {"model": model if named else base.path.absolute(), "template": template},
            "train": train,
        },
        {"datasets": rows, "targets": objectives},
    )
    write_text(out, text)
    every = [*entries, *aims]
    outside = _outside(folder, [file for entry in every for file in (*entry.files, *entry.test)])
    questions = [question for entry in every for question in entry.questions]
    if not questions:
        load_recipe(out, [*outside, *given.roots])
    notes += [note for entry in every for note in entry.notes]
    open_lines = [
        f"line {number}: {line}"
        for number, line in enumerate(text.split("\n"), 1)
        if questions and _OPEN.match(line)
    ]
    asked = tuple(dict.fromkeys(questions))
    lines = tuple(answer_lines(command, every))
    return Started(out, tuple(notes), tuple(outside), asked, tuple(open_lines), lines)


def _command(
    out: Path, model: str, template: str, datasets: Sequence[Path],
    targets: Sequence[Path], tests: Sequence[Path], given: Given,
) -> Command:  # fmt: skip
    """Return the call of `m2m init` with these arguments of `start_recipe`."""
    files = [("", path) for path in datasets]
    files += [("--target", path) for path in targets] + [("--test", path) for path in tests]
    rest = ["--template", template] if template != "chat" else []
    rest += ["--out", str(out)] if out != Path("recipe.toml") else []
    return Command(("m2m", "init", "--model", model, "--data"), (*files,), (*rest,), given)


def _one(files: Sequence[Path]) -> Path | list[Path]:
    return files[0] if len(files) == 1 else [*files]


def _outside(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Return the folders of the files that a recipe in `folder` reaches only with `--data-root`."""
    folders: dict[Path, None] = {}
    for path in files:
        try:
            refuse_outside(path, folder, [*folders])
        except InputError:
            folders[path.resolve().parent] = None
            folders[path.absolute().parent] = None
    return [*folders]


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
    names = _names(_aim(files[0]) for files in targets)
    for number, (dev, name) in enumerate(zip(targets, names, strict=True)):
        objectives.append({"name": name, "dev": dev})
        near = tuple(file.with_name(file.name.replace("dev", "test", 1)) for file in dev)
        if number < len(tests):
            objectives[-1]["test"] = tests[number]
        elif near != dev and all(file.is_file() for file in near):
            objectives[-1]["test"] = near
            listed = ", ".join(map(str, near))
            notes.append(f"using {listed} as test questions for {name}")
        else:
            notes.append(f"no test questions for {name}: the result will be unverified")
    return objectives, notes


def _checked(
    command: Command, objectives: Sequence[dict[str, Any]], formatter: Formatter
) -> tuple[list[Entry], list[Entry], int]:
    """Return datasets and targets, and the tokens of the longest row that is not a bare text.

    Raises:
        InputError: a file is wrong; the message lists all wrong files.
    """
    failed, longest = [], 0
    entries, aims = [], []
    datasets = [path for option, path in command.files if not option]
    for files in grouped(datasets, command.given.mapping.text):
        try:
            entries.append(dataset_entry(files, command.given))
            rows = [row for row in entries[-1].rows if row.text is None]
            longest = max([longest, *map(len, encode(rows, formatter, 1 << 30, files[0]))])
        except M2MError as error:
            failed.append(Failed(files, error, dataset_entry))
    for objective in objectives:
        read = functools.partial(_target, objective.get("test", ()))
        try:
            aims.append(read(objective["dev"], command.given))
        except M2MError as error:
            failed.append(Failed(objective["dev"], error, read))
    if failed:
        raise refused(command, failed, "no recipe written")
    return entries, aims, longest


def _target(test: tuple[Path, ...], dev: tuple[Path, ...], given: Given) -> Entry:
    return target_entry(dev, test, given)


def _check_names(values: Sequence[Any]) -> None:
    """Raise for file names that a recipe cannot hold (`load_recipe` takes UTF-8, no controls)."""
    refused = [one_line(str(path)) for path in values if _UNNAMED.search(str(path))]
    if refused:
        hint = "rename the file or its folder: without line breaks, in UTF-8"
        raise InputError(f"a recipe cannot hold this name: {', '.join(refused)}", hint)


def _names(stems: Any) -> list[str]:
    """Make names that a recipe takes, all different."""
    names: list[str] = []
    for stem in stems:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip("._-") or "data"
        name, number = plain, 2
        while name.lower() in {known.lower() for known in names}:
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return names


def _aim(path: Path) -> str:
    """Name a target after its file, or after its folder if the file is only called "dev"."""
    return path.absolute().parent.name if path.stem in ("dev", "val", "valid") else path.stem


def _seen_from(folder: Path, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            key: _relative(value, folder)
            if isinstance(value, Path)
            else [_relative(file, folder) for file in value]
            if isinstance(value, list) and value and isinstance(value[0], Path)
            else value
            for key, value in e.items()
        }
        for e in entries
    ]


def _relative(path: Path, folder: Path) -> Path:
    """Return the path from `folder`, or the absolute path if there is none (another drive)."""
    try:
        return Path(os.path.relpath(path, folder))
    except ValueError:
        return path.absolute()
