"""m2m from Python: `from m2m import Recipe, Run`.

A `Run` has a method for each step; each calls what the command of the same step calls. Results are
dataclasses with `to_dict()`. docs/python.md has examples.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from m2m.arrays import F64
from m2m.commands.eval import Comparison, Reading, compare_models
from m2m.commands.merge import Merged, merge_adapters
from m2m.commands.models import AUTO
from m2m.counted import counted
from m2m.errors import InputError, M2MError, refuse_other
from m2m.evaluate.metric import Metric, mean_of
from m2m.evaluate.metrics import METRICS, measure_all
from m2m.evaluate.score import Measured
from m2m.evaluate.scores import KINDS, Scores
from m2m.formats.journal import Journal
from m2m.formats.json_fields import Inline, JsonFields
from m2m.mix.mixture import Mixture
from m2m.mix.study import Study
from m2m.pipeline.run import Run as Steps
from m2m.pipeline.scorer import open_scorer
from m2m.progress import Progress, Silent
from m2m.recipe import Recipe
from m2m.recipe.data_fields import NAME
from m2m.results.confirmation import Confirmation
from m2m.results.export import Exported
from m2m.results.folder import RunFolder
from m2m.results.more_rows import MoreRows
from m2m.results.outcome import RunResult
from m2m.results.ranking import Ranking
from m2m.results.training import Trained
from m2m.results.validation import Validation
from m2m.store import run_lock

__all__ = [
    "M2MError",
    "M2MWarning",
    "Metric",
    "MixtureScore",
    "Recipe",
    "Run",
    "Scores",
    "own_metric",
]

Datasets = Iterable[str] | Mapping[str, float]


class M2MWarning(UserWarning):
    """A warning that the command line would print, through Python's own `warnings`."""


class _Warns(Silent):
    """Shows nothing but warnings."""

    def warn(self, text: str) -> None:
        """Pass a warning to Python's own."""
        warnings.warn(text, M2MWarning, stacklevel=2)


@dataclass(frozen=True)
class MixtureScore(JsonFields):
    """The scores of a mixture's merge on the dev questions.

    Attributes:
        mixture: datasets and weights; none for the base.
        metrics: by target and metric, value and standard error.
    """

    mixture: Inline[Mixture]
    metrics: Mapping[str, Measured]


def own_metric(
    name: str, function: Callable[[Scores], F64], *, higher_is_better: bool, written: bool = False
) -> Metric:
    """Make a metric of a function; its value is the mean over the examples.

    Args:
        name: in results; not the name of one of m2m's metrics.
        function: returns (n,) finite numbers for the scores of n examples.
        higher_is_better: the metric's direction.
        written: whether it judges the texts that the model writes (`Scores.predictions`).

    Raises:
        InputError: the name is taken, or cannot be part of a file's name.
    """
    if name in METRICS or not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be the name of a metric of your own", "choose another")

    def each(scores: Scores) -> F64:
        values = np.asarray(function(scores), np.float64)
        if values.shape != (len(scores),) or not np.isfinite(values).all():
            raise InputError(
                f"metric {name}: returned shape {values.shape} or numbers that are not finite, "
                f"expected a finite number for each of {counted(len(scores), 'example')}"
            )
        return values

    end = math.inf if higher_is_better else -math.inf
    kinds = ("answer",) if written else KINDS
    return Metric(
        name,
        kinds,
        higher_is_better,
        mean_of(each),
        each,
        lambda scores: None,
        mean=True,
        written=written,
        best=end,
    )


class Run:
    """A recipe's run, in its own folder, like `m2m run`; finished work is never made again.

    A method locks the folder while it works. As a context manager a run stays locked from its
    first method to the end of the block.

    Args:
        recipe: a recipe or its file.
        overrides: other values for its fields, as {"train.seed": 1}; only with a file.
        out: folder for the results; only with a file.
        metric: a metric from `own_metric` that judges all targets, in place of the recipe's.
        progress: gets bars, notes and warnings; None: warnings are Python's own, `M2MWarning`.
        allow_leaks: whether to train on rows that are also dev or test questions.
        anyway: whether to export a model that the verdict is against.

    Raises:
        M2MError: the recipe is wrong.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        *,
        overrides: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        metric: Metric | None = None,
        progress: Progress | None = None,
        allow_leaks: bool = False,
        anyway: bool = False,
    ) -> None:
        if isinstance(recipe, Recipe):
            if overrides or out:
                raise InputError("overrides and out need the recipe's file", "use Recipe.load")
        else:
            recipe = Recipe.load(recipe, overrides=overrides, out=out)
        refuse_other("metric", metric, Metric | None, "a metric from own_metric")
        self.recipe = recipe if metric is None else _judged_by(metric, recipe)
        self.folder = self.recipe.folder
        self._metric, self._allow_leaks, self._anyway = metric, allow_leaks, anyway
        self._progress = progress or _Warns()
        self._kept: Steps | None = None
        self._open = ExitStack()
        self._locked = self._stays = False

    def __enter__(self) -> Run:
        self._stays = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stays = self._locked = False
        self._open.close()

    def train(self) -> list[Trained]:
        """Train an expert for each dataset, like `m2m train`."""
        with self._steps() as steps:
            return steps.train()

    def rank(self) -> Ranking:
        """Score and rank the mixtures, like `m2m search`."""
        with self._steps() as steps:
            return steps.search()

    def score(self, datasets: Datasets) -> MixtureScore:
        """Score the merge of some datasets' experts on the dev questions; none: the base.

        Args:
            datasets: names, with equal weights, or weights by name; they are scaled to sum to 1.
        """
        mixture = self._mixture(datasets)
        with self._steps() as steps:
            run = steps.trained_run
            inputs = run.inputs
            with open_scorer(inputs, run.experts, inputs.dev) as scorer:
                trial = Study(Journal(run.files.study), scorer).trial(mixture)
            names = {each.target: each.metric.name for each in inputs.objectives}
            return MixtureScore(
                mixture,
                {
                    target: measure_all(scores, also=names[target])
                    for target, scores in trial.scores.items()
                },
            )

    def merge(
        self,
        datasets: Datasets,
        out: str | Path,
        *,
        type: str | None = None,
        rank: int | None = None,
    ) -> Merged:
        """Write the merge of some datasets' experts, like `m2m merge`, as the search merges them.

        Args:
            datasets: as for `score`.
            out: NAME.gguf, or a folder.
            type: type of the weights; None: q8_0 for a GGUF, the base's own for a folder.
            rank: write a LoRA adapter of this rank, not a model.
        """
        refuse_other("out", out, str | Path, "a file or folder")
        refuse_other("rank", rank, int | None, "a whole number")
        mixture = self._mixture(datasets)
        with self._steps() as steps:
            run, recipe = steps.trained_run, steps.recipe
            factors = mixture.coefficients(recipe.growth)
            pairs = zip(mixture.datasets, factors, strict=True)
            adapters = [f"{run.experts[name]}={factor!r}" for name, factor in pairs]
            model = str(run.inputs.base.info.path)
            return merge_adapters(model, adapters, recipe.merge, type, rank, Path(out))

    def confirm(self) -> Confirmation:
        """Really fine-tune the best mixtures and the baselines, like `m2m confirm`."""
        with self._steps() as steps:
            return steps.confirm()

    def validate(self) -> Validation:
        """Compare the ranking with real fine-tunes, like `m2m validate`."""
        with self._steps() as steps:
            return steps.validate()

    def more_rows(self, datasets: Sequence[str] = ()) -> MoreRows:
        """Measure how much more rows of datasets would help, like `m2m more-rows`."""
        _refuse_text(datasets)
        with self._steps() as steps:
            return steps.more_rows(datasets)

    def export(self) -> Exported:
        """Write the winner as GGUF, like `m2m export`.

        Raises:
            InputError: the verdict is against it, and `anyway` is not set.
        """
        with self._steps() as steps:
            return steps.export()

    def run(self) -> RunResult:
        """Do everything, like `m2m run`."""
        with self._steps() as steps:
            return steps.run()

    def evaluate(self, *models: str | Path) -> Comparison:
        """Score models on the recipe's test questions (dev if a target has none), like `m2m eval`.

        Args:
            models: GGUF files or names under models/; none: the base.
        """
        recipe, style = self.recipe, self.recipe.base.template
        names = [str(model) for model in models or [recipe.base.model]]
        parts = []
        with self._registered():
            for target in recipe.targets:
                how = target if style == "chat" else dataclasses.replace(target, template="plain")
                reading = Reading(recipe.roots, recipe.data.normalise, AUTO)
                file = target.test or target.dev
                parts.append(compare_models(names, [file], how, None, self._progress, reading))
        return Comparison(
            [each for part in parts for each in part.results],
            [each for part in parts for each in part.differences],
            [each for part in parts for each in part.warnings],
            groups=[each for part in parts for each in part.groups],
        )

    def _mixture(self, datasets: Datasets) -> Mixture:
        _refuse_text(datasets)
        weights = datasets if isinstance(datasets, Mapping) else dict.fromkeys(datasets, 1.0)
        known = [dataset.name for dataset in self.recipe.datasets]
        if unknown := [name for name in weights if name not in known]:
            missing = ", ".join(map(str, unknown))
            raise InputError(f"no dataset {missing}", f"known are {', '.join(known)}")
        for name, weight in weights.items():
            refuse_other(f"weight of {name}", weight, int | float | np.number, "a number")
        values = [float(weight) for weight in weights.values()]
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise InputError(f"weights must be above 0, found {values}")
        total = sum(values)
        ordered = [name for name in known if name in weights]  # the recipe's order, as in a search
        if len({*values}) <= 1:
            return Mixture.uniform(ordered) if ordered else Mixture((), ())
        return Mixture(tuple(ordered), tuple(weights[name] / total for name in ordered))

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Let results name the metric of one's own, as long as a method works."""
        if self._metric is None:
            yield
            return
        METRICS[self._metric.name] = self._metric
        try:
            yield
        finally:
            del METRICS[self._metric.name]

    @contextmanager
    def _steps(self) -> Iterator[Steps]:
        """Hold the folder and yield the steps, whose results are kept for the next method."""
        with ExitStack() as stack, self._registered():
            if not self._locked:
                RunFolder(self.folder).refuse_links()
                place = self._open if self._stays else stack
                place.enter_context(run_lock(self.folder))
                self._locked = self._stays
            if self._kept is None:
                self._kept = Steps(
                    self.recipe,
                    self._progress,
                    allow_leaks=self._allow_leaks,
                    anyway=self._anyway,
                )
            yield self._kept


def _refuse_text(datasets: Datasets) -> None:
    """Refuse one name, whose letters would be names, and anything else that holds no names."""
    kinds = () if isinstance(datasets, str) else Iterable
    refuse_other("datasets", datasets, kinds, "names in a list, or weights by name in a dict")


def _judged_by(metric: Metric, recipe: Recipe) -> Recipe:
    """Return the recipe with this metric for all targets; its results have their own folder."""
    targets = tuple(dataclasses.replace(each, metric=metric.name) for each in recipe.targets)
    own = {f"targets.{each.name}.metric": metric.name for each in targets}
    return dataclasses.replace(recipe, targets=targets, overrides={**recipe.overrides, **own})
