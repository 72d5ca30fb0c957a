"""`m2m data preview`: the first rows as the model will see them, with the trained part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2m.checkpoint import find_model
from m2m.commands.bare import read_bare
from m2m.commands.init_lines import Command, refused
from m2m.dataset.examples import Example
from m2m.dataset.guess import UNKNOWN
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row import Row
from m2m.dataset.row_source import RowSource, open_source, options_of
from m2m.dataset.rows import Rows, read_rows
from m2m.dataset.samples import sequences_of
from m2m.dataset.unused import unused_columns, unused_words
from m2m.errors import InputError
from m2m.evaluate.prompts import Prompter
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import Task
from m2m.formats.json_fields import JsonFields
from m2m.formats.json_text import json_text
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.recipe import Dataset, Recipe, Target
from m2m.tokenizer import Formatter

ROWS = 5
FIRST = 10_000  # rows of a large file that are looked at, unless the user asks for all


@dataclass(frozen=True)
class Piece(JsonFields):
    """A stretch of a row: trained on (of a target: scored), or only read."""

    text: str
    trained: bool


@dataclass(frozen=True)
class ShownRow(JsonFields):
    """One row as the model sees it.

    Attributes:
        line: in the file.
        pieces: its text in order.
        choices: of a target's row: the answers that compete with the right one.
        problem: why the model cannot see it; "" if it can.
    """

    line: int
    pieces: tuple[Piece, ...]
    choices: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Preview(JsonFields):
    """The first rows of a file.

    Attributes:
        part: "dataset" or "target".
        format: of a dataset its format, of a target its kind.
        reading: how the rows were picked and the answers read; "" if there is only one way.
        rows: of the whole file.
        problems: its faults, each with its line.
        shown: the first rows.
        mapping: of a file without a recipe: how m2m reads it, for a recipe and as options.
        questions: facts that only the user knows.
        lines: commands to choose from that answer a question, or leave out bad rows.
    """

    file: Path
    part: str
    format: str
    reading: str
    rows: int
    problems: tuple[str, ...]
    shown: tuple[ShownRow, ...]
    mapping: str = ""
    questions: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def preview_recipe(recipe: Recipe, count: int = ROWS, *, whole: bool = False) -> list[Preview]:
    """Preview all datasets and targets of a recipe with its model's template."""
    base = find_model(recipe.base.model, model_folders(recipe.path))
    formatter = make_formatter(base.gguf, recipe.base.template)
    shown = [preview_dataset(each, formatter, count, whole=whole) for each in recipe.with_rows]
    for target in recipe.targets:
        shown.append(preview_target(target, formatter, count, recipe.roots))
    return shown


def preview_dataset(
    dataset: Dataset, formatter: Formatter | None, count: int = ROWS, *, whole: bool = False
) -> Preview:
    """Preview a dataset; without a formatter, its texts and not their tokens.

    Only the first rows of a large file are read, unless the whole file is wanted or `where` picks
    rows that may come later.

    Raises:
        InputError: the file cannot be read, or no format or mapping reads its rows.
    """
    source = open_source(
        dataset.files, options=options_of(dataset), first=_first(dataset.where, count, whole)
    )
    return _of_dataset(source, read_rows(source, RowMapping.of(dataset)),
                       RowMapping.of(dataset), formatter, count)  # fmt: skip


def preview_files(
    command: Command, formatter: Formatter | None, count: int = ROWS, *, whole: bool = False
) -> tuple[list[Preview], InputError | None]:
    """Preview files without a recipe, read as `m2m init` reads them.

    Returns:
        A preview of each file, and the error about bad rows among good ones.

    Raises:
        InputError: a file cannot be used; the hint has the next lines to type.
    """
    first = _first(command.given.mapping.where, count, whole)
    found, shown = read_bare(command, first), []
    if broken := [one for bare in found if not bare.is_shown and (one := bare.failed(first))]:
        raise refused(command, broken)
    for bare, entry in ((bare, bare.entry) for bare in found):
        if entry and entry.read and entry.source:
            made = _of_dataset(entry.source, entry.read, entry.mapping, formatter, count)
        elif entry and entry.task:
            made = _of_target(bare.files[0], entry.task, formatter, count)
        else:
            raise AssertionError
        reading = made.reading
        if entry.mapping.answers == UNKNOWN:
            reading = f"not certain, see the question: {reading}"
        shown.append(
            replace(
                made, reading="; ".join(filter(None, (*entry.asides, reading))),
                mapping=bare.mapping, questions=entry.questions, lines=tuple(bare.lines),
            )
        )  # fmt: skip
    bad = [one for bare in found if (one := bare.failed(first))]
    return shown, refused(command, bad) if bad else None


def _first(where: Sequence[Any], count: int, whole: bool) -> int:
    """Return how many rows of a large file are read: all if `where` may pick later ones."""
    return 0 if whole or where else max(FIRST, count)


def _of_dataset(
    source: RowSource, read: Rows, mapping: RowMapping, formatter: Formatter | None, count: int
) -> Preview:
    texts = {row.line: row.plain_text for row in read.rows}
    records = [record for record in source.records if record.line in texts]
    unused = unused_columns(records, mapping, [texts[r.line] for r in records])
    notes = [note for note in (*read.notes, unused_words(unused, records)) if note]
    show: Callable[[Row], ShownRow] = (
        _row if formatter is None else lambda r: _trained(r, formatter)
    )
    return Preview(
        source.path, "dataset", read.format, "; ".join(notes), len(read.rows),
        tuple(read.problems), tuple(show(row) for row in read.rows[:count]),
    )  # fmt: skip


def _row(row: Row) -> ShownRow:
    if row.pieces is not None:
        pieces = [Piece(text, trained) for text, trained in row.pieces]
    elif row.messages is None:
        pieces = [Piece(row.text or "", trained=True)]
    else:
        pieces = []
        for message in row.messages:
            trained = message["role"] == "assistant" and message.get("weight") != 0
            calls = "".join(f" {json_text(call)}" for call in message.get("tool_calls") or ())
            head = "\n" * bool(pieces) + f"{message['role']}: "
            pieces += [Piece(head, trained=False), Piece(f"{message['content']}{calls}", trained)]
    return ShownRow(row.line, tuple(pieces))


def _trained(row: Row, formatter: Formatter) -> ShownRow:
    """Return a row in the template, with all tokens that are added to it."""
    try:
        sequences = sequences_of(row, formatter)
    except InputError as error:
        return ShownRow(row.line, (), problem=error.message)
    decode, pieces = formatter.tokenizer.decode, []
    for number, segments in enumerate(sequences):
        pieces += [Piece("\n", trained=False)] * bool(number)
        pieces += [Piece(decode(segment.ids), segment.trained) for segment in segments]
    return ShownRow(row.line, tuple(pieces))


def preview_target(
    target: Target, formatter: Formatter | None, count: int = ROWS, roots: Sequence[Path] = ()
) -> Preview:
    """Preview the dev set of a target; without a formatter, its texts and not their tokens.

    Raises:
        InputError: the file cannot be read, or its rows have no kind.
    """
    return _of_target(target.dev, load_target(target, "dev", roots), formatter, count)


def _of_target(path: Path, task: Task, formatter: Formatter | None, count: int) -> Preview:
    show = _asker(task, formatter)
    shown = tuple(show(example) for example in task.examples[:count])
    return Preview(path, "target", task.kind, task.reading, len(task.examples), (), shown)


def _asker(task: Task, formatter: Formatter | None) -> Callable[[Example], ShownRow]:
    if formatter is None or task.kind == "text":
        return _example
    prompter, decode = Prompter(task.form, formatter), formatter.tokenizer.decode

    def ask(example: Example) -> ShownRow:
        try:
            request = prompter.request(example)
        except InputError as error:
            return ShownRow(example.line, (), problem=error.message)
        right = decode(request.continuations[example.gold])
        pieces = (Piece(decode(request.prompt), trained=False), Piece(right, trained=True))
        return ShownRow(example.line, pieces, _others(example))

    return ask


def _example(example: Example) -> ShownRow:
    """Return an example without a template."""
    if not example.prompt:
        return ShownRow(example.line, (Piece(example.answer, trained=True),))
    head = f"system: {example.system}\n" if example.system else ""
    question = Piece(f"{head}user: {example.prompt}\nassistant: ", trained=False)
    return ShownRow(example.line, (question, Piece(example.answer, trained=True)), _others(example))


def _others(example: Example) -> tuple[str, ...]:
    """Return the other choices, or the other right answers."""
    right = [text for text in example.references if text != example.answer]
    wrong = [text for place, text in enumerate(example.choices) if place != example.gold]
    return tuple(right or wrong)
