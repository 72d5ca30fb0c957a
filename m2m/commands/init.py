"""`m2m init`: write a recipe for a user's files, checked before it is written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.checkpoint import BaseModel, find_model
from m2m.commands.base_choice import advice, proposal
from m2m.commands.init_data import NewFiles, with_control, with_questions, without_asked
from m2m.commands.init_files import Files, Wanted, read_files, unlike
from m2m.commands.init_lines import answer_lines
from m2m.commands.init_rows import Entry, written_fields
from m2m.counted import counted
from m2m.dataset import encode
from m2m.dataset.normal_form import disagreement, form_of
from m2m.errors import InputError
from m2m.escaping import one_line
from m2m.evaluate.normalised import task_texts
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
    """A written recipe, with notes about the choices that m2m made for the user.

    Attributes:
        recipe: the file.
        notes: facts and choices, in sentences.
        roots: folders of files outside the recipe's own folder.
        questions: facts that the user must write into it first.
        open_lines: the lines of the recipe with a ? in their place.
        lines: commands that answer the questions at once.
    """

    recipe: Path
    notes: tuple[str, ...]
    roots: tuple[Path, ...] = ()
    questions: tuple[str, ...] = ()
    open_lines: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def start_recipe(wanted: Wanted, files: Files | None = None) -> Started:
    """Write a recipe, and the files of questions and of a control if they are wanted.

    Args:
        wanted: the recipe.
        files: its files, if they were read already.

    Raises:
        InputError: `out` exists, or a file is wrong; the message lists all wrong files, and the
            hint has the next line to type. Nothing is left behind.
    """
    refuse_existing(wanted.out)
    base, template, notes = _base(wanted, files)
    files = files or read_files(wanted)
    if base is None:
        base, template, notes = _proposed(files)
    wanted, new = files.wanted, NewFiles.beside(wanted.out)
    try:
        return _written(wanted, files, new, (base, template, notes))
    except BaseException:  # Ctrl-C, too: a second call would refuse to overwrite the files
        new.remove()
        raise


def refuse_existing(out: Path) -> None:
    """Raise InputError if the recipe would overwrite a file."""
    if out.exists():
        raise InputError(f"{out} exists", "name another file with `--out`, or move it away")


def texts_of(files: Files) -> list[str]:
    """Return texts of all datasets in turn, for the tokens per word."""
    rows = [entry.rows for entry in files.entries]
    most = max((min(len(each), 1000) for each in rows), default=0)
    return [each[i].plain_text for i in range(most) for each in rows if i < len(each)]


def _base(wanted: Wanted, files: Files | None) -> tuple[BaseModel | None, str, list[str]]:
    """Return the base that the user named, before anything is read."""
    if not wanted.model:
        return None, wanted.template, []
    base = find_model(wanted.model, model_folders(wanted.out))
    return (base, *_template(wanted.template, base))


def _proposed(files: Files) -> tuple[BaseModel, str, list[str]]:
    """Return the base that fits the data best, and how it was chosen."""
    wanted = files.wanted
    first, *others = proposal(texts_of(files), model_folders(wanted.out))
    base = BaseModel.open(first.path)
    template, notes = _template(wanted.template, base)
    more = f"; others: {'; '.join(one.sentence for one in others)}" if others else ""
    notes.insert(0, f"the base is {first.sentence} (`--model NAME` takes another{more})")
    return base, template, [*notes, *advice(first)]


def _template(template: str, base: BaseModel) -> tuple[str, list[str]]:
    if template != "auto":
        return template, []
    if isinstance(base.gguf.value("tokenizer.chat_template"), str):
        return "chat", []
    return "plain", [f'{base.name} has no chat template, so template = "plain"']


def _written(
    wanted: Wanted, files: Files, new: NewFiles, chosen: tuple[BaseModel, str, list[str]]
) -> Started:
    base, template, notes = chosen
    formatter = make_formatter(base.gguf, template)
    names = unlike(entry.files[0].stem for entry in files.entries)
    datasets = before = dict(zip(names, files.entries, strict=True))
    if files.aims:
        datasets = without_asked(files, datasets, new)
    else:
        datasets = with_questions(wanted, files, datasets, new)
    if wanted.control:
        datasets = with_control(wanted, datasets, new, before)
    every = [*datasets.values(), *files.aims]
    train, long = _lengths([*datasets.values()], formatter, base)
    lists = _lists(wanted.out, datasets, files, new.remarks)
    named = any((root / wanted.model).is_dir() for root in model_folders(wanted.out))
    model = wanted.model if wanted.model and named else _name(base, wanted.out)
    written = _two_forms(datasets, files.aims)
    sections = {"base": {"model": model, "template": template}, "train": train}
    if written:
        sections["data"] = {"normalise": "NFC"}
        long.append(f'{written} So the recipe has normalise = "NFC"')
    text = recipe_text(sections, lists, full=wanted.full)
    write_text(wanted.out, text)
    questions = [question for entry in every for question in entry.questions]
    outside = _outside(
        wanted.out.absolute().parent, [file for e in every for file in (*e.files, *e.test)]
    )
    if not questions:
        load_recipe(wanted.out, [*outside, *wanted.given.roots])
    read = [note for entry in (*files.entries, *files.aims) for note in entry.notes]
    open_lines = [
        f"line {number}: {line}"
        for number, line in enumerate(text.split("\n"), 1)
        if questions and _OPEN.match(line)
    ]
    return Started(
        wanted.out,
        (*notes, *files.notes, *new.notes, *long, *read),
        tuple(outside),
        tuple(dict.fromkeys(questions)),
        tuple(open_lines),
        tuple(answer_lines(wanted.command, every)),
    )


def _name(base: BaseModel, out: Path) -> str | Path:
    """Return the name of a base that a recipe finds, or its folder."""
    if any((root / base.path.name) == base.path for root in model_folders(out)):
        return base.path.name
    return base.path.absolute()


def _lengths(
    entries: Sequence[Entry], formatter: Formatter, base: BaseModel
) -> tuple[dict[str, Any], list[str]]:
    """Return settings of `[train]` with which the longest row fits, and notes about it."""
    longest = 0
    for entry in entries:
        rows = [row for row in entry.rows if row.text is None]
        longest = max([longest, *map(len, encode(rows, formatter, 1 << 30, entry.files[0]))])
    most, notes = base.config.exact_length, []
    if longest > most:
        many = f"rows of up to {counted(longest, 'token')}"
        notes.append(f"{many} do not fit {base.name}, which reads {most}")
    if min(longest, most) <= Train.max_length:
        return {}, notes
    longest_row = f"the longest row has {counted(longest, 'token')}"
    notes.append(f"{longest_row}: max_length and batch_tokens are raised")
    limit = min(longest, most)
    return {"batch_tokens": limit, "max_length": limit}, notes


def _two_forms(datasets: Mapping[str, Entry], aims: Sequence[Entry]) -> str:
    """Say if the files write the same letters in different Unicode normal forms; else ""."""
    forms = {name: form_of(row.plain_text for row in own.rows) for name, own in datasets.items()}
    for aim in aims:
        for part, task in (("dev", aim.task), ("test", aim.test_task)):
            forms |= {f"{aim.files[0].name} ({part})": form_of(task_texts(task))} if task else {}
    return disagreement(forms)


def _lists(
    out: Path, datasets: Mapping[str, Entry], files: Files, remarks: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the fields of the recipe's datasets and targets.

    Raises:
        InputError: a recipe cannot hold the name of a file.
    """
    aims = [*zip(files.objectives, files.aims, strict=True)]
    mapped = written_fields(
        [
            *(("datasets", name, entry.mapping) for name, entry in datasets.items()),
            *(("targets", objective["name"], aim.mapping) for objective, aim in aims),
        ]
    )
    own = iter(mapped)
    rows = [
        {"name": name, "path": _one(entry.files), "licence": "", **entry.file_fields, **next(own),
         **({"notes": remarks[name], "control": True} if name in remarks else {})}
        for name, entry in datasets.items()
    ]  # fmt: skip
    objectives = [
        {**objective, "dev": _one(aim.files), **({"test": _one(aim.test)} if aim.test else {}),
         **aim.file_fields, **next(own)}
        for objective, aim in aims
    ]  # fmt: skip
    folder = out.absolute().parent
    rows, objectives = _seen_from(folder, rows), _seen_from(folder, objectives)
    _check_names([v for e in (*rows, *objectives) for key in _FILES for v in [e.get(key, "")]])
    return {"datasets": rows, "targets": objectives}


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


def _check_names(values: Sequence[Any]) -> None:
    """Raise for file names that a recipe cannot hold (`load_recipe` takes UTF-8, no controls)."""
    refused = [one_line(str(path)) for path in values if _UNNAMED.search(str(path))]
    if refused:
        hint = "rename the file or its folder: without line breaks, in UTF-8"
        raise InputError(f"a recipe cannot hold this name: {', '.join(refused)}", hint)


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
