"""Check the questions of targets: their number, repetition, balance, and dev against test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from m2m.counted import counted
from m2m.dataset.characters import FAULTS, find_faults
from m2m.dataset.checked import SHOWN, Checked, Problem, short_names
from m2m.dataset.duplicates import near_groups, repeated
from m2m.dataset.grams import comparable, joined
from m2m.dataset.noise import closed_set
from m2m.dataset.noise_check import unbalanced
from m2m.dataset.normal_form import form_of
from m2m.evaluate.normalised import task_texts
from m2m.evaluate.tasks import Task

# docs/own-language.md: at least 100 questions for dev; 30 questions leave ±0.09 on an accuracy.
_FEW_QUESTIONS, _ENOUGH_QUESTIONS = 30, 100
_MANY_LETTERS = 20_000  # letters; a few texts with this many letters are enough
_ONE_PLACE = 0.7  # of the questions: a model that always takes this choice looks good
_NOUNS = {"text": "text"}


def check_targets(tasks: Sequence[Task]) -> list[Checked]:
    """Check the examples of each target, and of all targets together."""
    names = short_names([task.path for task in tasks])
    results = [_alone(task, name) for task, name in zip(tasks, names, strict=True)]
    texts = [_texts(task) for task in tasks]
    whole = [text for part in texts for text in part]
    groups = near_groups(whole).tolist()
    near, start = [], 0
    for part in texts:
        near.append(groups[start : start + len(part)])
        start += len(part)
    for place, (task, result) in enumerate(zip(tasks, results, strict=True)):
        _check_repeated(task, result, texts[place], near[place])
        for before in range(place):
            if not _is_same_file(task, tasks[before]):
                other = dict.fromkeys(texts[before]), set(near[before])
                _compare(task, result, names[before], (texts[place], near[place]), other)
    return results


def _texts(task: Task) -> list[str]:
    """Return the examples as comparable texts: questions with answers, or without their labels."""
    questions = [comparable(example.prompt) for example in task.examples]
    if task.kind == "labels":
        return questions
    answers = [comparable(example.answer) for example in task.examples]
    return list(map(joined, questions, answers))


def _is_same_file(task: Task, other: Task) -> bool:
    """Return whether two targets ask the same rows on purpose, in two ways."""
    lines = [[example.line for example in one.examples] for one in (task, other)]
    return task.path == other.path and lines[0] == lines[1]


def _alone(task: Task, name: str) -> Checked:
    """Check the number, the characters and the balance of a target's examples."""
    kind, count = f"target: {task.kind}", len(task.examples)
    result = Checked(task.path, name, kind, task.reading, count)
    _check_number(task, result)
    texts = [*task_texts(task)]
    result.form = form_of(texts)
    for kind, places in find_faults(texts).items():
        fault, hint, _ = FAULTS[kind]
        _add(task, result, kind, f"{_counted(task, len(places))} with {fault}", hint, places)
    if task.kind == "labels":
        counts = Counter(example.answer for example in task.examples)
        result.labels = dict(counts.most_common())
        message, hint = unbalanced(result.labels, "question")
        if message:
            _add(task, result, "labels", message, hint)
    if task.kind == "answer":
        answers = closed_set([example.answer for example in task.examples])
        result.labels = dict(answers.most_common())
    if task.kind == "choices" and _shows_choices(task) and result.rows >= _FEW_QUESTIONS:
        gold, count = Counter(example.gold for example in task.examples).most_common(1)[0]
        if count > _ONE_PLACE * len(task.examples):
            message = (
                f"the right answer of {count} of {_counted(task, len(task.examples))} is choice "
                f"{gold + 1}"
            )
            hint = "always taking this one looks good: is the column of the answers right?"
            _add(task, result, "one_place", message, hint)
    return result


def _shows_choices(task: Task) -> bool:
    """Return whether most prompts show their choices; if not, their order does not matter."""
    shown = sum(all(c in example.prompt for c in example.choices) for example in task.examples)
    return 2 * shown > len(task.examples)


def _check_number(task: Task, result: Checked) -> None:
    count = result.rows
    letters = sum(len(example.answer) for example in task.examples)
    few = "too few"
    hint = f"write at least {_FEW_QUESTIONS}, better {_ENOUGH_QUESTIONS} or more"
    if task.kind == "text":
        if count >= _FEW_QUESTIONS or letters >= _MANY_LETTERS:
            return
    elif count >= _ENOUGH_QUESTIONS:
        return
    elif count >= _FEW_QUESTIONS:
        few = "few: small differences will be luck"
        hint = f"aim at {_ENOUGH_QUESTIONS} or more"
    are = "is" if count == 1 else "are"
    _add(task, result, "few_questions", f"{_counted(task, count)} {are} {few}", hint)


def _check_repeated(task: Task, result: Checked, texts: Sequence[str], near: Sequence[int]) -> None:
    """Add the examples that repeat an earlier one of the same target."""
    equal, alike = repeated(texts), repeated(near)
    result.duplicates, result.near_duplicates = len(equal), len(alike) - len(equal)
    if equal:
        message = f"{_counted(task, len(equal))} repeat{'s' * (len(equal) == 1)} an earlier one"
        if more := result.near_duplicates:
            message += f", and {more} nearly"
        hint = "delete them: a question that is asked twice counts twice"
        _add(task, result, "duplicates", message, hint, alike)
    if task.kind == "labels" and (against := _disagreeing(task, texts)):
        message = f"{_counted(task, len(against))} that another row of the file labels differently"
        _add(task, result, "contradictions", message, "which label is right?", against)


def _disagreeing(task: Task, texts: Sequence[str]) -> list[int]:
    labels: dict[str, set[str]] = {}
    for text, example in zip(texts, task.examples, strict=True):
        labels.setdefault(text, set()).add(example.answer)
    return [place for place, text in enumerate(texts) if len(labels[text]) > 1]


def _compare(
    task: Task,
    result: Checked,
    other: str,
    own: tuple[Sequence[str], Sequence[int]],
    theirs: tuple[Mapping[str, None], set[int]],
) -> None:
    """Add the examples that another target has too, exactly or nearly."""
    equal = {i for i, text in enumerate(own[0]) if text in theirs[0]}
    alike = [i for i, group in enumerate(own[1]) if group in theirs[1]]
    if not alike:
        return
    result.shared[other] = len(alike)
    total = _counted(task, len(task.examples))
    are = "is" if len(alike) == 1 else "are"
    message = f"{len(alike):,} of {total} {are} also in {other}"
    if nearly := len(alike) - len(equal):
        message += f" ({len(equal)} exactly, {nearly} nearly)"
    hint = (
        "delete them from one of the two files: dev chooses the winner, so test has to ask "
        "something else"
    )
    _add(task, result, "dev_and_test", message, hint, alike)


def _counted(task: Task, count: int) -> str:
    return counted(count, _NOUNS.get(task.kind, "question"))


def _add(
    task: Task, result: Checked, kind: str, message: str, hint: str, places: Sequence[int] = ()
) -> None:
    lines = tuple(task.examples[place].line for place in places[:SHOWN])
    result.problems.append(Problem(kind, message, hint, lines))
