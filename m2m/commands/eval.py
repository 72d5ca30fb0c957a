"""Compare models on tasks: scores with errors, breakdowns and paired differences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m2m.commands.eval_groups import (
    GroupResult,
    group_results,
    load_with_groups,
    refuse_same_names,
)
from m2m.commands.models import STORED, gguf_of, open_as, scored_as
from m2m.dataset.normal_form import AS_IS
from m2m.errors import Interrupted
from m2m.evaluate.answer_log import samples
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.harness_results import Reported, own, reported
from m2m.evaluate.harness_samples import Asked
from m2m.evaluate.metric import Metric, resample
from m2m.evaluate.metrics import METRICS, metrics_of
from m2m.evaluate.normalised import normalised_task
from m2m.evaluate.same import in_words
from m2m.evaluate.scores import Scores
from m2m.evaluate.targets import asked_to_write, load_target
from m2m.evaluate.task_groups import Member
from m2m.evaluate.tasks import Task
from m2m.formats.atomic import write_text
from m2m.formats.gguf import GGUFFile
from m2m.formats.json_fields import JsonFields, plain
from m2m.formats.json_text import json_text
from m2m.merge.belonging import lora_doubts
from m2m.mix.ranking import Interval, ahead
from m2m.mix.verdict import LEAST
from m2m.pipeline.inputs import formatter_as_trained
from m2m.progress import Progress, Silent
from m2m.recipe import Target

SCHEMA = 2  # of `m2m eval --json`; 1 had another shape for one model on one task
_SEED = 0  # seed of the resamples: the same for all models and tasks


@dataclass(frozen=True)
class Evaluated:
    """One model's scores on one task.

    Attributes:
        model: the model as the user named it.
        path: its file.
        type: the type of the weights that were scored.
        task: the task with the choices that were drawn.
        pieces: how the scored texts are cut into tokens: equal for equal tokenizers.
        asked: the texts that the model reads for an example (`Evaluator.asked`).
        only: the one metric that the user asked for, or None.
    """

    model: str
    path: Path
    type: str
    task: Task
    scores: Scores
    pieces: str
    asked: Asked
    only: str | None = None

    @property
    def metrics(self) -> list[str]:
        """Return the names of m2m's own metrics that are shown."""
        return [self.only] if self.only else [metric.name for metric in metrics_of(self.scores)]

    @functools.cached_property
    def of_task(self) -> tuple[list[Reported], tuple[str, ...]]:
        """Return a task file's own metrics, and notes about those that m2m does not have."""
        return reported(self.task, self.scores)

    @property
    def reported(self) -> list[Reported]:
        """Return the metrics in lm-evaluation-harness's form: a task file's, or else m2m's."""
        return self.of_task[0] or own(self.scores, "m2m_" if self.task.harness else "")

    def as_json(self) -> dict[str, Any]:
        """Return one of the `results` of `m2m eval --json`."""
        theirs = {
            each.key: {**each.score.as_json(), "higher_is_better": each.higher_is_better}
            for each in self.of_task[0]
        }
        return {
            "model": str(self.path),
            "name": self.model,
            "type": self.type,
            "task": str(self.task.path),
            "examples": len(self.scores),
            "different": self.scores.different,
            "metrics": self._measured(self.scores),
            **({"harness": theirs} if theirs else {}),
            **({"answers": self.task.answers} if self.task.answers else {}),
            **self._cut(),
            "facets": {
                name: {"examples": len(part), "metrics": self._measured(part)}
                for name, part in self.scores.by_facet().items()
            },
        }

    def _cut(self) -> dict[str, Any]:
        """Count the written answers that were cut; empty for a task without written answers."""
        if not self.scores.predictions:
            return {}
        scores = self.scores
        return {"cut": sum(scores.cut), "max_tokens": scores.limit, "longest_right": scores.longest}

    def _measured(self, scores: Scores) -> dict[str, dict[str, float]]:
        return {name: METRICS[name].measure(scores).as_json() for name in self.metrics}


@dataclass(frozen=True)
class Difference(JsonFields):
    """How far a model is ahead of the first one by a metric, on the same examples.

    `ahead` is None if the numbers do not compare, and `reason` says why. Above 0 the model is
    better. `difference` has the metric's own direction: its value minus that of the first one.
    """

    model: str
    against: str
    task: str
    metric: str
    ahead: Interval | None
    reason: str = ""

    @property
    def difference(self) -> Interval | None:
        """Return the model's value minus that of the first one."""
        lead = self.ahead
        if lead is None or METRICS[self.metric].higher_is_better:
            return lead
        return Interval(-lead.estimate, -lead.high, -lead.low)

    def as_json(self) -> dict[str, Any]:
        """Return the names, and `ahead` and `difference` as `{"estimate", "ci95"}`."""
        derived = {"difference": plain(self.difference), "comparable": not self.reason}
        return {**super().as_json(), **derived}


@dataclass(frozen=True)
class Comparison(JsonFields):
    """All models on all tasks."""

    results: Sequence[Evaluated]
    groups: Sequence[GroupResult] = field(default=(), kw_only=True)
    differences: Sequence[Difference]
    warnings: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the output of `m2m eval --json`, the same for one model or many."""
        return {"schema": SCHEMA, **super().as_json()}


@dataclass(frozen=True)
class Reading:
    """How tasks and models are read.

    Attributes:
        roots: more folders in which a task file may name files, in addition to its own.
        normalise: the Unicode normal form of all texts, one of `normal_form.FORMS`.
        type: type in which the models are scored, see `commands.models.scored_as`.
        by_name: whether each task needs a name of its own, for files of results.
    """

    roots: Sequence[Path] = ()
    normalise: str = AS_IS
    type: str = STORED
    by_name: bool = False


def compare_models(
    models: Sequence[str],
    tasks: Sequence[Path],
    how: Target,
    lora: Path | None = None,
    progress: Progress | None = None,
    reading: Reading | None = None,
) -> Comparison:
    """Score models on tasks, one model in memory at a time.

    Args:
        models: GGUF files or names under models/, each with a GGUF LoRA as `MODEL+LORA`.
        tasks: files of rows, or task files of lm-evaluation-harness.
        how: a recipe's target, which says how to ask; its name and files do not count.
        lora: a GGUF LoRA for every model that has none of its own.
        progress: shows one bar over models and tasks.
        reading: how files are read; None for the defaults.

    Raises:
        InputError: a model or task cannot be read, or they do not fit each other.
        Interrupted: the user asked to stop.
    """
    progress, reading = progress or Silent(), reading or Reading()
    roots, normalise, kind = reading.roots, reading.normalise, reading.type
    loaded, groups = load_with_groups(tasks, roots, lambda at: _task(how, at, roots, normalise))
    if reading.by_name:
        refuse_same_names(loaded)
    only = None if how.metric == "auto" else how.metric
    results = []
    warnings = [
        f"{task.path.name}: {note}"
        for task in loaded
        for note in (task.harness.notes if task.harness else ())
    ]
    progress.start("scoring", len(models) * len(loaded), "tasks")
    for model in models:
        name, own = model_and_lora(model)
        path, adapter = gguf_of(name), own or lora
        warnings += lora_doubts(adapter, path) if adapter else []
        file = GGUFFile(path)
        style = how.template if how.template in ("auto", "chat") else "plain"
        formatter = formatter_as_trained(file, adapter, style)
        evaluators = [Evaluator(task, formatter) for task in loaded]
        scored = scored_as(model, file, kind)
        with open_as(file, adapter, scored) as opened:
            for evaluator in evaluators:
                if progress.stop_requested():
                    raise Interrupted("stopped between two tasks; nothing was kept")
                results.append(
                    Evaluated(
                        model,
                        path,
                        scored,
                        evaluator.task,
                        evaluator.evaluate(opened),
                        evaluator.pieces,
                        evaluator.asked,
                        only,
                    )
                )
                progress.advance(detail=f"{path.name} {evaluator.task.path.name}")
    progress.finish()
    count = len(loaded)
    columns = [results[place::count] for place in range(count)]
    differences = [difference for column in columns for difference in _differences(column)]
    cut = [(result, words) for result in results if (words := result.scores.cut_in_words)]
    warnings += [
        f"{gguf_of(result.model).name} on {result.task.path.name}: {w}" for result, w in cut
    ]
    types = dict.fromkeys(f"{Path(each.model).name} in {each.type}" for each in results)
    if len({each.type for each in results}) > 1:
        warnings.append(
            f"scored in different types: {', '.join(types)}. `--type q8_0` scores all in one"
        )
    lacking = [f"{each.task.path.name}: {note}" for each in results for note in each.of_task[1]]
    warnings += dict.fromkeys(lacking)
    return Comparison(results, differences, warnings, groups=group_results(groups, results))


def write_samples(compared: Comparison, out: Path) -> None:
    """Write every example's row of every model and task, as JSON lines."""
    lines = [
        json_text({"model": result.model, "task": str(result.task.path), **row})
        for result in compared.results
        for row in samples(result.task, result.scores, result.asked)
    ]
    write_text(out, "".join(line + "\n" for line in lines))


def _task(how: Target, at: Path | Member, roots: Sequence[Path], form: str) -> Task:
    """Load a file as test set; answers are written unless the one metric does not need them."""
    path, member = (at.path, at) if isinstance(at, Member) else (at, None)
    task = load_target(dataclasses.replace(how, dev=path, test=path), "test", roots, member)
    is_scored = task.harness is not None and task.harness.kind == "loglikelihood"
    if task.kind == "answer" and how.metric == "auto" and not is_scored:
        task = asked_to_write(task)
    return normalised_task(task, form)


def model_and_lora(model: str) -> tuple[str, Path | None]:
    """Split a model and the LoRA after a plus sign; names of folders may have plus signs too."""
    if Path(model).exists() or "+" not in model:
        return model, None
    signs = [place for place, sign in enumerate(model) if sign == "+"]
    cuts = [(model[:place], Path(model[place + 1 :])) for place in signs]
    both = [(name, lora) for name, lora in cuts if lora.is_file() and Path(name).exists()]
    known = [(name, lora) for name, lora in cuts if lora.is_file()]
    return (both or known or cuts)[0]


def _differences(results: Sequence[Evaluated]) -> list[Difference]:
    """Compare all models with the first, on one task and on the same resamples of its examples."""
    first = results[0]
    differences = []
    draws = resample(first.scores.clusters, np.random.default_rng(_SEED))
    for name in first.metrics:
        metric = METRICS[name]
        for other in results[1:]:
            lead, why = None, _incomparable(metric, first, other)
            if not why:
                pair = [other.scores, first.scores]
                points = np.array([metric.value(scores, None)[0] for scores in pair])
                replicates = np.stack([metric.value(scores, draws) for scores in pair])
                lead = ahead(points, replicates, 0, metric.higher_is_better)[1]
            names = (other.model, first.model, str(first.task.path), name)
            differences.append(Difference(*names, lead, why))
    return differences


def _incomparable(metric: Metric, one: Evaluated, other: Evaluated) -> str:
    """Say why a metric of two models cannot be compared; "" if it can."""
    if one.pieces != other.pieces and one.task.form.window:
        # Windows with the same number of tokens hold different parts of the text.
        return "other tokenizer, so other windows"
    if one.pieces != other.pieces and metric.per_token:
        return "other tokenizer"
    if one.scores.different < LEAST:
        return (
            f"{in_words(one.scores.different, one.scores.different)}, at least {LEAST} are needed"
        )
    return ""
