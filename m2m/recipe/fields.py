"""The fields of a recipe, section by section; the only place of their defaults.

The dataclasses are frozen. Each field carries its help and the rules for its value; the command
line and the documentation are built from them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.recipe.strategies import AUTO, STRATEGIES, budget_help, for_any_weights, strategy_help

METRICS = (
    "auto",
    "choice_bits",
    "contrast_bits",
    "bits_per_byte",
    "accuracy",
    "accuracy_norm",
    "macro_f1",
    "ece",
    "exact_match",
    "f1",
    "chrf",
    "perplexity",
)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ANYTIME = "anytime"
SCHEDULES = (ANYTIME, "constant", "linear", "cosine")
QUANTIZATIONS = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
SCORING_TYPES = ("auto", *QUANTIZATIONS)
MERGE_METHODS = (
    "linear",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "breadcrumbs",
    "slerp",
)
WEIGHTS = ("subsets", "simplex")
COMBINES = ("mean", "pareto")
BASELINES = ("all", "union", "best_single")
STYLES = ("auto", "chat", "plain", "raw")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # BCP 47: sw, swh, zh-Hant


def _set(default: Any, text: str, **rules: Any) -> Any:
    """Declare a field with default, help and rules for its value (`choices`, `low`, `high`)."""
    return field(default=default, metadata={"help": text, **rules})


def _need(text: str, **rules: Any) -> Any:
    """Declare a field without a default."""
    return field(metadata={"help": text, **rules})


@dataclass(frozen=True)
class Base:
    """`[base]`: the model that every expert starts from."""

    model: str = _need("a folder under models/, or a path to one")
    template: str = _set(
        "chat", "the model's own chat template, or plain text", choices=("chat", "plain")
    )
    hub: str = _set("", "its identifier on the Hugging Face hub, for the model card")


@dataclass(frozen=True)
class Dataset:
    """`[[datasets]]`: one candidate training set."""

    name: str = _need("short name, unique in the recipe", pattern=NAME)
    path: Path = _need("JSONL, JSON, CSV, TSV or text file", exists=True)
    licence: str = _set("", "licence of the data, carried into the report and the model card")
    source: str = _set("", "where the data comes from")
    notes: str = _set("", "anything a reader should know")
    languages: tuple[str, ...] = _set(
        (), 'codes of the rows\' languages, such as ["sw", "en"]', pattern=LANGUAGE
    )


@dataclass(frozen=True)
class Target:
    """`[[targets]]`: the task that the model shall do well."""

    name: str = _need("short name, unique in the recipe", pattern=NAME)
    dev: Path = _need(
        "examples that the search may see: rows, or a task file (YAML) of lm-evaluation-harness",
        exists=True,
    )
    test: Path | None = _set(None, "examples kept for the confirmation", exists=True)
    metric: str = _set(
        "auto", "what is compared; auto follows the kind of the target", choices=METRICS
    )
    weight: float = _set(1.0, "weight in the mean over several targets", low=0.0)
    prompt: str = _set(
        "", "template of the question, with fields in braces; default: the row's question or prompt"
    )
    answer: str = _set("", "template of the right answer; default: the row's answer")
    choices: tuple[str, ...] = _set((), "what every row can be answered with: its labels")
    answers: str = _set(
        "auto",
        "how an answer names its choice: by its text, its letter, or its place counted from 0 or "
        "from 1; auto: as all rows show",
        choices=("auto", "text", "letter", "index0", "index1"),
    )
    template: str = _set(
        "auto",
        "how a row is asked: in the chat template, as prompt, newline, answer (plain), or with "
        "nothing between (raw); auto follows [base], and is raw for a task file",
        choices=STYLES,
    )
    instruction: str = _set("", "said before anything else")
    shots: int = _set(0, "solved examples before the question", low=0)
    shots_from: Path | None = _set(
        None, "rows that they are drawn from; none: the dev set", exists=True
    )
    shots_seed: int = _set(0, "seed of that draw", low=0)
    answer_prefix: str = _set(
        "", "words before every answer; they are given with the question and not scored"
    )
    answer_suffix: str = _set(
        "", "words after every solved example's answer; not scored; a written answer ends there"
    )
    stop: tuple[str, ...] = _set((), "texts that end a written answer")
    max_tokens: str | int = _set(
        "auto",
        "tokens at which a written answer is cut; auto: half as many again as the longest right "
        "answer has, and 16",
        choices=("auto",),
        low=1,
    )
    window: int = _set(
        0,
        "score a text in windows of this many tokens, as llama-perplexity does; 0: row by row",
        low=0,
    )


@dataclass(frozen=True)
class Train:
    """`[train]`: how one adapter is trained; the same for every dataset."""

    rank: int = _set(16, "rank of the LoRA matrices", low=1, high=1024)
    alpha: float = _set(32.0, "LoRA alpha: the delta is alpha / rank * B @ A", low=1e-6)
    target_modules: tuple[str, ...] = _set(
        PROJECTIONS, "projections that get an adapter", choices=PROJECTIONS
    )
    steps: int = _set(200, "steps of every expert; or epochs or tokens", low=1, one_of="budget")
    epochs: float = _set(
        0.0, "passes over the rows of an average dataset", low=0.0, one_of="budget"
    )
    tokens: int = _set(
        0,
        "tokens that every expert is trained on at least, prompts included",
        low=0,
        one_of="budget",
    )
    batch_tokens: int = _set(512, "tokens per step, at most", low=16)
    accumulate: int = _set(1, "batches per optimiser step", low=1)
    learning_rate: float = _set(1e-3, "peak learning rate of AdamW", low=0.0)
    schedule: str = _set(
        "cosine",
        "shape of the learning rate after the warm-up; anytime: constant, and the adapter is an "
        "average of about the last tenth of the steps, so that a training can always go on",
        choices=SCHEDULES,
    )
    warmup: float = _set(
        0.05, "fraction of the steps with a rising learning rate", low=0.0, high=1.0
    )
    weight_decay: float = _set(0.0, "decoupled weight decay", low=0.0)
    clip: float = _set(1.0, "largest global norm of a gradient; 0: no clipping", low=0.0)
    precision: str = _set(
        "float32",
        "of the large products in training; bf16 is faster on processors that have it (see m2m "
        "doctor), and rounds weights and activations to 8 bits",
        choices=("float32", "bf16"),
    )
    max_length: int = _set(512, "longest row allowed, in tokens", low=8)
    holdout: float = _set(
        0.05,
        "fraction of a dataset of 200 rows or more that is kept out of training, to keep the "
        "adapter of the step that does best on it; 0: the last step's",
        low=0.0,
        high=0.5,
    )
    patience: int = _set(
        0, "stop early after this many checkpoints without improvement; 0: never", low=0
    )
    replay: float = _set(
        0.0,
        "fraction of an expert's rows from the other datasets or replay_from",
        low=0.0,
        high=0.9,
    )
    replay_from: Path | None = _set(None, "file of rows to replay", exists=True)
    checkpoint_every: int = _set(25, "steps between two checkpoints", low=1)
    seed: int = _set(0, "seed of the initial weights and of the order of rows", low=0)


@dataclass(frozen=True)
class Merge:
    """`[merge]`: how the experts' deltas become one."""

    method: str = _set("linear", "merge method", choices=MERGE_METHODS)
    scale: float = _set(1.0, "factor on the merged delta", low=0.0)
    growth: str | float = _set(
        "auto",
        "how the delta of k datasets grows: k^growth times their mean; 0 is the mean, 1 the sum; "
        'auto: 0, or 0.5 where [confirm] budget is "proportional"',
        choices=("auto",),
        low=0.0,
        high=1.0,
    )
    density: float = _set(
        0.2,
        "fraction of a delta's values that ties, dare, della and breadcrumbs keep",
        low=0.01,
        high=1.0,
    )
    epsilon: float = _set(0.1, "della: how far the chances to be kept lie apart", low=0.0, high=1.0)
    gamma: float = _set(
        0.01, "breadcrumbs: fraction of the largest values that is dropped", low=0.0, high=0.5
    )
    seed: int = _set(0, "seed of what dare and della drop", low=0)


@dataclass(frozen=True)
class Quantize:
    """`[quantize]`: ggml types of the surrogates and of the exported model."""

    type: str = _set(
        "q8_0",
        "type in which surrogates are scored; auto: of f16, bf16 and q8_0 the fastest here",
        choices=SCORING_TYPES,
    )
    export: str = _set("q8_0", "type of the exported GGUF", choices=QUANTIZATIONS)


@dataclass(frozen=True)
class Search:
    """`[search]`: which mixtures are scored."""

    strategy: str = _set(AUTO, strategy_help(), choices=(AUTO, *STRATEGIES))
    weights: str = _set(
        "subsets",
        f"equal weights (subsets) or any (simplex, by {' or '.join(for_any_weights())} search)",
        choices=WEIGHTS,
    )
    budget: float = _set(0.0, budget_help(), low=0.0)
    max_datasets: int = _set(0, "largest mixture; 0: no limit", low=0)
    max_tokens: int = _set(0, "tokens of a mixture's datasets together; 0: no limit", low=0)
    required: tuple[str, ...] = _set((), "datasets that every mixture has", empty=True)
    excluded: tuple[str, ...] = _set(
        (), "datasets that no mixture has; they are not trained", empty=True
    )
    licences: tuple[str, ...] = _set((), "the only licences allowed; none given: any", empty=True)
    combine: str = _set(
        "mean",
        "several targets: their weighted mean (mean), or the mean and the Pareto front (pareto)",
        choices=COMBINES,
    )
    seed: int = _set(0, "seed of everything random in search and ranking", low=0)


@dataclass(frozen=True)
class Confirm:
    """`[confirm]`: the real fine-tunes after the search."""

    top: int = _set(2, "mixtures from the top of the ranking", low=1)
    baselines: tuple[str, ...] = _set(
        BASELINES,
        "comparisons that are fine-tuned too: all datasets in equal shares (all), all rows of all "
        "datasets, each once (union), the best single dataset",
        choices=BASELINES,
    )
    budget: str | int = _set(
        "fixed",
        "steps of a confirming fine-tune: fixed (those of one expert), proportional (times the "
        "number of datasets), or a number",
        choices=("fixed", "proportional"),
        low=1,
    )


@dataclass(frozen=True)
class Validate:
    """`[validate]`: how `m2m validate` checks the ranking against real fine-tunes."""

    mixtures: int = _set(24, "mixtures of two datasets or more that are fine-tuned", low=1)
    seed: int = _set(0, "seed of which mixtures these are", low=0)


@dataclass(frozen=True)
class Limits:
    """`[limits]`: the parts of this machine that the run may use."""

    threads: str | int = _set("auto", "threads for training and scoring", choices=("auto",), low=1)
    memory: str | float = _set(
        "auto", "GiB for training; auto: most of what is free", choices=("auto",), low=0.1
    )
    workers: int = _set(
        1, "processes that train adapters side by side; threads and memory are divided", low=1
    )
    gpu_layers: int = _set(
        0, "layers that llama.cpp scores on a GPU, if its build supports one; -1: all", low=-1
    )


@dataclass(frozen=True)
class Report:
    """`[report]`: the assumptions of the report."""

    watts: float = _set(
        30.0, "power that the machine draws while it works, for the energy estimate", low=0.0
    )


@dataclass(frozen=True)
class Recipe:
    """Everything about a run, checked.

    `roots` are more folders in which its files may be; they come from the user, not from the file.
    """

    path: Path
    base: Base
    datasets: tuple[Dataset, ...]
    targets: tuple[Target, ...]
    train: Train = Train()
    merge: Merge = Merge()
    quantize: Quantize = Quantize()
    search: Search = Search()
    confirm: Confirm = Confirm()
    validate: Validate = Validate()
    limits: Limits = Limits()
    report: Report = Report()
    roots: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Return the folder of the results."""
        return run_folder(self.path)

    @property
    def growth(self) -> float:
        """Return `[merge] growth` as a number: auto follows the regime of the real fine-tunes.

        With steps in proportion, a fine-tune goes as far along every dataset as its expert went.
        The directions hardly overlap, so it goes about sqrt(k) times as far as one of them.
        Measured in examples/swahili/RESULTS.md. An arc (slerp) is already as long as its ends.
        """
        if not isinstance(self.merge.growth, str):
            return self.merge.growth
        if self.merge.method == "slerp":
            return 0.0
        return 0.5 if self.confirm.budget == "proportional" else 0.0


def run_folder(recipe: Path) -> Path:
    """Return the folder of a recipe's results: `m2m-runs/NAME/` in the recipe's folder."""
    return recipe.parent / "m2m-runs" / recipe.stem


SECTIONS: dict[str, type] = {
    "base": Base,
    "train": Train,
    "merge": Merge,
    "quantize": Quantize,
    "search": Search,
    "confirm": Confirm,
    "validate": Validate,
    "limits": Limits,
    "report": Report,
}
LISTS: dict[str, type] = {"datasets": Dataset, "targets": Target}


def as_json(section: Any) -> dict[str, Any]:
    """Return a section as plain JSON values with defaults, as covered by a result's fingerprint."""
    plain = dataclasses.asdict(section)
    return {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()}


def changed(recipe: Recipe, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return the recipe with changed fields, by section and name; None keeps the field's value."""
    sections = {}
    for name, fields in changes.items():
        values = {key: value for key, value in fields.items() if value is not None}
        sections[name] = dataclasses.replace(getattr(recipe, name), **values)
    return dataclasses.replace(recipe, **sections)
