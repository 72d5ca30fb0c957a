"""`m2m data check`: find everything that is wrong with data, before training on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path

from m2m.checkpoint import find_model
from m2m.commands.bare import Bare, command_of, read_bare
from m2m.commands.init_lines import Command, choose, refused
from m2m.commands.init_rows import Unclear
from m2m.commands.language_check import check_languages
from m2m.commands.target_check import check_targets
from m2m.dataset.checked import Checked, DatasetFile, Problem, in_rows, short_names
from m2m.dataset.duplicates import contradicted, exact_groups, near_groups, repeated
from m2m.dataset.grams import comparable
from m2m.dataset.label_forms import labels_apart
from m2m.dataset.mapping import RowMapping
from m2m.dataset.normal_form import AS_IS, REMEDY, disagreement
from m2m.dataset.row_source import RowSource, open_source, options_of
from m2m.dataset.rows import Rows, read_rows
from m2m.dataset.samples import RowLimit
from m2m.dataset.translations import differ_alike, disputed
from m2m.errors import InputError
from m2m.evaluate.tasks import Task
from m2m.mix.space import usable
from m2m.pipeline.corpus import row_limit
from m2m.pipeline.inputs import (
    REPLAY,
    Inputs,
    make_formatter,
    model_folders,
    read_tasks,
    replay_file,
)
from m2m.pipeline.leaks import STOPS, Asked, Asking, all_leaked, leaked, target_warnings
from m2m.recipe import Dataset, Recipe, Train
from m2m.tokenizer import Formatter

# Shares of a file's rows above which something is a problem; less is normal.
_MANY_REPEATED, _MANY_CONTRADICTED = 0.05, 0.05
DEFAULT = RowLimit(Train.max_length, Train.batch_tokens)
FIRST = 100_000  # rows of a large file that are compared, unless the user asks for all


def check_recipe(recipe: Recipe, first: int = 0) -> list[Checked]:
    """Check a recipe's datasets against each other and its targets, with its model's tokens.

    Args:
        recipe: the recipe.
        first: how many rows of a large dataset are read; 0: all. All are read for `where`.
    """
    base = find_model(recipe.base.model, model_folders(recipe.path))
    formatter = make_formatter(base.gguf, recipe.base.template, recipe.base.template_variables)
    dev, test = read_tasks(recipe, (base, formatter))
    targets, limit = [*dev.values(), *test.values()], row_limit(recipe.train, base)
    files, form = [*recipe.with_rows, *replay_file(recipe)], recipe.data.normalise
    results = check_data(files, targets, formatter, limit, form, first)
    for result in results:
        if result.name not in (*usable(recipe.search, recipe.datasets), REPLAY):
            result.problems = [
                replace(p, refused=p.refused and p.kind != "leak") for p in result.problems
            ]
    warnings = target_warnings(Inputs(recipe, base, formatter, {}, dev, test))
    results[len(files)].problems += [Problem("test", text, "") for text in warnings]
    return results


def open_model(model: str, template: str) -> tuple[Formatter, RowLimit]:
    """Open a model under models/; return its formatter and the row limit without a recipe."""
    base = find_model(model, model_folders())
    return make_formatter(base.gguf, template), row_limit(Train(), base)


def check_files(
    command: Command, formatter: Formatter | None = None, limit: RowLimit = DEFAULT, first: int = 0
) -> list[Checked]:
    """Check files without a recipe, read as `m2m init` reads them; see `check_data`.

    Raises:
        InputError: a target cannot be read; the hint has the next lines to type.
    """
    found = read_bare(command, 0 if command.given.mapping.where else first)
    asked = [bare for bare in found if bare.part == "target"]
    if broken := [one for bare in asked if (one := bare.failed(0))]:
        raise refused(command, broken)
    tasks = [bare.entry.task for bare in asked if bare.entry and bare.entry.task]
    bare_sets = [bare for bare in found if bare.part == "dataset"]
    results = check_data(bare_sets, tasks, formatter, limit)
    for bare, result in zip(asked, results[len(bare_sets) :], strict=True):
        _add_reading(bare, result)
    return results


def check_data(
    files: Sequence[Path | Bare | Dataset],
    targets: Sequence[Task] = (),
    formatter: Formatter | None = None,
    limit: RowLimit = DEFAULT,
    normalise: str = AS_IS,
    first: int = 0,
) -> list[Checked]:
    """Check every file on its own, then all files together and with the targets.

    The result lists the datasets first, then the targets.

    Args:
        files: datasets of a recipe, or files without one, which are read as `m2m init` reads them;
            one that cannot be read is a problem in its own entry. Two text files whose names differ
            in their language are one dataset.
        targets: examples that no dataset should contain.
        formatter: counts tokens.
        limit: `m2m run` refuses longer rows.
        normalise: the Unicode normal form in which the datasets' texts are read.
        first: how many rows of a large dataset of a recipe are read; 0: all.
    """
    paths = [file for file in files if isinstance(file, Path)]
    bare = read_bare(command_of(("m2m", "data", "check"), paths)) if paths else []
    bare += [file for file in files if isinstance(file, Bare)]
    datasets = [file for file in files if isinstance(file, Dataset)]
    names = short_names([each.files[0] for each in bare], ending=False)
    results = [Checked(each.files[0], name) for each, name in zip(bare, names, strict=True)]
    results += [Checked(dataset.path, dataset.name) for dataset in datasets]
    ways = [*map(_opener, bare), *(_reader(dataset, first) for dataset in datasets)]
    content = [
        DatasetFile(result, opened, order, normalise)
        for order, (result, opened) in enumerate(zip(results, ways, strict=True))
    ]
    for each, result in zip(bare, results, strict=False):
        _add_reading(each, result)
    questions = [Asked(task) for task in targets]
    for file in content:
        file.check_alone(formatter, limit)
    readable = [file for file in content if file.rows]
    controls = {dataset.name for dataset in datasets if dataset.control}
    _check_repetition(readable, questions, controls)
    languages = [*(() for _ in bare), *(dataset.languages for dataset in datasets)]
    declared = dict(zip((file.name for file in content), languages, strict=True))
    check_languages(readable, declared)
    results += check_targets(targets)
    _check_forms(results)
    _check_labels(results)
    return results


def _check_labels(results: Sequence[Checked]) -> None:
    """Say at each file that a later one writes the same labels in another case."""
    names = short_names([result.file for result in results])
    for place, result in enumerate(results):
        later = zip(names[place + 1 :], results[place + 1 :], strict=True)
        if words := labels_apart(result.labels, {name: other.labels for name, other in later}):
            message = f"labels differ only in case or spaces from those of another file: {words}"
            hint = "to a model these are different answers: use `labels` in the recipe to write "
            hint += "them one way"
            result.problems.append(Problem("labels", message, hint))


def _opener(bare: Bare) -> Callable[[], tuple[RowSource, Rows]]:
    def opened() -> tuple[RowSource, Rows]:
        entry, error = bare.entry, bare.error
        if entry and entry.source and entry.read:
            return entry.source, entry.read
        hints = [choose(bare.lines)] if bare.lines else []
        if hints and isinstance(error, Unclear):
            hints = [*filter(None, [error.aside]), *hints]
        elif error and error.hint:
            hints = [error.hint, *hints]
        raise InputError(error.message if error else "", "\n".join(hints))

    return opened


def _reader(dataset: Dataset, first: int) -> Callable[[], tuple[RowSource, Rows]]:
    def opened() -> tuple[RowSource, Rows]:
        some = 0 if dataset.where else first
        source = open_source(dataset.files, options=options_of(dataset), first=some)
        return source, read_rows(source, RowMapping.of(dataset))

    return opened


def _add_reading(bare: Bare, result: Checked) -> None:
    """Add how a file was read without a recipe, and the lines to type next."""
    if bare.entry is None:
        return
    result.reading = "; ".join(filter(None, (bare.mapping, *bare.entry.asides, result.reading)))
    lines = choose(bare.lines) if bare.lines else "answer it in the recipe"
    if bare.error and bare.lines and (bad := [p for p in result.problems if p.kind == "bad_row"]):
        place = result.problems.index(bad[-1])
        result.problems[place] = replace(bad[-1], hint=f"{bad[-1].hint}\n{lines}")
    for question in bare.entry.questions:
        result.problems.append(Problem("question", question, lines, refused=True))


def _check_forms(results: Sequence[Checked]) -> None:
    """Say at each file in NFD, or in both forms, that the others write letters differently."""
    names = short_names([result.file for result in results])
    forms = [result.form for result in results]
    words = disagreement(dict(zip(names, forms, strict=True)))
    for result in results:
        if words and result.form in ("NFD", "mixed"):
            result.problems.append(Problem("forms", words, REMEDY))


def _check_repetition(
    files: Sequence[DatasetFile], targets: Sequence[Asked], controls: Set[str]
) -> None:
    """Find duplicates and contradictions within and between files, and rows that targets ask.

    A control has the questions of another file, and wrong answers: these two are not compared.
    """
    parts = [source.texts for source in files] + [source.texts for source in targets]
    groups = iter(near_groups([text for part in parts for text in part]).tolist())
    near = [list(islice(groups, len(part))) for part in parts]
    asked_groups = {group for part in near[len(files) :] for group in part}
    for file, own in zip(files, near, strict=False):
        _check_own(file, own)
        _check_leaks(file, own, asked_groups, targets)
        for other, theirs in zip(files, near, strict=False):
            if other is not file and not controls & {file.name, other.name}:
                _compare(file, own, other, set(theirs))


def repeats(file: DatasetFile, targets: Sequence[Asked]) -> tuple[list[int], list[int], list[int]]:
    """Return for each row the first equal and the first nearly equal one, and the leaked rows."""
    asked = [text for target in targets for text in target.texts]
    groups = near_groups([*file.texts, *asked]).tolist()
    near, asked_groups = groups[: len(file.texts)], set(groups[len(file.texts) :])
    _, leaks = _leaks(file, near, asked_groups, targets)
    return exact_groups(file.texts).tolist(), near, leaks


def _check_own(file: DatasetFile, near: Sequence[int]) -> None:
    result = file.result
    equal, alike = repeated(exact_groups(file.texts).tolist()), repeated(near)
    result.duplicates, result.near_duplicates = len(equal), len(alike) - len(equal)
    if len(alike) > _MANY_REPEATED * result.rows:
        message = (
            f"{result.duplicates} duplicate and {result.near_duplicates} nearly duplicate rows"
        )
        file.say(
            "duplicates", message, "keep one of each, unless you repeated them on purpose", alike
        )
    if not any(file.questions):
        return
    own = list(zip(file.questions, file.answers, strict=True))
    against = contradicted(file.questions, file.answers, own)
    if len(against) > _MANY_CONTRADICTED * result.rows and differ_alike(
        disputed(file.questions, file.answers, own)
    ):
        message = f"{in_rows(len(against))} whose question has answers in two languages or styles"
        hint = "say in the question which language is wanted, or make a file of each"
        file.say("two_languages", message, hint, against)
        return
    result.contradictions = len(against)
    if len(against) > _MANY_CONTRADICTED * result.rows:
        message = f"{in_rows(len(against))} whose question another row answers differently"
        file.say("contradictions", message, "are all of these answers right?", against)


def _check_leaks(
    file: DatasetFile, near: Sequence[int], asked_groups: set[int], targets: Sequence[Asked]
) -> None:
    equal, leaks = _leaks(file, near, asked_groups, targets)
    file.result.overlap = len(leaks)
    if leaks:
        are = "is" if len(leaks) == 1 else "are"
        message = f"{in_rows(len(leaks))} {are} also in your dev or test questions"
        hint = "delete them from the dataset, as `m2m data clean RECIPE --out DIR` does"
        hint += f"\n{STOPS}" if equal else ""
        file.say("leak", message, hint, leaks, refused=bool(equal))


def _leaks(
    file: DatasetFile, near: Sequence[int], asked_groups: set[int], targets: Sequence[Asked]
) -> tuple[set[int], list[int]]:
    """Return the places of rows that are also questions, and of those that nearly are, too."""
    if not targets:
        return set(), []
    prompts = file.questions  # without a frame these are the whole prompts
    if file.frame:
        prompts = [comparable(row.sides[0]) for row in file.rows]
    asking = Asking(file.whole, prompts, file.questions)
    nearly = {i for i, group in enumerate(near) if group in asked_groups}
    equal = leaked(asking, targets)
    both = equal | nearly
    return equal, all_leaked(file.rows, targets, both) if both else []


def _compare(file: DatasetFile, near: Sequence[int], other: DatasetFile, theirs: set[int]) -> None:
    result = file.result
    their_texts = set(other.whole)
    pairs = enumerate(zip(near, file.whole, strict=True))
    if both := [i for i, (group, text) in pairs if group in theirs or text in their_texts]:
        result.shared[other.name] = len(both)
        _say_shared(file, other, both)
    if not (any(file.questions) and any(other.questions)):
        return
    if file.frame and other.frame and file.frame != other.frame:
        return  # "Sentiment: ..." and "Topic: ..." ask two things of one text
    answered = list(zip(other.questions, other.answers, strict=True))
    right = set(answered)
    own = zip(file.questions, file.answers, strict=True)
    agreed = {i for i, pair in enumerate(own) if pair in right}
    against = [i for i in contradicted(file.questions, file.answers, answered) if i not in agreed]
    many = len(against) > _MANY_CONTRADICTED * result.rows
    questions, answers = ([side[i] for i in against] for side in (file.questions, file.answers))
    if against and not (many and differ_alike(disputed(questions, answers, answered))):
        result.contradicting[other.name] = len(against)
        if many:
            message = f"{in_rows(len(against))} whose question {other.name} answers differently"
            file.say("contradicting", message, "check which of the two files is right", against)


def _say_shared(file: DatasetFile, other: DatasetFile, both: Sequence[int]) -> None:
    """Note rows that another file also has, at the file of which they are the larger part."""
    rows, theirs = file.result.rows, other.result.rows
    if len(both) <= _MANY_REPEATED * rows or (rows, file.order) > (theirs, other.order):
        return
    same = len(both) == rows == theirs
    message = f"{'all' if len(both) == rows else len(both)} of its {in_rows(rows)} "
    message += (
        f"{'' if len(both) == rows else f'({len(both) / rows:.0%}) '}are also in {other.name}"
    )
    message = f"the same rows as {other.name}" if same else message
    hint = "use only one of the two files" if len(both) == rows else "delete them from one file"
    file.say(
        "shared", message, f"{hint}: no search can say which of them helped", [] if same else both
    )
