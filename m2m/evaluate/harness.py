"""Read task files of lm-evaluation-harness and ask their rows as it does, to the letter.

The keys are read in `task_config`, the rows in `task_data`, and `task_docs` makes questions of
them. This module puts the solved examples before each question and makes a `Task` of it all
(ConfigurableTask.fewshot_context and construct_requests in lm_eval/api/task.py). No code of a task
is ever run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from m2m.counted import are, counted
from m2m.dataset.examples import Example, Kind, facet
from m2m.errors import InputError, Problems
from m2m.evaluate.json_types import about_moments
from m2m.evaluate.prompts import Form
from m2m.evaluate.task_config import Config, read_config
from m2m.evaluate.task_data import TaskData, TaskRows
from m2m.evaluate.task_docs import Doc, TaskDocs, turn
from m2m.evaluate.task_files import TaskFiles
from m2m.evaluate.task_functions import TaskFunctions
from m2m.evaluate.task_groups import Member
from m2m.evaluate.tasks import Task, assembled
from m2m.store import fingerprint

SUFFIXES = (".yaml", ".yml")
SEED = 1234  # of the harness's draw of solved examples (lm_eval/defaults.py), at `shots_seed` 0
_MOST_TEXT = 1 << 28  # characters of the examples of a split; up to 1 GiB of memory
_ROWS = "correct these rows, or write the key anew in a child file: `{{FIELD | default('')}}`"
Side = Literal["dev", "test"]
_KINDS: dict[str, Kind] = {
    "multiple_choice": "choices",
    "generate_until": "answer",
    "loglikelihood": "answer",
    "loglikelihood_rolling": "text",
}


def load_harness(
    path: Path | Member, part: Side, seed: int = 0, roots: Sequence[Path] = (), shots: int = 0
) -> Task:
    """Return a task file's examples, and the form in which the harness would ask them.

    Args:
        path: the YAML file, or a task of a group; the files that a file names are relative to its
            folder.
        part: "dev" takes the validation split and "test" the test split, if the file has both.
        seed: draws other solved examples; 0 draws the harness's own.
        roots: folders, besides its own, in which it may name files and in which its data may be.
        shots: number of solved examples, if the file leaves it open.

    Raises:
        InputError: unreadable, or more than the supported part; the message lists all problems.
    """
    member = path if isinstance(path, Member) else Member("", Path(path))
    path, files = member.path, TaskFiles(member.path, roots)
    own = files.config()
    config = read_config(path, {**({} if member.alone else own), **member.changes})
    if config.shots is not None and shots not in (0, config.shots):
        raise InputError(
            f"{path}: num_fewshot is {config.shots}, and shots = {shots} is asked for",
            "leave one of them out",
        )
    if (config.shots or 0) < 0:
        raise InputError(f"{path}: num_fewshot is {config.shots}, below 0", "write 0")
    config = replace(config, shots=config.shots or shots)
    functions = TaskFunctions(files)
    task = _Loader(config, TaskDocs(config, TaskData(files, config.keys, roots), functions), part)
    examples, pool = task.examples(seed)
    judge = config.keys.get("process_results")
    sizes = functions.sizes(judge, [e.fields for e in examples]) if judge else None
    marks = [mark for rows in task.read for mark in rows.marks]
    # Use the merged keys, so that an included file's keys count as if they were written here.
    plain = json.loads(json.dumps(dict(config.keys), default=str))
    modules = functions.marks()
    moments = [name for rows in task.read for name in rows.moments]
    noted = about_moments(moments, str(plain) + str(modules))
    config = replace(config, notes=(*config.notes, *noted))
    mark = fingerprint(task=plain, rows=marks, **({"modules": modules} if modules else {}))
    form = Form(
        style="raw",
        instruction="" if _is_template(config) else config.keys.get("description") or "",
        shots=config.shots or 0,
        pool=pool,
        seed=None if config.sampler == "first_n" else seed,
        delimiter="" if config.kind == "loglikelihood" else config.asked.delimiter,
        separator=config.asked.separator,
        stop=config.stop,
        max_tokens=config.longest,
    )
    if config.kind == "loglikelihood_rolling":
        form = Form()
    made = Task(
        _KINDS[config.kind],
        tuple(examples),
        path,
        mark,
        form,
        sha256=files.sha256,
        harness=config,
        sizes=sizes,
    )
    return assembled(made)


def reframed(task: Task) -> Task:
    """Return a task file's task in parts, to be asked in another form than the harness's.

    Raises:
        InputError: only the harness's own form can ask it.
    """
    prefix = task.harness.asked.prefix if task.harness else None
    if any(len(example.contexts) > 1 for example in task.examples):
        raise InputError(
            f"{task.path}: the choices of this task are inside its questions",
            "leave template, instruction, answer_prefix and answer_suffix out",
        )
    if prefix and ("{" in prefix or any(prefix in e.fields for e in task.examples)):
        raise InputError(
            f"{task.path}: `gen_prefix` differs from row to row",
            "leave template, instruction, answer_prefix and answer_suffix out",
        )
    examples = tuple(replace(example, contexts=()) for example in task.examples)
    return replace(task, examples=examples, form=replace(task.form, prefix=prefix or ""))


def _is_template(config: Config) -> bool:
    return "{" in str(config.keys.get("description") or "")


class _Loader:
    """Makes the examples of one task."""

    def __init__(self, config: Config, docs: TaskDocs, part: Side) -> None:
        self._config, self._docs = config, docs
        keys = config.keys
        order = ("test_split", "validation_split")
        names = [keys[key] for key in (order if part == "test" else order[::-1]) if keys.get(key)]
        if not names:
            raise InputError(
                f"{config.path}: has neither `test_split` nor `validation_split`", "name one"
            )
        self._split = names[0]
        # The split with which the harness compares the solved examples' one.
        self._tested = keys.get("test_split") if part == "test" else names[0]
        self.read: list[TaskRows] = []
        self._lists = False  # whether the first row has a list of answers

    def examples(self, seed: int) -> tuple[list[Example], tuple[Example, ...]]:
        """Return the examples, and those from which solved ones are drawn.

        Raises:
            InputError: lists all rows that do not fit, with their lines.
        """
        config = self._config
        rows = self._docs.rows(self._split, config.keys.get("process_docs"))
        self.read.append(rows)
        docs = self._docs.docs(rows, config.asked, rows.columns, head=True)
        self._lists = isinstance(docs[0].target, list)
        inside = isinstance(docs[0].text, int) and config.asked.choice is not None
        pool = self._pool(rows, docs, inside)
        drawn = self._drawn(docs, pool, seed)
        problems, hints, examples, size = Problems(), list[str](), list[Example](), 0
        for doc in docs:
            before = next(drawn)
            try:
                examples.append(self._example(doc, before, inside))
            except InputError as error:
                problems.add(f"line {doc.line}: {error.message}")
                hints += filter(None, [error.hint])
                continue
            last = examples[-1]
            size += sum(map(len, last.contexts)) + sum(len(text) + 50 for text in last.choices)
            if size > _MOST_TEXT:
                raise InputError(
                    f"{rows.files[0]}:{doc.line}: up to this row the templates of {config.path} "
                    f"write more than {_MOST_TEXT:,} characters",
                    "correct the templates, or keep a part of the rows",
                )
        problems.raise_if_any(InputError, rows.name, next(iter(hints), _ROWS))
        return examples, tuple(example for _, _, example in pool)

    def _pool(
        self, tested: TaskRows, asked: Sequence[Doc], inside: bool
    ) -> list[tuple[Mapping[str, Any], str, Example]]:
        """Return the rows of solved examples: their fields, their text, and as examples."""
        config = self._config
        if not config.shots:
            return []
        rows = self._solved_rows()
        docs = asked
        if rows is not tested or config.solved != config.asked:
            docs = self._docs.docs(rows, config.solved, tested.columns, head=False)
        problems, pool = Problems(), []
        for doc in docs:
            try:
                question, answer = self._solved(doc, inside)
            except InputError as error:
                problems.add(f"line {doc.line}: {error.message}")
                continue
            side = config.solved
            text = turn(question, answer, doc.prefix, side.delimiter, side.separator)
            pool.append((doc.fields, text, Example(question, (answer or "",), 0, doc.line)))
        problems.raise_if_any(InputError, rows.name, _ROWS)
        return pool

    def _solved_rows(self) -> TaskRows:
        """Return the rows of solved examples (ConfigurableTask.fewshot_docs)."""
        config, keys = self._config, self._config.keys
        shown = keys.get("fewshot_config") or {}
        split = shown.get("split", keys.get("fewshot_split"))
        process = keys.get("process_docs")
        if split is None and config.samples is not None:
            columns = dict.fromkeys(name for row in config.samples for name in row)
            listed = [{name: row.get(name) for name in columns} for row in config.samples]
            return TaskRows(listed, range(1, len(listed) + 1), (config.path,))
        if split is None:
            order = ("training_split", "validation_split", "test_split")
            split = next(keys[key] for key in order if keys.get(key))
        else:
            process = shown.get("process_docs", process)
        rows = self._docs.rows(split, process)
        self.read.append(rows)
        return rows

    def _drawn(
        self,
        docs: Sequence[Doc],
        pool: Sequence[tuple[Mapping[str, Any], str, Example]],
        seed: int,
    ) -> Iterator[str]:
        """Yield the solved examples before each row as one text (lm_eval/api/samplers.py)."""
        config, count = self._config, self._config.shots or 0
        shown = config.keys.get("fewshot_config") or {}
        split = shown.get("split", config.keys.get("fewshot_split"))
        bars_itself = split == self._tested
        rnd = random.Random(SEED + seed)
        few = InputError(
            f"{config.path}: {are(count, 'solved example')} asked for, found "
            f"{counted(len(pool), 'row')}",
            "lower num_fewshot, or name a split with more rows",
        )
        for doc in docs:
            if not count:
                yield ""
                continue
            if config.sampler == "first_n":
                rows = (row for row in pool if not bars_itself or row[0] != doc.fields)
                chosen = [row for row, _ in zip(rows, range(count), strict=False)]
            elif len(pool) < count + bars_itself:
                raise few
            else:
                chosen = rnd.sample(pool, count + bars_itself)
                if bars_itself:
                    chosen = [row for row in chosen if row[0] != doc.fields][:count]
                    if len(chosen) < count:  # rows that are equal
                        others = [row for row in pool if row[0] != doc.fields]
                        chosen = rnd.sample(others, count) if count <= len(others) else chosen
            if len(chosen) < count:
                raise few
            yield "".join(text for _, text, _ in chosen)

    def _solved(self, doc: Doc, inside: bool) -> tuple[str, str | None]:
        """Return the question and the answer of a solved example."""
        _refuse_fault(doc)
        question: Any = doc.text
        if inside:
            question = _chosen(doc.choices, question, "doc_to_text")
        target = doc.target
        is_place = isinstance(target, int) and not inside and doc.choices
        answer = _chosen(doc.choices, target, "doc_to_target") if is_place else target
        answer = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(question, str):
            raise InputError(f"doc_to_text gives {question!r:.40}, expected a text")
        if answer is not None and not isinstance(answer, str):
            raise InputError(f"doc_to_target gives {answer!r:.40}, expected a text")
        return question, answer

    def _example(self, doc: Doc, before: str, inside: bool) -> Example:
        _refuse_fault(doc)
        config = self._config
        above = doc.head + before
        if inside:
            return self._choices_inside(doc, above)
        if not isinstance(doc.text, str):
            raise InputError(f"doc_to_text gives {doc.text!r:.40}, expected a text")
        asked = turn(doc.text, None, doc.prefix, config.asked.delimiter, "")
        about: dict[str, Any] = {
            "facet": facet(doc.fields),
            "system": doc.head if _is_template(config) else "",
            "contexts": (above + asked,),
            "fields": doc.fields,
            "target": doc.target,
        }
        if config.kind == "multiple_choice":
            choices = _choices(doc)
            return Example(doc.text, choices, _gold(doc.target, choices), doc.line, **about)
        answers = self._answers(doc)
        if config.kind == "loglikelihood_rolling":
            if len(answers) > 1:
                raise InputError(f"doc_to_target gives {doc.target!r:.40}, expected a text")
            if not answers[0].strip():
                raise InputError("doc_to_target gives a text without words; delete such rows")
            about = {"facet": facet(doc.fields), "fields": doc.fields, "target": doc.target}
            return Example("", answers[:1], 0, doc.line, **about)
        return Example(doc.text, answers[:1], 0, doc.line, references=answers, **about)

    def _choices_inside(self, doc: Doc, above: str) -> Example:
        """Return an example whose choices are in its questions, before the same answer."""
        config, choices = self._config, _choices(doc)
        if not isinstance(doc.target, str | int | float):
            raise InputError(f"doc_to_target gives {doc.target!r:.40}, expected a text")
        contexts = tuple(above + turn(text, None, doc.prefix, "", "") for text in choices)
        gold = _gold(doc.text, choices)
        return Example(
            choices[gold],
            (str(doc.target),) * len(choices),
            gold,
            doc.line,
            facet(doc.fields),
            system=doc.head if _is_template(config) else "",
            contexts=contexts,
            fields=doc.fields,
            target=doc.target,
        )

    def _answers(self, doc: Doc) -> tuple[str, ...]:
        """Return all right answers of a row without choices."""
        target = doc.target
        if self._config.kind == "generate_until" and self._config.asked.choice is not None:
            return (_chosen(_choices(doc), target, "doc_to_target"),)
        answers = target if isinstance(target, list) else [target]
        if not answers or any(not isinstance(a, str | int | float) for a in answers):
            raise InputError(f"doc_to_target gives {target!r:.40}, expected a text or texts")
        if self._config.kind == "generate_until":
            _refuse_mixed(target, lists=self._lists)
        return tuple(map(str, answers))


def _refuse_mixed(target: Any, *, lists: bool) -> None:
    """Refuse answers that lm-eval compares otherwise than the first row lets one expect."""
    if isinstance(target, list) != lists:
        first = "a list" if lists else "one answer"
        raise InputError(
            f"doc_to_target gives {target!r:.40}, and for the first row {first}: lm-eval reads all "
            "rows as the first one; give a list for each row, or for none"
        )
    if lists and not all(isinstance(answer, str) for answer in target):
        raise InputError(
            f"doc_to_target gives {target!r:.40}, a list of numbers, which no written answer "
            "equals in lm-eval; give texts"
        )


def _refuse_fault(doc: Doc) -> None:
    if doc.fault:
        raise InputError(doc.fault)


def _chosen(choices: Any, place: Any, key: str) -> Any:
    """Return the choice at a place."""
    is_place = isinstance(place, int) and isinstance(choices, list | tuple)
    if not is_place or not 0 <= place < len(choices):
        raise InputError(f"{key} gives {place!r:.40}, expected a place in the choices")
    return choices[place]


def _choices(doc: Doc) -> tuple[str, ...]:
    choices, hint = doc.choices, "give each row two or more, or set `output_type: loglikelihood`"
    if not isinstance(choices, list | tuple) or len(choices) < 2:
        raise InputError(
            f"doc_to_choice gives {choices!r:.40}, expected a list of two or more", hint
        )
    if not all(isinstance(choice, str) and choice for choice in choices):
        hint = "write each choice as a text: 'yes' in quotes (YAML reads true), `{{x | string}}`"
        raise InputError(f"doc_to_choice gives {choices!r:.60}, expected texts", hint)
    return tuple(choices)


def _gold(target: Any, choices: Sequence[str]) -> int:
    """Return the place of the right choice (ConfigurableTask.process_results)."""
    gold = target[0] if isinstance(target, list) and len(target) == 1 else target
    if isinstance(gold, list):
        hint = 'write one, `doc_to_target: "{{FIELD[0]}}"`; lm-eval counts each of them as right'
        raise InputError(f"doc_to_target gives several right choices ({gold!r:.40})", hint)
    if isinstance(gold, str):
        gold = choices.index(gold) if gold in choices else gold
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    if not isinstance(gold, int) or not 0 <= gold < len(choices):
        hint = "write the text of a choice, or its place from 0: `{{CHOICES.index(x)}}`"
        raise InputError(f"doc_to_target gives {target!r:.40}, which is none of the choices", hint)
    return int(gold)
