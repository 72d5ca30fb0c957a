"""Split dev and test questions off a dataset, and shuffle its answers for a control.

Rows with the same question, or nearly the same text, stay on one side: a question that was trained
on measures memory. Files of the user are never changed; `m2m init` writes new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2m.commands.data_check import repeats
from m2m.commands.given import FileSettings
from m2m.commands.init_rows import Entry, target_entry
from m2m.counted import counted
from m2m.dataset import Row
from m2m.dataset.checked import Checked, DatasetFile
from m2m.dataset.duplicates import near_groups
from m2m.dataset.examples import facet
from m2m.dataset.grams import comparable
from m2m.dataset.mapping import RowMapping
from m2m.dataset.noise import closed_set
from m2m.errors import InputError, M2MError
from m2m.evaluate.tasks import Task
from m2m.pipeline.leaks import Asked

LEAST = 30  # different questions of which some can be held back
ENOUGH_DEV, ENOUGH_TEST = 100, 200  # docs/own-language.md: the error of an accuracy is then 0.05
_DEV, _TEST = (10, 150), (5, 300)  # one question in so many, and the most

Question = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """Questions that were split off a dataset.

    Attributes:
        dev, test: rows of the new files.
        mapping: how these rows are read.
        held: lines of the dataset from which they come.
        words: how the answers are judged, for people.
    """

    dev: Sequence[Question]
    test: Sequence[Question]
    mapping: RowMapping
    held: Set[int]
    words: str


def split_off(entry: Entry, seed: int) -> Split:
    """Draw dev and test questions from a dataset; `seed` is of the draw.

    Raises:
        InputError: it has too few different questions.
    """
    file = _file_of(entry)
    questions, words = _questions(entry, file, _as_target(entry))
    groups = _groups(file, questions)
    total = len({key for group in groups for key in group})
    if total < LEAST:
        raise InputError(
            f"{entry.files[0]}: {counted(total, 'different question')}, too few to hold some back "
            f"as dev and test questions (at least {LEAST})",
            "write questions with answers into a file and name it with `--target FILE`",
        )
    rng = np.random.default_rng(seed)
    order = iter([groups[place] for place in rng.permutation(len(groups))])
    parts: list[list[Question]] = []
    held: set[int] = set()
    for share, most in (_TEST, _DEV):
        wanted, rows = min(total // share, most), list[Question]()
        for group in order:
            rows += [question for question, _ in group.values()]
            held |= {line for _, lines in group.values() for line in lines}
            if len(rows) >= wanted:
                break
        parts.append(rows)
    test, dev = parts
    return Split(dev, test, _mapping([*dev, *test]), held, words)


def _file_of(entry: Entry) -> DatasetFile:
    source, read = entry.source, entry.read
    if source is None or read is None:
        raise AssertionError("a dataset has rows")
    return DatasetFile(Checked(entry.files[0]), lambda: (source, read))


def _as_target(entry: Entry) -> Task | None:
    """Return the questions of a dataset whose rows have choices; None if they have none."""
    if len(entry.files) > 1:
        return None
    try:
        given = FileSettings(entry.mapping, entry.options, alone=True)
        task = target_entry(entry.files, (), given).task
    except M2MError:
        return None
    return task if task and task.kind in ("choices", "labels") else None


def _questions(
    entry: Entry, file: DatasetFile, as_target: Task | None
) -> tuple[list[Question | None], str]:
    """Return each row as a question of a target, None if it is none, and how it is judged."""
    if as_target is not None:
        by_line: dict[int, Question] = {
            one.line: {
                "question": one.prompt, "choices": [*one.choices], "answer": one.gold,
                **({"system": one.system} if one.system else {}),
                **({"facet": one.facet} if one.facet else {}),
            }
            for one in as_target.examples
        }  # fmt: skip
        return [by_line.get(row.line) for row in file.rows], "the right choice is the likeliest"
    records = entry.read.records if entry.read else ()
    facets = {record.line: facet(record.fields) for record in records}
    asked = [_asked(row) for row in file.rows]
    if len({one["answer"] for one in asked if one}) == 1:
        raise InputError(
            f"{entry.files[0]}: all rows have the same answer, so no question can be made of them",
            "name questions with answers as `--target FILE`, or another dataset as `--split FILE`",
        )
    if file.rows and file.rows[0].text is not None:
        texts = [None if row.text is None else {"text": row.text} for row in file.rows]
        return [*texts], "the model predicts the texts"
    labels = sorted(closed_set([one["answer"] for one in asked if one]))
    several = len(labels) > 1
    for one, row in zip(asked, file.rows, strict=True):
        if one and several:
            answer = labels.index(one.pop("answer"))
            one |= {"question": one.pop("prompt"), "choices": labels, "answer": answer}
        if one and (kind := facets.get(row.line)):
            one["facet"] = kind
    words = f"the right one of {counted(len(labels), 'label')} is the likeliest"
    return asked, words if several else "the right answer is likelier than answers of other rows"


def _asked(row: Row) -> Question | None:
    """Return the question of a conversation and its first answer; None if it has none."""
    turns = [*(row.messages or ())]
    head = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else ""
    if [turn["role"] for turn in turns[:2]] != ["user", "assistant"] or row.tools:
        return None
    question, answer = (str(turn["content"]) for turn in turns[:2])
    if not (question.strip() and answer.strip()) or turns[1].get("weight") == 0:
        return None
    system = {"system": str(head)} if head else {}
    return {"prompt": question, "answer": answer, **system}


def _groups(
    file: DatasetFile, questions: Sequence[Question | None]
) -> list[dict[str, tuple[Question, list[int]]]]:
    """Return the questions of rows that are alike, by their text, each with all its lines.

    A group is left out if one of its rows is no question, or if one question has two right labels.
    """
    near = near_groups(file.texts).tolist()
    keys = [question or text for question, text in zip(file.questions, file.texts, strict=True)]
    parents: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        while parents.setdefault(node, node) != node:
            node = parents[node]
        return node

    for key, group in zip(keys, near, strict=True):
        parents[root(key)] = root(group)
    found: dict[Any, dict[str, tuple[Question, list[int]]]] = {}
    unfit = set[Any]()
    for place, (key, question) in enumerate(zip(keys, questions, strict=True)):
        group = root(key)
        known = found.setdefault(group, {})
        if question is None:
            unfit.add(group)
        elif key not in known:
            known[key] = (question, [file.rows[place].line])
        else:
            known[key][1].append(file.rows[place].line)
            if not _joined(known[key][0], question):
                unfit.add(group)
    return [members for group, members in found.items() if group not in unfit]


def _joined(kept: Question, other: Question) -> bool:
    """Add another right answer to a question; False if it has choices, and another is right."""
    if "choices" in kept:
        places = (kept["choices"][kept["answer"]], other["choices"][other["answer"]])
        return comparable(places[0]) == comparable(places[1])
    if "answer" in kept:
        answers = kept["answer"] if isinstance(kept["answer"], list) else [kept["answer"]]
        if comparable(other["answer"]) not in map(comparable, answers):
            kept["answer"] = [*answers, other["answer"]]
    return True


def _mapping(rows: Sequence[Question]) -> RowMapping:
    """Return the settings that the new rows need in addition to their columns."""
    system = "{system?}" if any("system" in row for row in rows) else ""
    answers = "index0" if any("choices" in row for row in rows) else "auto"
    return RowMapping(system=system, answers=answers)


def leaked_lines(entry: Entry, asked: Sequence[Asked]) -> set[int]:
    """Return the lines of a dataset's rows that are also questions, exactly or nearly."""
    file = _file_of(entry)
    _, _, leaks = repeats(file, asked)
    return {file.rows[place].line for place in leaks}


def rows_without(entry: Entry, lines: Set[int]) -> list[Mapping[str, Any]]:
    """Return the rows of a dataset with all their columns, without some lines."""
    records = entry.read.records if entry.read else ()
    return [record.fields for record in records if record.line not in lines]


def shuffled(entry: Entry, lines: Set[int], seed: int) -> list[Question]:
    """Return a control: the questions of a dataset with the answers of other rows.

    Args:
        entry: the dataset.
        lines: those that are left out.
        seed: of the order.

    Raises:
        InputError: the rows have no answers, or all have the same.
    """
    rows = [row for row in entry.rows if row.line not in lines and _asked(row)]
    asked = [one for row in rows if (one := _asked(row))]
    if len({one["answer"] for one in asked}) < 2:
        raise InputError(
            f"{entry.files[0]}: a control has the answers of other rows, and these rows have no "
            "answers that differ",
            "leave `--control` out, or name a dataset with questions and answers first",
        )
    order = np.random.default_rng(seed).permutation(len(asked))
    answers = [one["answer"] for one in asked]
    # Each row of a random circle takes the answer of the next, so no row keeps its own.
    taken = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [
        {
            "prompt": one["prompt"], "completion": answers[taken[place]],
            **({"system": one["system"]} if "system" in one else {}),
        }
        for place, one in enumerate(asked)
    ]  # fmt: skip
