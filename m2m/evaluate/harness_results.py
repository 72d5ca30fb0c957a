"""The metrics that a task file of lm-evaluation-harness reports, after each list of filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m2m.dataset.examples import Example
from m2m.evaluate.answer_filters import Pipeline, exact_matches, filtered
from m2m.evaluate.harness_metrics import DEFAULTS, KNOWN, rolling, theirs
from m2m.evaluate.metric import Metric
from m2m.evaluate.metrics import metrics_of
from m2m.evaluate.score import Score
from m2m.evaluate.scores import Scores
from m2m.evaluate.task_config import Config
from m2m.evaluate.tasks import Task
from m2m.formats.yaml import Tagged


@dataclass(frozen=True)
class Reported:
    """One metric of a task after one list of filters.

    Attributes:
        name: of the metric, as in the task file.
        filter: the name of the list of filters, "none" if there is none.
        scores: with the answers after these filters.
    """

    name: str
    filter: str
    metric: Metric
    higher_is_better: bool
    score: Score
    scores: Scores

    @property
    def key(self) -> str:
        """Return the harness's name for it in results: "acc,none"."""
        return f"{self.name},{self.filter}"


def reported(task: Task, scores: Scores) -> tuple[list[Reported], tuple[str, ...]]:
    """Return a task file's own metrics, and a note about each that m2m does not have.

    Args:
        task: all of its examples were scored.
        scores: with written answers if the task asks for them; without, it reports nothing.

    Raises:
        InputError: a filter or a pattern of the file does not work.
        LimitError: a pattern takes too long.
    """
    config = task.harness
    if config is None or (config.kind == "generate_until" and not scores.written):
        return [], ()
    metrics, notes = _metrics(config, task)
    made = [
        Reported(name, pipeline.name, metric, higher, metric.measure(after), after)
        for pipeline, after in _after_filters(config, task, scores)
        for name, (metric, higher) in metrics.items()
    ]
    return made, notes


def own(scores: Scores, before: str = "") -> list[Reported]:
    """Return m2m's own metrics in the same form, with a text before each name.

    A target of rows has no other metrics. For a task file none of whose metrics m2m has, the names
    must not be those of lm-eval's other metrics.
    """
    return [
        Reported(before + m.name, "none", m, m.higher_is_better, m.measure(scores), scores)
        for m in metrics_of(scores)
    ]


def _after_filters(config: Config, task: Task, scores: Scores) -> Iterator[tuple[Pipeline, Scores]]:
    """Yield each list of filters with the scores after it."""
    if config.kind != "generate_until":
        yield from ((pipeline, scores) for pipeline in config.pipelines)
        return
    rows, right = [e.fields for e in task.examples], [e.references for e in task.examples]
    name = str(task.path)
    for pipeline in config.pipelines:
        answers = filtered(scores.written, rows, pipeline.steps, name)
        exact = exact_matches(answers, right, config.exact, name)
        yield pipeline, replace(scores, predictions=tuple(answers), exact=exact)


def _metrics(config: Config, task: Task) -> tuple[dict[str, tuple[Metric, bool]], tuple[str, ...]]:
    """Return the metrics of `metric_list` by name, and notes about the others."""
    listed = config.keys.get("metric_list")
    given: Sequence[Mapping[str, Any]] = (
        [{"metric": name} for name in DEFAULTS[config.kind]] if listed is None else listed
    )
    texts = [example.answer for example in task.examples] if task.kind == "text" else []
    most = max(len(example.choices) for example in task.examples)
    made, notes = {}, []
    # Of two with one name the last one counts, as in ConfigurableTask.__init__.
    for entry in {_short(entry.get("metric")): entry for entry in given}.values():
        name, aggregation = _short(entry.get("metric")), _short(entry.get("aggregation") or "")
        by_code = isinstance(entry.get("metric"), Tagged)
        if config.kind == "generate_until" and aggregation == "f1":
            by_code = not isinstance(entry["aggregation"], Tagged)  # not scikit-learn's f1
        metric = None if by_code else theirs(config.kind, name, aggregation, texts, most)
        if metric and task.sizes is not None:
            metric = rolling(name, task.sizes[name]) if name in task.sizes else None
        if metric is None:
            by = f" with the aggregation {aggregation}" if aggregation else ""
            notes.append(
                f"metric_list: m2m does not have {name:.60}{by:.80}, which is left out; for "
                f"{config.kind} it has {', '.join(KNOWN[config.kind])}: name them in `metric_list` "
                "of a child file"
            )
        else:
            higher = entry.get("higher_is_better")
            made[name] = metric, higher if isinstance(higher, bool) else metric.higher_is_better
    return made, tuple(notes)


def _short(value: Any) -> str:
    """Return a name, or the name of a function without its module."""
    return value.text.rpartition(".")[2] if isinstance(value, Tagged) else str(value)


def requests(task: Task, example: Example) -> list[tuple[Any, ...]]:
    """Return the harness's requests for a row: the arguments of its `Instance` objects."""
    config = task.harness
    if config is None:
        raise ValueError("only a task file has requests of the harness")
    if config.kind == "loglikelihood_rolling":
        return [(example.answer,)]
    if config.kind == "generate_until":
        return [(example.contexts[0], generation_options(config))]
    delimiter = "" if config.kind == "loglikelihood" else config.asked.delimiter
    choices = example.choices[:1] if config.kind == "loglikelihood" else example.choices
    contexts = example.contexts
    contexts = contexts if len(contexts) > 1 else contexts * len(choices)
    return [
        (context, delimiter + choice) for context, choice in zip(contexts, choices, strict=True)
    ]


def generation_options(config: Config) -> dict[str, Any]:
    """Return `generation_kwargs` with the harness's defaults (lm_eval/config/task.py)."""
    given = config.keys.get("generation_kwargs")
    if given is None:
        greedy: dict[str, Any] = {"temperature": 0.0, "do_sample": False, "max_gen_toks": 256}
        return greedy | {"until": [config.asked.separator]}
    options = {key: float(v) if key == "temperature" else v for key, v in given.items()}
    return {**options, "until": options.get("until", [config.asked.separator])}
