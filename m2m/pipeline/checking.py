"""`m2m data check`: everything that is wrong with data, before it is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from m2m.checkpoint import find_model
from m2m.dataset.checked import SIDES, Checked, DatasetFile, in_rows
from m2m.dataset.duplicates import (
    contradicted,
    exact_groups,
    near_groups,
    repeated,
)
from m2m.dataset.grams import comparable
from m2m.dataset.language import OTHER_LANGUAGE, Languages, tag
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import Task
from m2m.pipeline.inputs import longest_row, make_formatter, model_folders
from m2m.pipeline.leaks import Asked, leaked
from m2m.recipe import Recipe, Target, Train
from m2m.tokenizer import Formatter

# Shares of a file's rows from which something is a problem, not a matter of course.
_MANY_REPEATED, _MANY_CONTRADICTED, _MANY_FOREIGN = 0.05, 0.05, 0.02


def check_recipe(recipe: Recipe) -> list[Checked]:
    """The datasets of a recipe against each other and its targets, with its model's tokens."""
    targets = [load_target(each, "dev") for each in recipe.targets]
    targets += [load_target(each, "test") for each in recipe.targets if each.test]
    base = find_model(recipe.base.model, model_folders(recipe.path))
    formatter = make_formatter(base.gguf, recipe.base.template)
    files = [each.path for each in recipe.datasets]
    return check_data(files, targets, formatter, longest_row(recipe.train, base))


def read_target(path: Path) -> Task:
    """The examples of a target's file, or of a task file of lm-evaluation-harness.

    Raises:
        InputError: they cannot be read.
    """
    return load_target(Target(path.stem, path), "dev")


def formatter_of(model: str, template: str) -> Formatter:
    """Tokenizer and template of a model under models/."""
    return make_formatter(find_model(model, model_folders()).gguf, template)


def check_data(
    files: Sequence[Path],
    targets: Sequence[Task] = (),
    formatter: Formatter | None = None,
    max_length: int = Train.max_length,
) -> list[Checked]:
    """Look at every file on its own, then at all of them together and beside the targets.

    Args:
        files: datasets; one that cannot be read is a problem in its own entry.
        targets: examples that no dataset should hold.
        formatter: counts tokens.
        max_length: tokens from which `m2m run` refuses a row.
    """
    found = [Checked(path) for path in files]
    content = [DatasetFile(each) for each in found]
    asked = [Asked(task) for task in targets]
    for each in content:
        each.check_alone(formatter, max_length)
    readable = [each for each in content if each.rows]
    _check_repetition(readable, asked)
    _check_languages(readable)
    return found


def _check_repetition(files: Sequence[DatasetFile], targets: Sequence[Asked]) -> None:
    """Duplicates and contradictions within and between files, and what the targets ask."""
    parts = [each.texts for each in files] + [each.texts for each in targets]
    groups = iter(near_groups([text for part in parts for text in part]).tolist())
    near = [list(islice(groups, len(part))) for part in parts]
    asked = {group for part in near[len(files) :] for group in part}
    questions = {question for target in targets for question in target.questions}
    for file, own in zip(files, near, strict=False):
        _check_own(file, own)
        _check_leaks(file, own, asked, questions)
        for other, theirs in zip(files, near, strict=False):
            if other is not file:
                _compare(file, own, other, set(theirs))


def _check_own(file: DatasetFile, near: Sequence[int]) -> None:
    found = file.found
    equal, alike = repeated(exact_groups(file.texts).tolist()), repeated(near)
    found.duplicates, found.near_duplicates = len(equal), len(alike) - len(equal)
    if len(alike) > _MANY_REPEATED * found.rows:
        message = f"{found.duplicates} duplicate and {found.near_duplicates} nearly duplicate rows"
        file.say(
            "duplicates", message, "keep one of each, unless they are meant to weigh more", alike
        )
    own = zip(file.questions, file.answers, strict=True)
    against = contradicted(file.questions, file.answers, own) if any(file.questions) else []
    found.contradictions = len(against)
    if len(against) > _MANY_CONTRADICTED * found.rows:
        message = f"{in_rows(len(against))} whose question another row answers differently"
        file.say("contradictions", message, "are all of these answers right?", against)


def _check_leaks(
    file: DatasetFile, near: Sequence[int], asked: set[int], questions: set[str]
) -> None:
    held = {
        *leaked([comparable(row.plain_text) for row in file.rows], file.questions, questions),
        *(i for i, group in enumerate(near) if group in asked),
    }
    file.found.overlap = len(held)
    if held:
        message = f"{in_rows(len(held))} with a question or text of the targets"
        hint = "take them out: what was trained on tells nothing when it is asked"
        file.say("leak", message, hint, sorted(held))


def _compare(file: DatasetFile, near: Sequence[int], other: DatasetFile, theirs: set[int]) -> None:
    found = file.found
    if both := sum(group in theirs for group in near):
        found.shared[other.name] = both
    if not (any(file.questions) and any(other.questions)):
        return
    answered = list(zip(other.questions, other.answers, strict=True))
    right = set(answered)
    own = zip(file.questions, file.answers, strict=True)
    agreed = {i for i, pair in enumerate(own) if pair in right}
    against = [i for i in contradicted(file.questions, file.answers, answered) if i not in agreed]
    if against:
        found.contradicting[other.name] = len(against)
    if len(against) > _MANY_CONTRADICTED * found.rows:
        message = f"{in_rows(len(against))} whose question {other.name} answers differently"
        file.say("contradicting", message, "look which of the two files is right", against)


def _check_languages(files: Sequence[DatasetFile]) -> None:
    languages = Languages({(file.name, s): t for file in files for s, t in file.sides.items()})
    for file in files:
        for side in SIDES:
            suspects = languages.suspects((file.name, side))
            for each in suspects:
                like = " of ".join(each.like[::-1])
                file.found.foreign[like] = file.found.foreign.get(like, 0) + 1
            if len(suspects) > max(2, _MANY_FOREIGN * file.found.rows):
                likes = dict.fromkeys(" of ".join(each.like[::-1]) for each in suspects)
                message = (
                    f"{in_rows(len(suspects))} whose {side} read like {', '.join([*likes][:3])}"
                )
                hint = "another language, or names? look at them"
                file.say("language", message, hint, [each.row for each in suspects])
    names = [file.name for file in files]
    for file in files:
        for side, like in _mislabelled(file.name, names, languages):
            message = (
                f"the {side} read like those of {like}, not like the other {tag(file.name)} files"
            )
            file.say("language", message, "is the file what its name says?")


def _mislabelled(
    name: str, names: Sequence[str], languages: Languages
) -> Iterator[tuple[str, str]]:
    """Sides of a file that are in no language of the files of its tag, but in another file's."""
    for side in SIDES:
        apart: Mapping[str, float] = {
            other: distance
            for other in names
            if other != name
            and (distance := languages.distance((name, side), (other, side))) is not None
        }
        fellows = [d for other, d in apart.items() if tag(other) == tag(name)]
        strangers = {other: d for other, d in apart.items() if tag(other) != tag(name)}
        if not (tag(name) and fellows and strangers) or min(fellows) <= OTHER_LANGUAGE:
            continue
        nearest = min(strangers, key=lambda other: strangers[other])
        if strangers[nearest] <= OTHER_LANGUAGE:
            yield side, nearest
