"""Write results as lm-evaluation-harness does, for its own tools and tables.

A folder for each model gets `results_DATE.json` and, for each task, `samples_TASK_DATE.jsonl`
(lm_eval/loggers/evaluation_tracker.py, lm_eval/result_schema.py).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m import __version__
from m2m.commands.eval import Comparison, Evaluated
from m2m.commands.eval_groups import GroupResult, row_of
from m2m.evaluate.harness import SEED
from m2m.evaluate.harness_results import generation_options
from m2m.evaluate.harness_samples import cumulative_hash, sample_rows
from m2m.formats.atomic import write_text
from m2m.formats.json_text import json_text
from m2m.formats.yaml import Tagged

_UNFIT = re.compile(r"[\"<>:/|\\?*\[\]\x00-\x1f]+")  # lm_eval.utils.sanitize_model_name, and more


def write_results(compared: Comparison, folder: Path, started: datetime.datetime) -> list[Path]:
    """Write the files of all models, and return their paths.

    Args:
        compared: all results.
        folder: gets a folder for each model.
        started: the time at which the command began; the files' names have it.
    """
    date = started.isoformat().replace(":", "-")
    written = []
    for model in dict.fromkeys(result.model for result in compared.results):
        results = [result for result in compared.results if result.model == model]
        names = [result.task.name for result in results]
        place, hashes = folder / _fit(model), {}
        for name, result in zip(names, results, strict=True):
            rows = list(sample_rows(result.task, result.reported, result.asked))
            hashes[name] = cumulative_hash(rows)
            path = place / f"samples_{_fit(name)}_{date}.jsonl"
            write_text(path, "".join(json_text(row) + "\n" for row in rows))
            written.append(path)
        path = place / f"results_{date}.json"
        summary = _summary(model, dict(zip(names, results, strict=True)), hashes, started)
        summary |= _of_groups(summary, [each for each in compared.groups if each.model == model])
        write_text(path, json_text(summary, indent=2) + "\n")
        written.append(path)
    return written


def _fit(name: str) -> str:
    """Return a name that a file can have."""
    return _UNFIT.sub("__", name).strip(". ") or "_"


def _summary(
    model: str,
    results: Mapping[str, Evaluated],
    hashes: Mapping[str, str],
    started: datetime.datetime,
) -> dict[str, Any]:
    ended = datetime.datetime.now()
    configs = {name: _config(name, result) for name, result in results.items()}
    counts = {name: len(result.scores) for name, result in results.items()}
    return {
        "results": {name: _values(name, result) for name, result in results.items()},
        "group_subtasks": {},
        "configs": configs,
        "versions": {name: _version(configs[name]) for name in results},
        "n-shot": {name: config["num_fewshot"] for name, config in configs.items()},
        "higher_is_better": {
            name: {each.name: each.higher_is_better for each in result.reported}
            for name, result in results.items()
        },
        "n-samples": {name: {"original": n, "effective": n} for name, n in counts.items()},
        "config": {
            "model": "m2m",
            "model_args": {"model": model},
            "batch_size": None,
            "limit": None,
            "fewshot_seed": SEED,
        },
        "git_hash": None,
        "date": started.timestamp(),
        "m2m_version": __version__,
        "task_hashes": dict(hashes),
        "model_source": "m2m",
        "model_name": model,
        "model_name_sanitized": _fit(model),
        "system_instruction": None,
        "chat_template": None,
        "start_time": started.timestamp(),
        "end_time": ended.timestamp(),
        "total_evaluation_time_seconds": str((ended - started).total_seconds()),
    }


def _of_groups(summary: Mapping[str, Any], groups: Sequence[GroupResult]) -> dict[str, Any]:
    """Return the parts of a summary that groups of tasks change."""
    rows = {each.group.name: dict(each.values) for each in groups}
    having = {name: row for name, row in rows.items() if row.get("sample_count")}
    higher, shots = dict(summary["higher_is_better"]), dict(summary["n-shot"])
    for each in groups:
        tasks = [task.name for task in each.group.tasks]
        higher[each.group.name] = {k: v for task in tasks for k, v in higher[task].items()}
        counts = {shots[task] for task in tasks}
        if len(counts) == 1:
            shots[each.group.name] = counts.pop()
    return {
        "results": {**summary["results"], **rows},
        **({"groups": having} if having else {}),
        "group_subtasks": {
            each.group.name: [m.name for m in each.group.members] for each in groups
        },
        "versions": summary["versions"] | {g.group.name: g.group.version for g in groups},
        "higher_is_better": higher,
        "n-shot": shots,
    }


def _values(name: str, result: Evaluated) -> dict[str, Any]:
    """Return the values and their standard errors by the harness's names."""
    keys = result.task.harness.keys if result.task.harness else {}
    return {"name": name, "alias": keys.get("task_alias") or name, **row_of(result)}


def _config(name: str, result: Evaluated) -> dict[str, Any]:
    """Return the keys of a task with the harness's defaults, as it writes them."""
    config = result.task.harness
    if config is None:
        kind = "generate_until" if result.scores.predictions else "multiple_choice"
        return {
            "task": name,
            "dataset_path": str(result.task.path),
            "output_type": "loglikelihood_rolling" if result.task.kind == "text" else kind,
            "metric_list": [
                {"metric": each.name, "aggregation": "mean" if each.metric.mean else each.name}
                for each in result.reported
            ],
            "num_fewshot": result.task.form.shots,
        }
    side = config.asked
    defaults: dict[str, Any] = {
        "task": name,
        "unsafe_code": False,
        "description": "",
        "target_delimiter": side.delimiter,
        "fewshot_delimiter": side.separator,
        "output_type": config.kind,
        "repeats": 1,
        "should_decontaminate": False,
    }
    made = defaults | {key: _plain(value) for key, value in config.keys.items()}
    if config.kind == "generate_until":
        made["generation_kwargs"] = generation_options(config)
    return made | {"num_fewshot": config.shots or 0}


def _plain(value: Any) -> Any:
    """Return a value for JSON; a mark of a function becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Tagged) else value


def _version(config: Mapping[str, Any]) -> Any:
    metadata = config.get("metadata")
    return metadata.get("version", "Yaml") if isinstance(metadata, Mapping) else "Yaml"
