"""`m2m plan`: seconds, memory and disk of every step of a run, before it is made."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import ResourceError
from m2m.formats.gguf import plan_gguf
from m2m.llamacpp.filetypes import file_type, quantized_layout
from m2m.llamacpp.surrogate import scratch_folder
from m2m.machine import free_memory_bytes
from m2m.mix.mixture import subsets
from m2m.pipeline.calibrating import Rates, calibrate, count_tokens
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.tuning import expert_corpus
from m2m.progress import Progress
from m2m.recipe import Recipe
from m2m.tuner.memory import GIB
from m2m.tuner.trainer import Origin, finished

# A checkpoint holds the adapter, AdamW's two and the best adapter so far.
_CHECKPOINTS = 4
# A trial's line in the journal: a log-likelihood a choice, and what stands around it.
_LINE, _CHOICE = 500, 20
_ROOM = 256 << 20  # left free on a disk


@dataclass(frozen=True)
class PlannedStep:
    """What one step will take; memory is the process's peak until its end, as in `Step`."""

    name: str
    what: str
    seconds: float
    peak_rss_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Plan:
    """A whole run, before it is made.

    Attributes:
        steps: in order.
        candidates: mixtures that the search will score.
        advice: where it does not fit, what to change; else what may be worth knowing.
        fits: memory, disk and hours suffice.
    """

    steps: Sequence[PlannedStep]
    candidates: int
    advice: Sequence[str]
    fits: bool

    @property
    def total_seconds(self) -> float:
        """Of all steps."""
        return sum(step.seconds for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m plan --json`."""
        return {
            "steps": [{**vars(each), "seconds": round(each.seconds, 1)} for each in self.steps],
            "total_seconds": round(self.total_seconds, 1),
            "candidates": self.candidates,
            "fits": self.fits,
            "advice": list(self.advice),
        }


def make_plan(inputs: Inputs, progress: Progress, hours: float = 0.0) -> Plan:
    """Calibrate and plan.

    Args:
        inputs: the run's.
        progress: shows the calibration.
        hours: that the run may take; 0 for any.

    Raises:
        Interrupted: the user asked to stop.
    """
    try:
        rates = calibrate(inputs, progress)
    except ResourceError as error:
        advice = (error.message, *([error.hint] if error.hint else []))
        return Plan((), candidates(inputs.recipe), advice, fits=False)
    return plan_with(inputs, rates, hours)


def plan_with(inputs: Inputs, rates: Rates, hours: float = 0.0) -> Plan:
    """The plan that some rates make; see `make_plan`."""
    work = Work(inputs, rates)
    steps = [work.train(), work.search(), work.confirm(), work.export()]
    wrong = [*_memory(work, steps), *_disk(work, steps), *_time(work, steps, hours)]
    return Plan(steps, candidates(inputs.recipe), wrong, fits=not wrong)


def candidates(recipe: Recipe) -> int:
    """How many mixtures an exhaustive search scores; other strategies score fewer in full."""
    return sum(_sizes(recipe).values())


def _sizes(recipe: Recipe) -> Counter[int]:
    """How many of the candidates have how many datasets."""
    names = [each.name for each in recipe.datasets]
    return Counter(len(each.datasets) for each in subsets(names, recipe.search.max_datasets))


class Work:
    """What a run has to do, in seconds and bytes.

    Args:
        inputs: the run's.
        rates: of this machine.
    """

    def __init__(self, inputs: Inputs, rates: Rates) -> None:
        self.inputs, self.rates = inputs, rates
        self.recipe = inputs.recipe
        self.sizes = _sizes(self.recipe)
        dev, test = (
            sum(count_tokens(task, inputs.formatter) for task in tasks.values())
            for tasks in (inputs.dev, inputs.test)
        )
        self.dev_seconds, self.test_seconds = dev * rates.scored, test * rates.scored
        choices = sum(
            len(example.choices) for task in inputs.dev.values() for example in task.examples
        )
        self.line = _LINE + _CHOICE * choices
        kind = self.recipe.quantize.type
        kind = "f16" if kind == "auto" else kind  # none that auto takes is larger
        metadata, specs = quantized_layout(inputs.base.gguf, file_type(kind))
        self.scratch = plan_gguf(metadata, specs)[2]
        metadata, specs = quantized_layout(inputs.base.gguf, file_type(self.recipe.quantize.export))
        self.exported = plan_gguf(metadata, specs)[2]

    def train(self) -> PlannedStep:
        """One adapter for every dataset that has none yet."""
        left = [name for name in self.inputs.corpora if not self._has_expert(name)]
        seconds = sum(self._training(self.recipe.train.steps, name) for name in left)
        if left:
            seconds += self.rates.decoder
        disk = (len(left) + _CHECKPOINTS) * self.rates.adapter_bytes if left else 0
        what = f"{len(left)} adapters of {self.recipe.train.steps} steps"
        return PlannedStep("train", what, seconds, self.rates.training_bytes, disk)

    def search(self) -> PlannedStep:
        """Every candidate merged, loaded and scored on dev, and the base."""
        count = sum(self.sizes.values())
        seconds = self.rates.surrogate + self.dev_seconds + self._loads(self.sizes)
        seconds += count * self.dev_seconds + (count + 1) * self.rates.judged
        disk = count * self.line + self._scratch_on_disk()
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        return PlannedStep("search", f"{count} mixtures", seconds, peak, disk)

    def confirm(self) -> PlannedStep:
        """Fine-tunes of the best and of the baselines, all scored on dev and test."""
        wanted = self.recipe.confirm
        total = len(self.inputs.corpora)
        sizes = [self._expected_size()] * min(wanted.top, sum(self.sizes.values()))
        trainings = [self._share_trained() * self._confirming(size) for size in sizes]
        if "all" in wanted.baselines and total > 1:
            sizes.append(total)
            trainings.append(self._confirming(total))
        models = 2.0 + len(sizes)
        if "best_single" in wanted.baselines and self._expected_size() > 1:
            # It may be one of the top already.
            models += self._share_mixed() ** wanted.top
            trainings.append(0.0 if self._is_free() else self._confirming(1))
        seconds = sum(trainings) + (self.rates.decoder if any(trainings) else 0.0)
        seconds += self.rates.surrogate + models * (self.dev_seconds + self.test_seconds)
        seconds += models * (self.rates.load(1, total) + 2 * self.rates.judged)
        tuned = sum(map(bool, trainings))
        disk = (tuned + _CHECKPOINTS) * self.rates.adapter_bytes
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        what = f"up to {tuned} fine-tunes, about {models:.0f} models on dev and test"
        return PlannedStep("confirm", what, seconds, peak, disk)

    def export(self) -> PlannedStep:
        """The winner as GGUF and LoRA."""
        seconds = self.rates.surrogate + self.rates.load(1, len(self.inputs.corpora))
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        disk = self.exported + self.rates.adapter_bytes
        return PlannedStep("export", self.recipe.quantize.export, seconds, peak, disk)

    def _training(self, steps: int, dataset: str | None = None) -> float:
        pauses = -(-steps // self.recipe.train.checkpoint_every)
        return steps * self.rates.step(dataset) + pauses * self.rates.pause

    def _confirming(self, size: float) -> float:
        """Seconds of one confirming fine-tune."""
        return self._training(self._budget(size))

    def _budget(self, size: float) -> int:
        budget, steps = self.recipe.confirm.budget, self.recipe.train.steps
        if budget == "proportional":
            return round(steps * size)
        return steps if isinstance(budget, str) else budget

    def _is_free(self) -> bool:
        """Whether a confirmed single dataset is its expert, trained already."""
        borrows = self.recipe.train.replay > 0 and self.recipe.train.replay_from is None
        return not borrows and self._budget(1) == self.recipe.train.steps

    def _expected_size(self) -> float:
        """Datasets of a winner of which nothing is known."""
        return sum(size * count for size, count in self.sizes.items()) / sum(self.sizes.values())

    def _share_trained(self) -> float:
        """The chance that a top mixture is not a single dataset that is trained already."""
        return self._share_mixed() if self._is_free() else 1.0

    def _share_mixed(self) -> float:
        """The chance that a mixture is not a single dataset, where nothing is known."""
        return 1.0 - self.sizes[1] / sum(self.sizes.values())

    def _loads(self, sizes: Counter[int]) -> float:
        total = len(self.inputs.corpora)
        return sum(count * self.rates.load(size, total) for size, count in sizes.items())

    def _has_expert(self, name: str) -> bool:
        corpus = expert_corpus(self.inputs, self.inputs.corpora[name])
        base, train = self.inputs.base, self.recipe.train
        origin = Origin(corpus.name, base.name, base.fingerprint, corpus.fingerprint)
        folder = self.recipe.folder / "adapters" / name
        held_out = len(corpus.held_out)
        return finished(folder, train, origin, len(corpus.samples), held_out) is not None

    def _scratch_on_disk(self) -> int:
        key = self.recipe.folder
        folder = scratch_folder(key, 2 * self.inputs.base.info.parameters)
        if folder == key:
            return self.scratch
        if not any(folder.iterdir()):
            folder.rmdir()
        return 0


def _memory(work: Work, steps: Sequence[PlannedStep]) -> Iterator[str]:
    free = free_memory_bytes()
    # The scratch model lies in memory too where there is a RAM disk.
    need = max(step.peak_rss_bytes for step in steps)
    need += 0 if work._scratch_on_disk() else work.scratch
    if free and need > free:
        yield (
            f"memory: {need / GIB:.1f} GiB needed, {free / GIB:.1f} free: set [limits] memory or a "
            "smaller [train] batch_tokens, take a smaller [quantize] type, or close programs"
        )


def _disk(work: Work, steps: Sequence[PlannedStep]) -> Iterator[str]:
    need = sum(step.disk_bytes for step in steps) + _ROOM
    free = shutil.disk_usage(_existing(work.recipe.folder)).free
    if need > free:
        yield (
            f"disk: {need / GIB:.1f} GiB needed under {work.recipe.folder}, {free / GIB:.1f} free: "
            "free some, or move the recipe to a larger disk"
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _time(work: Work, steps: Sequence[PlannedStep], hours: float) -> Iterator[str]:
    total = sum(step.seconds for step in steps)
    if not hours or total <= hours * 3600:
        return
    longest = max(steps, key=lambda step: step.seconds)
    change = {
        "train": "lower [train] steps, or leave datasets out",
        "search": "set [search] max_datasets, or leave datasets out: each doubles the search",
        "confirm": 'set [confirm] top = 1, or budget = "fixed"',
    }.get(longest.name, "take a smaller base")
    yield f"time: {total / 3600:.1f} of {hours:g} hours, most of it to {longest.name}: {change}"
