"""Open the parts that a study needs: merged experts, a scratch model, the examples."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from m2m.adapter import load_adapter
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.tasks import Task
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import build_info
from m2m.llamacpp.scratch_model import Surrogate, fastest_type, scratch_folder
from m2m.machine import usable_threads
from m2m.merge.merger import Merger
from m2m.mix.surrogate import SurrogateScorer
from m2m.pipeline.inputs import Inputs
from m2m.recipe import Recipe, as_json


def threads(recipe: Recipe) -> int:
    """Return the threads that the recipe allows, or all cores."""
    setting = recipe.limits.threads
    return usable_threads() if isinstance(setting, str) else setting


@contextmanager
def open_scorer(
    inputs: Inputs,
    experts: Mapping[str, Path],
    tasks: Mapping[str, Task],
    *,
    finetuned: Mapping[str, Path] | None = None,
    scratch: Path | None = None,
) -> Iterator[SurrogateScorer]:
    """Open a scorer of mixtures of `experts` on `tasks`; its scratch file is deleted at the end.

    Args:
        inputs: the run's inputs.
        experts: PEFT folders by name.
        tasks: tasks by the name that their scores shall have.
        finetuned: PEFT folders of models that are scored as they are, not merged.
        scratch: folder for the scratch model if there is no RAM disk; None for the run's folder.
    """
    recipe, base = inputs.recipe, inputs.base
    evaluators = {
        name: Evaluator(task, inputs.formatter, recipe.search.seed) for name, task in tasks.items()
    }
    finetuned = finetuned or {}
    adapters = {**experts, **finetuned}
    loaded = {name: load_adapter(folder) for name, folder in adapters.items()}
    fingerprints = {name: adapter.sha256 for name, adapter in loaded.items()}
    fingerprints |= {name: f"finetuned {fingerprints[name]}" for name in finetuned}
    merger = Merger(base, loaded, recipe.merge, finetuned)
    with _surrogate(inputs, scratch or recipe.folder) as surrogate:
        settings = {  # growth is in the mixtures' coefficients
            "base": base.fingerprint,
            "formatter": inputs.formatter.identity,
            "tasks": {name: evaluator.fingerprint for name, evaluator in evaluators.items()},
            "merge": {k: v for k, v in as_json(recipe.merge).items() if k != "growth"},
            "type": surrogate.type.name,
            "llama": build_info(),
            "gpu_layers": surrogate.gpu_layers,
            "repacked": not surrogate.patch,
        }
        own = (merger, fingerprints, surrogate, evaluators, settings, recipe.growth)
        with _spare(surrogate) as spare, closing(SurrogateScorer(*own, spare)) as scorer:
            yield scorer


def _spare(made: Surrogate) -> AbstractContextManager[Surrogate | None]:
    """Return a second scratch model if a GPU scores."""
    if not made.gpu_layers:
        return nullcontext()
    options: dict[str, Any] = {"threads": made.threads, "gpu_layers": made.gpu_layers}
    return Surrogate(made.base, made.type, made.path.parent, name="next", **options)


@contextmanager
def _surrogate(inputs: Inputs, scratch: Path) -> Iterator[Surrogate]:
    recipe, base = inputs.recipe, inputs.base
    folder = scratch_folder(scratch, 2 * base.info.parameters)  # at most 16 bits a weight
    kind, count = recipe.quantize.type, threads(recipe)
    try:
        if kind == "auto":
            kind = fastest_type(base.gguf, folder, count)
        layers = recipe.limits.gpu_layers
        made = Surrogate(base.gguf, file_type(kind), folder, threads=count, gpu_layers=layers)
        with made as surrogate:
            yield surrogate
    finally:
        if folder != scratch:
            shutil.rmtree(folder, ignore_errors=True)
