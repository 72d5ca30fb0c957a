"""Turn a recipe's target into a task: its rows, how to read them, and how to ask a model."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.dataset.examples import Example, decided
from m2m.dataset.mapping import RowMapping, picked
from m2m.dataset.plain_text import refuse_no_prose, refuse_parallel
from m2m.dataset.row_source import RowSource, open_source, options_of
from m2m.dataset.sameness import normalize
from m2m.errors import InputError, Problems
from m2m.evaluate.harness import SUFFIXES, Side, load_harness, reframed
from m2m.evaluate.metric import Metric
from m2m.evaluate.metrics import COMPARING, check_metric
from m2m.evaluate.prompts import Form
from m2m.evaluate.same import question_keys
from m2m.evaluate.task_config import GroupFound
from m2m.evaluate.task_groups import Group, Member, read_group
from m2m.evaluate.tasks import Task, has_contrast, load_task
from m2m.opening import universal_newlines
from m2m.recipe import Target
from m2m.recipe.new_recipe import toml_value

Read = Callable[[tuple[Path, ...]], RowSource]  # reads each file once
_MAPPING = ("prompt", "answer", "answers", "choices", "system", "messages", "labels")
_FILE = ("encoding", "header", "quotes", "bad_rows")
_READING = (
    *_MAPPING,
    *_FILE,
    "text",
    "where",
    "test_where",
    "like",
    "shots",
    "shots_from",
    "window",
    "max_tokens",
)
_RENAMED = (
    'metric = "exact_match" is read as answer_match, its new name: exact_match is now the one of '
    "lm-evaluation-harness"
)
# Settings that a text does not use: it has no question and no answer.
_ASKING = (*_MAPPING, "instruction", "shots", "answer_prefix", "answer_suffix")
_MOST = 12  # tasks whose lines are shown
_NAMED = ("name", "dev", "test", "weight", "dev_aligned")


def load_target(
    target: Target, part: Side, roots: Sequence[Path] = (), member: Member | None = None
) -> Task:
    """Return the dev or test set of a target, with the form in which its rows are asked.

    Solved examples never come from the test set, nor from the row that is asked.

    Args:
        target: of a recipe.
        part: "dev" or "test".
        roots: folders, besides its own, in which a task file may name files.
        member: the task of a group that the target's file stands for.

    Raises:
        InputError: the rows or the settings are wrong, or do not fit each other.
    """
    path = _path(target, part)
    if path.suffix.lower() in SUFFIXES:
        own = (target.data_root,) if target.data_root else ()
        return _harness_task(target, part, member or Member("", path), [*own, *roots])
    _refuse_set(target, path, ["data_root"], "is rows, and has no data elsewhere")
    options = options_of(target)
    read = functools.cache(functools.partial(open_source, options=options))
    reading, doubt = _reading(target, read)
    task = load_task(read(target.files(part)), _picking(target, part, reading))
    if doubt and task.answers:
        raise doubt
    if target.answers != "auto" and not task.answers:
        raise InputError(f"{path}: `answers` is for rows with choices", "leave it out")
    metric = metric_of(target, task)
    if target.metric == "exact_match":
        task = replace(task, note=_RENAMED)
    if task.kind == "text":
        return _text_task(target, task, read(target.files(part)).text)
    if target.window:
        raise InputError(f"{path}: window is for texts, these rows have answers", "leave it out")
    task = replace(task, form=_form(target, reading, read))
    return asked_to_write(task) if metric.written else task


def metric_of(target: Target, task: Task) -> Metric:
    """Return the metric that a recipe asks for.

    Raises:
        InputError: it does not fit the task.
    """
    is_file = task.harness is not None
    if has_contrast(task):
        return check_metric(target.metric, task.kind, str(task.path), task_file=is_file)
    # Only task files come here; every answer would win against no other.
    if target.metric in COMPARING:
        raise InputError(
            f'{task.path}: metric "{target.metric}" compares answers, and there is no wrong one: '
            "all answers of the file are the same, or are right for one question",
            'choose metric = "bits_per_byte", or add rows with other answers',
        )
    name = "bits_per_byte" if target.metric == "auto" else target.metric
    return check_metric(name, task.kind, str(task.path), task_file=is_file)


def asked_to_write(task: Task) -> Task:
    """Return the task with answers that are written too, not only scored.

    Raises:
        InputError: right answers hold a text at which a written answer ends; names their lines.
    """
    problems = Problems()
    for example in task.examples if task.form.delimiter is None else ():
        ends = [end for end in task.form.ends if all(end in text for text in example.references)]
        if ends:
            problems.add(f"line {example.line}: the right answer holds {ends[0]!r:.40}")
    hint = (
        "choose another `stop` or `answer_suffix`: a written answer ends there, before it is right"
    )
    problems.raise_if_any(InputError, str(task.path), hint)
    return replace(task, form=replace(task.form, writes=True))


def refuse_same_rows(dev: Task | None, test: Task) -> None:
    """Refuse a test set without new questions, also in one task file: dev ones chose the winner.

    Raises:
        InputError: every test question is a dev question, whatever the files' names and order.
    """
    if dev is None or not set(question_keys(test)) <= set(question_keys(dev)):
        return
    if dev.path == test.path and test.path.suffix.lower() in SUFFIXES:
        message = f"{test.path}: dev and test take the same rows"
        raise InputError(message, "name a validation_split and a test_split in it")
    raise InputError(
        f"{test.path}: every test question is also a dev question, in {dev.path}",
        "give other questions as `test`, or leave `test` out: the result is then unverified",
    )


def untested(name: str) -> str:
    """Say of a target that it has no test set."""
    return f"No test questions for {name}, so the result will be unverified"


def _path(target: Target, part: Side) -> Path:
    path = target.test if part == "test" else target.dev
    if path is None:
        raise ValueError(f"the target {target.name} has no {part} set")
    return path


def _harness_task(target: Target, part: Side, member: Member, roots: Sequence[Path]) -> Task:
    """Return a task file's task; the recipe's own settings override it."""
    path = member.path
    own_reading = [name for name in _READING if name != "shots"]
    _refuse_set(target, path, own_reading, "the task file says how its rows are read")
    try:
        task = load_harness(member, part, target.shots_seed, roots, target.shots)
    except GroupFound:
        raise group_refused(target, path, part, roots) from None
    metric = metric_of(target, task)
    own: dict[str, Any] = {
        "style": "" if target.template == "auto" else target.template,
        "instruction": target.instruction,
        "suffix": target.answer_suffix,
        "stop": target.stop,
    }
    if {k for k, v in own.items() if v} - {"stop"} or target.answer_prefix:
        task = reframed(task)
    form = replace(task.form, **{k: v for k, v in own.items() if v})
    if target.answer_prefix or form.style != "raw":
        # The delimiter between prompt and answer is only for texts that are joined directly.
        form = replace(form, prefix=target.answer_prefix or form.prefix, delimiter=None)
    task = replace(task, form=form)
    return asked_to_write(task) if metric.written else task


def _refuse_set(target: Target, path: Path, names: Sequence[str], why: str) -> None:
    defaults = {spec.name: spec.default for spec in dataclasses.fields(target)}
    used = [name for name in names if getattr(target, name) != defaults[name]]
    if used:
        raise InputError(f"{path}: {why}, and {', '.join(used)} is set", "leave it out")


def _reading(target: Target, read: Read) -> tuple[RowMapping, InputError | None]:
    """Return how all files of a target are read: `answers` is decided once, for all of them."""
    mapping = RowMapping.of(target)
    shots = (target.shots_from,) if target.shots_from else ()
    parts = []
    every = [(target.files("dev"), "dev"), (target.files("test"), "test"), (shots, "dev")]
    for files, part in dict.fromkeys(every):
        if files and files[0].suffix.lower() not in SUFFIXES:
            with suppress(InputError):  # `load_task` gives the reason
                source = read(files)
                own = _picking(target, part, mapping)
                parts.append((source.path, picked(source.path, source.records, own)))
    chosen, doubt = decided(parts, mapping)
    return replace(mapping, answers=chosen), doubt


def _picking(target: Target, part: str, mapping: RowMapping) -> RowMapping:
    """Return a mapping with the rows that are picked for a part."""
    where = target.test_where if part == "test" and target.test_where else mapping.where
    return replace(mapping, where=where)


def _form(target: Target, reading: RowMapping, read: Read) -> Form:
    return Form(
        style=target.template,
        instruction=target.instruction,
        shots=target.shots,
        pool=_pool(target, reading, read) if target.shots else (),
        seed=target.shots_seed,
        prefix=target.answer_prefix,
        suffix=target.answer_suffix,
        stop=target.stop,
        max_tokens=0 if isinstance(target.max_tokens, str) else target.max_tokens,
    )


def _pool(target: Target, reading: RowMapping, read: Read) -> tuple[Example, ...]:
    """Return the rows that solved examples may come from: all that the test set does not ask."""
    files = (target.shots_from,) if target.shots_from else target.files("dev")
    source = load_task(read(files), reading)
    if source.kind == "text":
        raise InputError(f"{source.path}: texts are not solved examples", "name rows with answers")
    asked = _picking(target, "test", reading)
    test = load_task(read(target.files("test")), asked).examples if target.test else ()
    barred = {normalize(example.prompt) for example in test}
    return tuple(example for example in source.examples if normalize(example.prompt) not in barred)


def _text_task(target: Target, task: Task, text: str) -> Task:
    """Return rows of text, or the whole text of their file if it is scored in windows."""
    _refuse_set(target, task.path, _ASKING, "holds texts, which are not asked anything")
    if not target.window:
        if text and not target.text:
            refuse_parallel(task.path, len(task.examples))
            lines = [(example.answer, example.line) for example in task.examples]
            refuse_no_prose(task.path, lines, answer="answer")
        return task
    whole = "\n".join(example.answer for example in task.examples)
    if text:
        whole = universal_newlines(text).removesuffix("\n")
    examples = (Example("", (whole,), 0, 1),)
    return replace(task, examples=examples, form=Form(window=target.window))


def group_refused(target: Target, path: Path, part: Side, roots: Sequence[Path]) -> InputError:
    """Return the error for a group that is given as a target, with the lines to write for it.

    The mean over several targets is weighted, so it can be the group's own number.

    Args:
        target: all that it sets is set for each task.
        path: the group's file.
        part: whose examples are counted.
        roots: folders in which the names of the group are looked for.

    Raises:
        InputError: a name of the group is not found.
    """
    group = read_group(path, roots)
    if group is None:
        raise ValueError(f"{path} is no group")
    tasks = group.tasks
    by_size = bool(group.aggregates) and all(number.by_size for number in group.aggregates)
    own = _own_lines(target)
    shown = []
    for member in tasks[:_MOST]:
        lines = [*_lines(member, both=target.test is not None), *own]
        shown += [*lines, *(_weight(member, part, roots) if by_size else [])]
    if others := [member.name for member in tasks[_MOST:]]:
        shown.append(f"# and so on for {len(others)} more: {', '.join(others)}")
    return InputError(
        f"{path}: is the group {group.name!r:.60} of {counted(len(tasks), 'task')}, and a target "
        "is one task",
        f"write these lines in its place{_weights(group, by_size=by_size)}:\n" + "\n".join(shown),
    )


def _weights(group: Group, *, by_size: bool) -> str:
    if not group.aggregates:
        return ""
    how = "each task counts by its examples" if by_size else "each task counts once"
    return f" (as in the group, {how})"


def _lines(member: Member, *, both: bool) -> list[str]:
    """Return the lines that name one task: as `dev`, and as `test` if both are asked for."""
    name = re.sub(r"[^\w.-]", "-", member.name)
    file, about = member.path.absolute().as_posix(), ""  # the recipe may be in any folder
    changed = [key for key in member.changes if key != "task"]
    if member.alone or changed:
        file = f"own-{name}.yaml"
        about = f"  # a file of yours with the keys of the group: {', '.join(changed)}"
        if not member.alone:
            about += f", and `include: {member.path.name}`"
    lines = ["[[targets]]", f'name = "{name}"', f"dev = {toml_value(file)}{about}"]
    return [*lines, *([f"test = {toml_value(file)}"] if both else [])]


def _own_lines(target: Target) -> list[str]:
    """Return the lines of all other fields that the recipe sets."""
    lines = []
    for field in dataclasses.fields(target):
        value = getattr(target, field.name)
        if field.name in _NAMED or value == field.default:
            continue
        value = value.absolute() if isinstance(value, Path) else value
        lines.append(f"{field.name} = {toml_value(value)}")
    return lines


def _weight(member: Member, part: Side, roots: Sequence[Path]) -> list[str]:
    with suppress(InputError):  # its data is not here
        return [f"weight = {len(load_harness(member, part, 0, roots).examples)}"]
    return []
