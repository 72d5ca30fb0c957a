"""Find rows of the datasets that are also dev or test questions, before anything is trained.

A row of a dataset is a leak if it asks a dev or test question, or contains one of five or more
words. It may contain a shorter one ("Ni nini hii?") by chance, so it is a leak only if it also
contains the right answer; questions of one word do not count. Without the words that an instruction
repeats on every row, the same words may ask something else ("Translate to Swahili: water",
"Translate to Hausa: water"). In that case the row is a leak only if it also contains the right
answer. Texts are compared by the rule for all texts (`m2m.dataset.sameness`). `m2m data check` also
lists rows that are only nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.dataset import Row, load_dataset
from m2m.dataset.checked import SHOWN, in_rows
from m2m.dataset.duplicates import holding
from m2m.dataset.grams import comparable, head_and_tail, joined, unframed, without_frame
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import open_source, options_of
from m2m.errors import UNSURE, WORTHLESS, InputError, Problems, WarningText
from m2m.evaluate.same import question_keys
from m2m.evaluate.targets import untested
from m2m.evaluate.tasks import Task
from m2m.formats.atomic import write_json
from m2m.formats.json_values import as_list, as_text, as_whole, as_wholes
from m2m.formats.records import read_object
from m2m.pipeline.inputs import REPLAY, Inputs, replay_file
from m2m.store import fingerprint

STOPS = "`m2m run` stops at these rows, unless `--allow-leaks` is added."
_SHOW = 20_000  # rows that show the words of an instruction; of more than twice as many, some
_TOGETHER = 5_000  # rows that are compared at once
_LONG = 5  # words of a question that no other text contains by chance


@dataclass(frozen=True)
class Leak:
    """A dataset's rows that are also dev or test questions; `lines` has the first line numbers."""

    dataset: str
    rows: int
    lines: tuple[int, ...]

    @property
    def where(self) -> str:
        """Say it in words: "3 rows of pc (lines 4, 7, 9)"."""
        more = ", ..." if self.rows > len(self.lines) else ""
        many = "s" if self.rows > 1 else ""
        lines = ", ".join(map(str, self.lines))
        return f"{in_rows(self.rows)} of {self.dataset} (line{many} {lines}{more})"

    @property
    def warning(self) -> str:
        """Return the whole warning, with the next step."""
        are = (
            "is also a dev or test question" if self.rows == 1 else "are also dev or test questions"
        )
        them = "it" if self.rows == 1 else "them"
        return WarningText(
            f"{self.where} {are}. The model has seen the answer, so its score is too high. "
            f"Delete {them}.",
            WORTHLESS,
        )


class Asked:
    """A target's questions (as a `whole` or `bare` of its frame), in the form of `comparable`."""

    def __init__(self, task: Task) -> None:
        examples = task.examples
        asked = without_frame([example.prompt for example in examples])
        right = [example.answer for example in examples]
        answers = [comparable(answer) for answer in right]
        self.whole: dict[str, set[str]] = {}
        self.bare: dict[str, set[str]] = {}
        for example, question, answer in zip(
            examples, map(comparable, asked), answers, strict=True
        ):
            # A text has no question: training should not have seen the text itself.
            if whole := comparable(example.prompt or example.answer):
                self.whole.setdefault(whole, set()).add(answer)
            if question:
                self.bare.setdefault(question, set()).add(answer)
        self.texts = [joined(comparable(a), b) for a, b in zip(asked, answers, strict=True)]


@dataclass(frozen=True)
class Asking:
    """The rows of a dataset in the form of `comparable`; `bare` are prompts without their frame."""

    texts: Sequence[str]
    prompts: Sequence[str]
    bare: Sequence[str]

    @classmethod
    def blocks(
        cls, rows: Sequence[Row], without: Set[int] = frozenset()
    ) -> Iterator[tuple[list[int], Asking]]:
        """Yield places and texts of the other rows, some at once: a large file would not fit."""
        step = max(1, len(rows) // _SHOW)
        some_rows = zip(range(0, len(rows), step), rows[::step], strict=True)
        shared = head_and_tail([row.sides[0] for i, row in some_rows if i not in without])
        waiting = ((i, row) for i, row in enumerate(rows) if i not in without)
        while some := [*islice(waiting, _TOGETHER)]:
            prompts = [row.sides[0] for _, row in some]
            parts = [row.plain_text for _, row in some], prompts, unframed(prompts, shared)
            texts = ([comparable(text) for text in part] for part in parts)
            yield [i for i, _ in some], cls(*texts)


def leaked(rows: Asking, targets: Sequence[Asked]) -> set[int]:
    """Return the indices of rows that contain or ask a target's question; see the module."""
    texts, places = rows.texts, set()
    own = [*enumerate(rows.bare)]
    for target in targets:
        pairs = enumerate(zip(texts, rows.prompts, strict=True))
        places |= {i for i, both in pairs if not target.whole.keys().isdisjoint(both)}
        for i, question in holding(texts, target.whole):
            is_long = question.count(" ") > _LONG  # one more than its words
            if is_long or _answers(texts[i], question, target.whole[question]):
                places.add(i)
        for i, question in [*holding(texts, target.bare), *own]:
            if _answers(texts[i], question, target.bare.get(question, ())):
                places.add(i)
    return places


def all_leaked(
    rows: Sequence[Row], targets: Sequence[Asked], known: Set[int] = frozenset()
) -> list[int]:
    """Return the places of rows that leak, until the rows without them have no leak.

    The words that frame most questions may be others once some rows are gone.
    """
    held = {*known}
    while found := {
        places[i] for places, block in Asking.blocks(rows, {*held}) for i in leaked(block, targets)
    }:
        held |= found
    return sorted(held)


def _answers(text: str, question: str, answers: Iterable[str]) -> bool:
    """Return whether a text that holds a question also holds a right answer apart from it."""
    rest = text.replace(question, " ", 1)
    return any(answer in rest for answer in answers)


def find_leaks(inputs: Inputs) -> list[Leak]:
    """Find the leaks of the datasets with experts, and of the rows that all experts replay.

    The result is kept in the run's folder, and used again while rows and questions are unchanged.
    """
    names, stored = inputs.usable_names, inputs.files.leaks
    tasks = [*inputs.dev.values(), *inputs.test.values()]
    datasets = {entry.name: entry for entry in inputs.recipe.with_rows if entry.name in names}
    corpora = {name: inputs.corpora[name] for name in datasets}
    if inputs.replay is not None:
        datasets |= {entry.name: entry for entry in replay_file(inputs.recipe)}
        corpora[REPLAY] = inputs.replay
    marks = {name: corpus.fingerprint for name, corpus in corpora.items()}
    asked = [Asked(task) for task in tasks]
    questions = [
        [{q: sorted(a) for q, a in part.items()} for part in (target.whole, target.bare)]
        for target in asked
    ]
    key = fingerprint(rule=4, datasets=marks, asked=questions)
    kept: dict[str, Any] = read_object(stored) if stored.is_file() else {}
    if kept.get("key") == key:
        with suppress(KeyError, TypeError, ValueError):  # somebody changed the file: search again
            return [_kept(entry) for entry in as_list(kept["leaks"], "leaks", (dict,))]
    leaks = []
    for name, entry in datasets.items():  # one at a time: a file may be large
        source = open_source(entry.files, corpora[name].sha256, options_of(entry))
        if leak := _leak(name, load_dataset(source, RowMapping.of(entry)), asked):
            leaks.append(leak)
    write_json(stored, {"key": key, "leaks": [vars(leak) for leak in leaks]})
    return leaks


def _kept(data: dict[str, Any]) -> Leak:
    """Read a leak that an earlier search found."""
    lines = as_wholes(data["lines"], "lines")
    return Leak(as_text(data["dataset"], "dataset"), as_whole(data["rows"], "rows"), tuple(lines))


def _leak(name: str, rows: Sequence[Row], asked: Sequence[Asked]) -> Leak | None:
    held = all_leaked(rows, asked)
    return Leak(name, len(held), tuple(rows[i].line for i in held[:SHOWN])) if held else None


def refuse_leaks(leaks: Sequence[Leak], recipe: Path) -> None:
    """Raise InputError with the lines of all leaks, before anything is trained."""
    problems = Problems()
    for leak in leaks:
        problems.add(leak.where)
    problems.raise_if_any(
        InputError,
        "rows that are also dev or test questions (the model would see the answers)",
        f"`m2m data clean {recipe} --out clean` writes copies without these rows (`m2m data check` "
        "lists them); or add `--allow-leaks` to go on all the same",
    )


def shared(inputs: Inputs) -> dict[str, int]:
    """Return, by target, how many of its test questions are also dev questions of any target."""
    dev = {key for task in inputs.dev.values() for key in question_keys(task)}
    counts = {
        name: sum(key in dev for key in question_keys(task)) for name, task in inputs.test.items()
    }
    return {name: count for name, count in counts.items() if count}


def shared_warnings(inputs: Inputs) -> list[str]:
    """Return a warning for each target whose test set shares questions with a dev set."""
    return [
        WarningText(
            f"{count} of {counted(len(inputs.test[name].examples), 'test question')} of {name} are "
            "also dev questions, which helped to choose the winner. Replace them.",
            UNSURE,
        )
        for name, count in shared(inputs).items()
    ]


def target_warnings(inputs: Inputs) -> list[str]:
    """Return `shared_warnings`, and a warning for each target without a test set."""
    missing = [untested(name) for name in inputs.dev if name not in inputs.test]
    remedy = "Write other questions than those of dev, and name the file as `test` of the target."
    return [*(f"{words}. {remedy}" for words in missing), *shared_warnings(inputs)]
