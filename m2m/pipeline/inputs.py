"""Everything a run reads, opened and checked before any long work; one error lists all mistakes."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from m2m.checkpoint import BaseModel, find_model
from m2m.counted import counted
from m2m.dataset.label_forms import labels_apart
from m2m.dataset.noise import closed_set
from m2m.dataset.normal_form import REMEDY, disagreement, form_of
from m2m.dataset.row_source import left_out
from m2m.dataset.samples import lines_of
from m2m.errors import InputError, M2MError, Problems, ResourceError
from m2m.evaluate.harness import Side
from m2m.evaluate.normalised import normalised_task, task_texts
from m2m.evaluate.targets import load_target, metric_of, refuse_same_rows
from m2m.evaluate.tasks import Task, requests
from m2m.formats.gguf import GGUFFile
from m2m.formats.spooled import chained, drawn
from m2m.kernels import bfloat16
from m2m.llamacpp.model import check_gpu_layers
from m2m.merge.belonging import trained_template
from m2m.mix.scoreboard import Objective
from m2m.mix.space import usable
from m2m.pipeline.corpus import Corpus, Opened, read_corpus, row_limit
from m2m.pipeline.device import training_device
from m2m.recipe import Dataset, Recipe, Target
from m2m.results.folder import RunFolder
from m2m.store import fingerprint
from m2m.tokenizer import Formatter, Tokenizer
from m2m.tokenizer.ending import chat_template, trained_ends
from m2m.tokenizer.template import with_variables
from m2m.tokenizer.vocabulary_warnings import FOLDED
from m2m.tuner.loss_files import check_tensorboard
from m2m.tuner.row_mix import budget, passes, replayed

Found = TypeVar("Found")
REPLAY = "the replayed rows"


@dataclass(frozen=True)
class Inputs:
    """The files that a recipe names, read.

    Attributes:
        recipe: with its budget converted to steps; `epochs` stay.
        corpora: by dataset name, in the recipe's order.
        dev: tasks by target name.
        test: the same for the targets that have a test file.
        replay: rows for all experts, if the recipe names a file of them.
        warnings: reasons why the base may not stop, or may read text differently than intended.
    """

    recipe: Recipe
    base: BaseModel
    formatter: Formatter
    corpora: dict[str, Corpus]
    dev: dict[str, Task]
    test: dict[str, Task]
    replay: Corpus | None = None
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> RunFolder:
        """Return the names of the run's files."""
        return RunFolder(self.recipe.folder)

    @property
    def usable_names(self) -> list[str]:
        """Return the datasets that may be in a mixture."""
        return usable(self.recipe.search, self.recipe.datasets)

    @property
    def controls(self) -> frozenset[str]:
        """Return the datasets whose answers are wrong on purpose."""
        return frozenset(entry.name for entry in self.recipe.datasets if entry.control)

    @property
    def expert_names(self) -> list[str]:
        """Return the datasets that have experts; none if nothing is searched."""
        return self.usable_names if self.recipe.searches else []

    @property
    def untrained_names(self) -> list[str]:
        """Return those of `expert_names` whose experts this run trains."""
        return [name for name in self.expert_names if self.corpora[name].expert is None]

    @property
    def objectives(self) -> list[Objective]:
        """Return the recipe's targets with their metrics."""
        return [
            Objective(target.name, metric_of(target, self.dev[target.name]), target.weight)
            for target in self.recipe.targets
        ]


def model_folders(recipe: Path | None = None) -> list[Path]:
    """List the folders of models.

    These are $M2M_MODELS, `models/` in the recipe's folder or above, here, and in the folder of
    this installation.
    """
    named = os.environ.get("M2M_MODELS")
    above = [folder / "models" for folder in recipe.absolute().parents] if recipe else []
    folders = [*([Path(named)] if named else []), *above, Path("models").absolute()]
    return [*dict.fromkeys([*folders, *installed_models()])]


def installed_models() -> list[Path]:
    """Return the folder of models next to the virtual environment in which m2m is installed."""
    folder = Path(sys.prefix).parent / "models"
    return [folder] if sys.prefix != sys.base_prefix and folder.is_dir() else []


def make_formatter(
    file: GGUFFile, template: str, variables: Mapping[str, Any] | None = None
) -> Formatter:
    """Build a GGUF's tokenizer with its chat template, or without ("plain").

    Args:
        file: the model.
        template: "chat" or "plain".
        variables: fixed variables of the chat template.

    Raises:
        InputError: the recipe asks for "chat" and the model has no chat template, or there are
            variables that the template does not use.
    """
    tokenizer = Tokenizer.from_metadata(file.value)
    if template == "plain":
        if variables:
            raise InputError(
                'template_variables in [base] have no use with template = "plain"',
                "take one of the two out",
            )
        return Formatter(tokenizer)
    own = chat_template(file.value, tokenizer, file.path)
    if own is None:
        raise InputError(
            f"{file.path}: the model has no chat template",
            'set template = "plain" in [base], or add `--template plain`, to use plain text',
        )
    return Formatter(tokenizer, with_variables(own, variables) if variables else own)


def formatter_as_trained(file: GGUFFile, lora: Path | None, style: str = "auto") -> Formatter:
    """Build the formatter of a model as it was trained: a LoRA may name another template.

    Args:
        file: the model.
        lora: a GGUF LoRA for it.
        style: "auto" (as trained; plain if the model has no chat template), "chat" or "plain".

    Raises:
        InputError: "chat" is asked for and the model has no chat template.
    """
    plain, variables = trained_template(lora) if lora else (False, {})
    if style == "auto":
        without = plain or not isinstance(file.value("tokenizer.chat_template"), str)
        style = "plain" if without else "chat"
    return make_formatter(file, style, None if style == "plain" else variables)


def read_inputs(recipe: Recipe) -> Inputs:
    """Open the base, encode the datasets and read the targets.

    Raises:
        InputError: the message lists everything that is wrong with any of them.
    """
    errors: list[M2MError] = []

    def tried(read: Callable[[], Found]) -> Found | None:
        try:
            return read()
        except M2MError as error:
            errors.append(error)
            return None

    def base_and_formatter() -> tuple[BaseModel, Formatter]:
        base = find_model(recipe.base.model, model_folders(recipe.path))
        return base, make_formatter(base.gguf, recipe.base.template, recipe.base.template_variables)

    opened = tried(base_and_formatter)
    corpora = {}
    for dataset in recipe.datasets:
        if corpus := tried(lambda d=dataset: read_corpus(d, opened, recipe)):  # type: ignore[misc]
            corpora[dataset.name] = corpus
    replay = tried(lambda: _replay(opened, recipe))
    tried(lambda: check_gpu_layers(recipe.limits.gpu_layers))
    tried(lambda: opened and training_device(recipe, opened[0].config))
    tried(lambda: _check_precision(recipe.train.precision))
    tried(lambda: check_tensorboard(recipe.report.tensorboard == "yes"))
    dev, test = read_tasks(recipe, opened, tried)
    _raise_all(errors, recipe.path)
    if opened is None:
        raise AssertionError("a base that could not be opened is an error")
    base, formatter = opened
    folded = formatter.template is not None and formatter.template.has_folded
    skipped = {c.name: c.skipped for c in corpora.values()}
    skipped |= {f"the {part} set of {name}": task.skipped for part, tasks in
                (("dev", dev), ("test", test)) for name, task in tasks.items()}  # fmt: skip
    warnings = (
        *base.warnings_with(formatter),
        *(doubt for corpus in corpora.values() for doubt in corpus.doubts),
        *_endless(corpora, formatter),
        *([FOLDED] if folded else []),
        *(f"{name}: {left_out(count)}" for name, count in skipped.items() if count),
    )
    inputs = Inputs(recipe, base, formatter, corpora, dev, test, replay, warnings)
    warnings = (*warnings, *_long(inputs), *_two_forms(inputs), *_labels_apart(inputs))
    return dataclasses.replace(inputs, recipe=_in_steps(inputs), warnings=warnings)


def _long(inputs: Inputs) -> Iterator[str]:
    """Say which rows were cut or skipped because they were too long."""
    limit = row_limit(inputs.recipe.train, inputs.base)
    corpora = [*inputs.corpora.values(), *([inputs.replay] if inputs.replay else [])]
    for corpus in (each for each in corpora if each.long_rows.any):
        lines = lines_of(chained([corpus.samples, corpus.held_out]))
        rows = len(np.unique(lines)) + len(corpus.long_rows.skipped)
        yield from corpus.long_rows.in_words(corpus.name, rows, limit)


def _two_forms(inputs: Inputs) -> Iterator[str]:
    """Warn if datasets and targets write the same letters in different Unicode normal forms."""
    encode_text = inputs.formatter.tokenizer.encode
    if encode_text("\u00e9") == encode_text("e\u0301"):
        return  # the tokenizer makes one form of both
    forms = {corpus.name: corpus.form for corpus in inputs.corpora.values()}
    for part, tasks in (("dev", inputs.dev), ("test", inputs.test)):
        forms |= {f"{name} ({part})": form_of(task_texts(task)) for name, task in tasks.items()}
    if words := disagreement(forms):
        yield f"{words[:1].upper()}{words[1:]} {REMEDY[:1].upper()}{REMEDY[1:]}."


def _labels_apart(inputs: Inputs) -> Iterator[str]:
    """Warn if datasets and targets write the same labels in different cases."""
    labels = {name: [*corpus.labels] for name, corpus in inputs.corpora.items()}
    for part, tasks in (("dev", inputs.dev), ("test", inputs.test)):
        for name, task in tasks.items():
            labels[f"{name} ({part})"] = [*closed_set([e.answer for e in task.examples])]
    names = [*labels]
    for place, name in enumerate(names):
        if words := labels_apart(labels[name], {n: labels[n] for n in names[place + 1 :]}):
            yield (
                f"Labels of {name} differ only in case or spaces from others: {words}. To a model "
                "these are different answers. Use `labels` in the recipe to write them one way."
            )


def _endless(corpora: Mapping[str, Corpus], formatter: Formatter) -> Iterator[str]:
    """Warn of datasets with rows that are trained without an end token."""
    ends = formatter.tokenizer.eog_ids
    if not trained_ends(formatter):
        return  # the base's own warnings already say this of all rows
    for name, corpus in corpora.items():
        samples = chained([corpus.samples, corpus.held_out])
        # Places of the last sample of each line, counted from the end.
        last = np.unique(lines_of(samples)[::-1], return_index=True)[1]
        endless = sum(int(s.ids[s.loss_mask][-1]) not in ends for s in drawn(samples, -1 - last))
        if endless:
            yield (
                f"{endless} of {counted(len(last), 'row')} of {name} are trained without an "
                "end token, so the model may not stop after such answers. Write the end token "
                "after the answer."
            )


def _check_precision(precision: str) -> None:
    """Raise ResourceError if llama-cpp-python has no bf16 matrix product that m2m can call."""
    if precision == "bf16" and not bfloat16.available():
        raise ResourceError(
            'precision = "bf16", and this llama-cpp-python has no product of bfloat16 matrices '
            "that m2m knows how to call",
            'set precision = "float32" in [train], or install llama-cpp-python 0.3.36',
        )


def _in_steps(inputs: Inputs) -> Recipe:
    """Return the recipe with its budget as a number of steps.

    Raises:
        InputError: there are no rows to replay.
    """
    recipe, train = inputs.recipe, inputs.recipe.train
    names = _used(inputs)
    if not names:  # only adapters from elsewhere, which need no steps
        return recipe
    if train.replay and not train.replay_from and len(names) < 2:
        raise InputError(
            f"{recipe.path}: replay draws rows from other datasets, and there is only one",
            "name a file in replay_from, or leave replay out",
        )
    row_mixes = [expert_corpus(inputs, inputs.corpora[name]).samples for name in names]
    train = dataclasses.replace(train, steps=budget(train, row_mixes), tokens=0)
    return dataclasses.replace(recipe, train=train)


def _used(inputs: Inputs) -> list[str]:
    """Return the datasets that are trained; all if none is, a case that the search refuses."""
    return [name for name in inputs.usable_names or inputs.corpora if inputs.corpora[name].samples]


def expert_corpus(inputs: Inputs, corpus: Corpus) -> Corpus:
    """Return a dataset with the rows that its expert replays, drawn by the recipe's seed."""
    train = inputs.recipe.train
    if not train.replay:
        return corpus
    others = [inputs.corpora[name] for name in _used(inputs) if name != corpus.name]
    sources = [inputs.replay] if inputs.replay else others
    rng = np.random.default_rng(train.seed)
    rows = replayed(corpus.samples, [source.samples for source in sources], train.replay, rng)
    mark = fingerprint(
        own=corpus.fingerprint,
        replay=train.replay,
        sources=[[source.fingerprint, len(source.samples)] for source in sources],
    )
    return Corpus(corpus.name, rows, corpus.held_out, mark)


def expert_passes(inputs: Inputs) -> dict[str, float]:
    """Return how often each expert sees each of its rows, on average, by dataset."""
    train = inputs.recipe.train
    return {
        name: passes(expert_corpus(inputs, inputs.corpora[name]).samples, train, train.steps)
        for name in _used(inputs)
    }


def _raise_all(errors: Sequence[M2MError], path: Path) -> None:
    """Raise a single error as it is, with its own hint; join several, each once."""
    errors = [*{error.message: error for error in errors}.values()]
    if len(errors) == 1:
        raise errors[0]
    problems = Problems()
    for error in errors:
        problems.add(f"{error.message}; {error.hint}" if error.hint else error.message)
    problems.raise_if_any(InputError, str(path), "correct these and run the command again")


def replay_file(recipe: Recipe) -> list[Dataset]:
    """Return the file of rows that all experts replay, if the recipe names one."""
    train = recipe.train
    return [Dataset(REPLAY, train.replay_from)] if train.replay and train.replay_from else []


def _replay(opened: Opened | None, recipe: Recipe) -> Corpus | None:
    """Return the rows that all experts replay, if the recipe names a file of them."""
    sources = replay_file(recipe)
    corpus = read_corpus(sources[0], opened, recipe) if sources else None
    if corpus is None:
        return None
    samples = chained([corpus.samples, corpus.held_out])
    return dataclasses.replace(corpus, samples=samples, held_out=[])


def read_tasks(
    recipe: Recipe, opened: Opened | None, tried: Callable[..., Any] = lambda read: read()
) -> tuple[dict[str, Task], dict[str, Task]]:
    """Read the targets: dev and test sets by name; `tried` may keep their errors for later."""
    dev: dict[str, Task] = {}
    test: dict[str, Task] = {}
    for target in recipe.targets:
        if task := tried(lambda t=target: _task(t, "dev", opened, recipe)):
            dev[target.name] = task
        if target.test and (task := tried(lambda t=target: _task(t, "test", opened, recipe))):
            test[target.name] = task
            tried(lambda t=task, n=target.name: refuse_same_rows(dev.get(n), t))
    return dev, test


def _task(target: Target, part: Side, opened: Opened | None, recipe: Recipe) -> Task:
    roots, form = recipe.roots, recipe.data.normalise
    task = normalised_task(load_target(target, part, roots), form)
    if opened is not None and task.kind != "text":  # a long text is scored in windows
        _check_lengths(task, *opened)
    return task


def _check_lengths(task: Task, base: BaseModel, formatter: Formatter) -> None:
    """Raise InputError with all examples that are longer than the model's context."""
    context, problems = base.config.max_position_embeddings, Problems()
    for example, asked in zip(task.examples, requests(task, formatter), strict=True):
        tokens = len(asked.prompt) + max(map(len, asked.continuations))
        if tokens > context:
            problems.add(
                f"line {example.line}: {counted(tokens, 'token')}, the model reads {context}"
            )
    problems.raise_if_any(InputError, str(task.path), "shorten these examples")
