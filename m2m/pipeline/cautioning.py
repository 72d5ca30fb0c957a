"""Gathers what `m2m.mix.caution` judges: experts, scores, and rows that the targets ask too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from m2m.adapter import load_adapter
from m2m.evaluate.tasks import Task, requests
from m2m.merge.geometry import base_norm, gram_matrix
from m2m.mix.caution import Deltas, cautions, delta_cautions, overlap_cautions
from m2m.mix.trial import Trial
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.scoring import aims


def warnings(inputs: Inputs, experts: Mapping[str, Path], trials: Sequence[Trial]) -> list[str]:
    """Every reason not to trust the ranking of these trials, with what to do about it."""
    adapters = [load_adapter(folder) for folder in experts.values()]
    deltas = Deltas(list(experts), gram_matrix(adapters), base_norm(inputs.base, adapters))
    found = cautions(trials, aims(inputs), inputs.recipe.search.seed)
    found += delta_cautions(deltas, inputs.recipe.growth)
    for target in inputs.recipe.targets:
        tasks = [part[target.name] for part in (inputs.dev, inputs.test) if target.name in part]
        found += overlap_cautions(overlaps(inputs, tasks), target.name)
    return found


def overlaps(inputs: Inputs, tasks: Sequence[Task]) -> dict[str, int]:
    """Rows of each dataset that begin, token for token, with a question that a task asks.

    What is asked in other words or another frame takes a look at the files: `m2m data check`.
    """
    asked = {
        tuple([*request.prompt, *(request.continuations[0] if task.kind == "text" else [])])
        for task in tasks
        for request in requests(task, inputs.formatter)
    }
    lengths = sorted({len(ids) for ids in asked})
    return {
        name: sum(
            any(tuple(sample.ids[:length].tolist()) in asked for length in lengths)
            for sample in [*corpus.samples, *corpus.held_out]
        )
        for name, corpus in inputs.corpora.items()
    }
