"""A run: train, search, confirm and export one recipe, each step resumable.

Every step asks the one before for its results; what is finished comes from the disk, so `run` after
a power cut does only what is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from m2m import __version__
from m2m.adapter import load_adapter
from m2m.export.gguf import Provenance, export_gguf, remedy
from m2m.export.lora import export_lora
from m2m.export.modelfile import write_modelfile
from m2m.formats.atomic import write_json
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import build_info
from m2m.machine import peak_rss_bytes
from m2m.merge.merger import Merger
from m2m.pipeline.confirming import confirm
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.results import Confirmation, Exported, RunResult, Searched, Step, Trained
from m2m.pipeline.searching import search
from m2m.pipeline.tuning import Tuning
from m2m.pipeline.validating import Validation, validate
from m2m.progress import Progress
from m2m.recipe import SECTIONS, Recipe, as_json


class Run:
    """One recipe's run in its own folder.

    Args:
        recipe: what to do.
        progress: is told what happens, and asked whether to stop.

    Raises:
        InputError: something that the recipe names is wrong; all of it is told.
    """

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self._inputs = read_inputs(recipe)
        self.recipe = self._inputs.recipe
        self.folder = recipe.folder
        self._progress = progress
        self._steps: list[Step] = []
        write_json(self.folder / "recipe.json", _resolved(self.recipe))

    def run(self) -> RunResult:
        """Everything."""
        exported = self.export()
        return RunResult(self.folder, self.search(), self.confirm(), exported, tuple(self._steps))

    def train(self) -> list[Trained]:
        """One adapter per dataset."""
        return self._trained

    def search(self) -> Searched:
        """The ranking of the mixtures."""
        return self._searched

    def confirm(self) -> Confirmation:
        """The best mixtures and the baselines, really fine-tuned and scored."""
        return self._confirmation

    def validate(self) -> Validation:
        """The surrogates held against a sample of real fine-tunes."""
        searched = self._searched
        with self._step("validate"):
            found = validate(self._inputs, self._experts, searched, self.folder, self._progress)
            write_json(self.folder / "validate.json", found.as_json())
            return found

    def export(self) -> Exported:
        """The winner as files for others."""
        return self._exported

    @cached_property
    def _trained(self) -> list[Trained]:
        with self._step("train"):
            tuning = Tuning(self._inputs, self._progress)
            return [
                tuning.expert(corpus, self.folder / "adapters" / corpus.name)
                for corpus in self._inputs.corpora.values()
            ]

    @property
    def _experts(self) -> dict[str, Path]:
        return {each.dataset: each.path for each in self._trained}

    @cached_property
    def _searched(self) -> Searched:
        experts = self._experts
        with self._step("search"):
            found = search(self._inputs, experts, self.folder, self._progress)
            write_json(self.folder / "ranking.json", found.as_json())
            return found

    @cached_property
    def _confirmation(self) -> Confirmation:
        searched = self._searched
        with self._step("confirm"):
            return confirm(self._inputs, self._experts, searched, self.folder, self._progress)

    @cached_property
    def _exported(self) -> Exported:
        winner = self._confirmation.winner
        if winner.adapter is None:
            raise AssertionError("a fine-tuned winner has an adapter")
        base, kind = self._inputs.base, self.recipe.quantize.export
        with self._step("export"):
            adapter = load_adapter(winner.adapter)
            merger, target = Merger(base, {"winner": adapter}), file_type(kind)
            name = f"{base.name}-{self.recipe.path.stem}"
            gguf = self.folder / "export" / f"{name}-{kind.upper()}.gguf"
            licences = {each.name: each.licence for each in self.recipe.datasets}
            provenance = Provenance(
                name,
                base.name,
                tuple(
                    (dataset, f"share {weight:.3f}, licence {licences[dataset] or 'not given'}")
                    for dataset, weight in zip(
                        winner.mixture.datasets, winner.mixture.weights, strict=True
                    )
                ),
            )
            types, survival = export_gguf(merger, {"winner": 1.0}, target, gguf, provenance)
            lora = gguf.with_name(f"{name}-LoRA.gguf")
            export_lora(adapter, base, lora)
            put_on = f"`m2m chat {self.recipe.base.model} --lora {lora}`"
            advice = remedy(merger, {"winner": 1.0}, target, survival, put_on)
            used = {name: licences[name] or "not given" for name in winner.mixture.datasets}
            modelfile = write_modelfile(
                gguf,
                self._inputs.formatter,
                base.config.max_position_embeddings,
                {base.name: base.info.licence or "not given", **used},
            )
        return Exported(gguf, modelfile, lora, kind, types, survival.as_json(), advice)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._steps.append(Step(name, time.perf_counter() - started, peak_rss_bytes()))


def _resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe with its defaults and the versions at work, kept beside the results."""
    return {
        "m2m": __version__,
        "llama": build_info(),
        "recipe": str(recipe.path),
        **{name: as_json(getattr(recipe, name)) for name in SECTIONS},
        "datasets": [as_json(each) for each in recipe.datasets],
        "targets": [as_json(each) for each in recipe.targets],
    }
