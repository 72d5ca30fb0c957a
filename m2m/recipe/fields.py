"""The fields of a recipe, section by section; the only place of their defaults.

The dataclasses are frozen. Each field carries its help and the rules for its value; the command
line and the documentation are built from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m2m.recipe.data_fields import needed, optional
from m2m.recipe.strategies import AUTO, NAMES, budget_help, for_any_weights, strategy_help

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ANYTIME = "anytime"
ENDING = ("constant", "linear", "cosine")  # schedules that belong to one number of steps
SCHEDULES = ("auto", ANYTIME, *ENDING)
UNTIL = "until"
BUDGETS = (UNTIL, "fixed", "proportional")
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
RESOLVED = "recipe.json"  # a run's folder has its recipe with all defaults in this file


@dataclass(frozen=True)
class Base:
    """`[base]`: the model that every expert starts from."""

    model: str = needed("a folder under models/, or a path to one")
    template: str = optional(
        "chat", "the model's own chat template, or plain text", choices=("chat", "plain")
    )
    template_variables: dict[str, str | int | bool] | None = optional(
        None,
        "fixed variables of the chat template, such as { enable_thinking = false }",
        table="template_variables",
    )
    hub: str = optional("", "its identifier on the Hugging Face hub, for the model card")


@dataclass(frozen=True)
class Data:
    """`[data]`: how the texts of all datasets and targets are read."""

    normalise: str = optional(
        "as is",
        "Unicode normal form of all texts, so that datasets and targets write letters alike",
        choices=("as is", "NFC", "NFD"),
        later=True,
    )


@dataclass(frozen=True)
class Train:
    """`[train]`: how one adapter is trained; the same for every dataset."""

    rank: int = optional(16, "rank of the LoRA matrices", low=1, high=1024)
    alpha: float = optional(32.0, "LoRA alpha: the delta is alpha / rank * B @ A", low=1e-6)
    target_modules: tuple[str, ...] = optional(
        PROJECTIONS, "projections that get an adapter", choices=PROJECTIONS
    )
    steps: int = optional(200, "steps of every expert; or epochs or tokens", low=1, one_of="budget")
    epochs: float = optional(
        0.0, "passes over the rows of an average dataset", low=0.0, one_of="budget"
    )
    tokens: int = optional(
        0,
        "tokens that every expert is trained on at least, prompts included",
        low=0,
        one_of="budget",
    )
    batch_tokens: int = optional(512, "tokens per step, at most", low=16)
    accumulate: int = optional(1, "batches per optimiser step", low=1)
    learning_rate: float = optional(1e-3, "peak learning rate of AdamW", low=0.0)
    schedule: str = optional(
        "auto",
        "shape of the learning rate after the warm-up; anytime: constant, and the adapter is an "
        "average of about the last tenth of the steps, so that a training can always go on; auto: "
        'anytime if [confirm] budget is "until", else cosine',
        choices=SCHEDULES,
    )
    warmup: float = optional(
        0.05, "fraction of the steps with a rising learning rate", low=0.0, high=1.0
    )
    weight_decay: float = optional(0.0, "decoupled weight decay", low=0.0)
    clip: float = optional(1.0, "largest global norm of a gradient; 0: no clipping", low=0.0)
    precision: str = optional(
        "float32",
        "of the large products in training; bf16 is faster on processors that have it (see m2m "
        "doctor), and rounds weights and activations to 8 bits; q8_0 rounds the base's weights to "
        "8 bits while it trains, in half the memory of 16 bits",
        choices=("float32", "bf16", "q8_0"),
    )
    max_length: int = optional(512, "longest row allowed, in tokens", low=8)
    long_rows: str = optional(
        "refuse",
        "rows that are longer: refuse the dataset, skip them, or truncate their questions in the "
        "middle, never an answer",
        choices=("refuse", "skip", "truncate"),
        later=True,
    )
    holdout: float = optional(
        0.05,
        "fraction of a dataset of 200 rows or more that is kept out of training, to keep the "
        "adapter of the step that does best on it; 0: the last step's",
        low=0.0,
        high=0.5,
    )
    patience: int = optional(
        0, "stop early after this many checkpoints without improvement; 0: never", low=0
    )
    replay: float = optional(
        0.0,
        "fraction of an expert's rows from the other datasets or replay_from",
        low=0.0,
        high=0.9,
    )
    replay_from: Path | None = optional(None, "file of rows to replay", exists=True)
    checkpoint_every: int = optional(25, "steps between two checkpoints", low=1)
    seed: int = optional(0, "seed of the initial weights and of the order of rows", low=0)

    @property
    def shape(self) -> str:
        """Return the schedule as the trainer takes it; `load_recipe` has settled "auto" before."""
        return "cosine" if self.schedule == "auto" else self.schedule


@dataclass(frozen=True)
class Merge:
    """`[merge]`: how the experts' deltas become one."""

    method: str = optional("linear", "merge method", choices=MERGE_METHODS)
    scale: float = optional(1.0, "factor on the merged delta", low=0.0)
    growth: str | float = optional(
        "auto",
        "how the delta of k datasets grows: k^growth times their mean; 0 is the mean, 1 the sum; "
        'auto: 0, or 0.5 if [confirm] budget is "proportional"',
        choices=("auto",),
        low=0.0,
        high=1.0,
    )
    density: float = optional(
        0.2,
        "fraction of a delta's values that ties, dare, della and breadcrumbs keep",
        low=0.01,
        high=1.0,
    )
    epsilon: float = optional(
        0.1,
        "della: difference between the largest and the smallest chance to be kept",
        low=0.0,
        high=1.0,
    )
    gamma: float = optional(
        0.01, "breadcrumbs: fraction of the largest values that is dropped", low=0.0, high=0.5
    )
    seed: int = optional(0, "seed of the entries that dare and della drop", low=0)


@dataclass(frozen=True)
class Quantize:
    """`[quantize]`: ggml types of the surrogates and of the exported model."""

    type: str = optional(
        "q8_0",
        "type in which surrogates are scored; auto: of f16, bf16 and q8_0 the fastest here",
        choices=SCORING_TYPES,
    )
    export: str = optional("q8_0", "type of the exported GGUF", choices=QUANTIZATIONS)


@dataclass(frozen=True)
class Search:
    """`[search]`: which mixtures are scored."""

    strategy: str = optional(AUTO, strategy_help(), choices=NAMES)
    weights: str = optional(
        "subsets",
        f"equal weights (subsets) or any (simplex, by {' or '.join(for_any_weights())} search)",
        choices=WEIGHTS,
    )
    budget: float = optional(0.0, budget_help(), low=0.0)
    max_datasets: int = optional(0, "largest mixture; 0: no limit", low=0)
    max_tokens: int = optional(0, "tokens of a mixture's datasets together; 0: no limit", low=0)
    required: tuple[str, ...] = optional((), "datasets that every mixture has", empty=True)
    excluded: tuple[str, ...] = optional(
        (), "datasets that no mixture has; they are not trained", empty=True
    )
    licences: tuple[str, ...] = optional(
        (), "the only licences allowed; none given: any", empty=True
    )
    combine: str = optional(
        "mean",
        "several targets: their weighted mean (mean), or the mean and the Pareto front (pareto)",
        choices=COMBINES,
    )
    seed: int = optional(0, "seed of everything random in search and ranking", low=0)


@dataclass(frozen=True)
class Confirm:
    """`[confirm]`: the real fine-tunes after the search."""

    top: int = optional(2, "mixtures from the top of the ranking", low=1)
    baselines: tuple[str, ...] = optional(
        BASELINES,
        "comparisons that are fine-tuned too: all datasets in equal proportions (all), all rows of "
        "all datasets, each once (union), the best single dataset",
        choices=BASELINES,
    )
    budget: str | int = optional(
        UNTIL,
        "steps of a confirming fine-tune: until (all start with those of one expert, the better "
        "half goes on to twice as many, and the last one trains as long as it pays), fixed (those "
        "of one expert), proportional (times the number of datasets), or a number",
        choices=BUDGETS,
        low=1,
    )
    nested: int = optional(
        3,
        "until: the best two datasets together contend too, and so on up to this many; 1: none",
        low=1,
        later=True,
    )
    patience: int = optional(
        4,
        "until: stop the last training after this many checks, each of half an expert's steps, in "
        "which neither the dev score nor the held-out loss improved",
        low=1,
    )
    max_passes: float = optional(
        20.0, "until: stop the last training when it has seen a dataset this often", low=1.0
    )
    drop: bool = optional(
        False,
        "until: leave a dataset out of the last training once its held-out loss alone rises",
        later=True,
    )


@dataclass(frozen=True)
class Validate:
    """`[validate]`: how `m2m validate` checks the ranking against real fine-tunes."""

    mixtures: int = optional(24, "mixtures of two datasets or more that are fine-tuned", low=1)
    seed: int = optional(0, "seed of which mixtures these are", low=0)


@dataclass(frozen=True)
class Limits:
    """`[limits]`: the parts of this machine that the run may use."""

    threads: str | int = optional(
        "auto", "threads for training and scoring", choices=("auto",), low=1
    )
    memory: str | float = optional(
        "auto", "GiB for training; auto: most of the free memory", choices=("auto",), low=0.1
    )
    workers: int = optional(
        1, "processes that train adapters side by side; threads and memory are divided", low=1
    )
    device: str = optional(
        "cpu",
        "where adapters are trained: cpu, gpu, or auto for a GPU if there is one that computes the "
        "model's family; scoring has `gpu_layers`",
        choices=("auto", "cpu", "gpu"),
    )
    gpu_layers: int = optional(
        0, "layers that llama.cpp scores on a GPU, if its build supports one; -1: all", low=-1
    )


@dataclass(frozen=True)
class Report:
    """`[report]`: the head of the report, and its assumptions."""

    title: str = optional("", "title of the report; default: the recipe's name", later=True)
    project: str = optional("", "project that the report names", later=True)
    author: str = optional("", "people that the report names", later=True)
    date: str = optional("", "date of the report; default: the day of the last work", later=True)

    watts: float = optional(
        30.0,
        "power that the machine draws while it works, for the energy estimate; GPUs that measure "
        "their own add it",
        low=0.0,
    )
    tensorboard: str = optional(
        "no",
        "write losses also as TensorBoard's event files, with its package",
        choices=("no", "yes"),
        later=True,
    )
