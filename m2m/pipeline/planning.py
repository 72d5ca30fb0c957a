"""`m2m plan`: seconds, memory and disk of every step of a run, before it is made."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import ResourceError
from m2m.evaluate.evaluator import Evaluator
from m2m.formats.gguf import plan_gguf
from m2m.llamacpp.filetypes import file_type, quantized_layout
from m2m.llamacpp.surrogate import scratch_folder
from m2m.machine import free_memory_bytes
from m2m.mix.effort import Effort, foresee
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.search import make_strategy
from m2m.mix.space import LISTED, Space
from m2m.mix.strategy import Strategy
from m2m.nn.matrix import WORTH_BF16, bf16_gain
from m2m.pipeline.calibrating import Aside, Rates, calibrate, count_tokens
from m2m.pipeline.finetuning import training_rows
from m2m.pipeline.inputs import Inputs, expert_passes
from m2m.pipeline.scoring import aims, threads
from m2m.pipeline.searching import search_space
from m2m.pipeline.sharing import finished_experts, wanted
from m2m.pipeline.tuning import memory_limit
from m2m.progress import Progress
from m2m.tuner.memory import GIB

# A checkpoint holds the adapter, AdamW's two and the best adapter so far.
_CHECKPOINTS = 4
# A trial's line in the journal: a log-likelihood a choice, and what stands around it.
_LINE, _CHOICE = 500, 20
_DRAWN = 256  # mixtures that stand for all where these are too many
_ROOM = 256 << 20  # left free on a disk
_LONG = 60.0  # seconds of training below which nobody asks for less
_PRODUCTS = 0.55  # of a training step that bf16 makes faster
_ASIDE = 1.15  # two workers against one with both threads: 1.13 to 1.2; more may gain more


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
        strategy: of the search.
        candidates: mixtures that it chooses from.
        passes: how often an expert will see each of its rows, on average, by dataset.
        advice: where it does not fit, what to change; else what may be worth knowing.
        fits: memory, disk and hours suffice.
    """

    steps: Sequence[PlannedStep]
    strategy: str
    candidates: int
    passes: Mapping[str, float]
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
            "strategy": self.strategy,
            "candidates": self.candidates,
            "passes": dict(self.passes),
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
        InputError: the search has no mixture to choose from, or too many.
        Interrupted: the user asked to stop.
    """
    for caution in inputs.cautions:
        progress.warn(caution)
    strategy = planned_strategy(inputs)
    try:
        rates = calibrate(inputs, progress)
    except ResourceError as error:
        advice = (error.message, *([error.hint] if error.hint else []))
        return Plan((), strategy.name, strategy.candidates, {}, advice, fits=False)
    return plan_with(inputs, rates, hours)


def plan_with(inputs: Inputs, rates: Rates, hours: float = 0.0) -> Plan:
    """The plan that some rates make; see `make_plan`."""
    work = Work(inputs, rates)
    steps = [work.train(), work.search(), work.confirm(), work.export()]
    wrong = [*_memory(work, steps), *_disk(work, steps), *_time(work, steps, hours)]
    advice = [*wrong, *_precision(work, steps), *_workers(work, steps), *_unseen(work)]
    name, count = work.strategy.name, work.strategy.candidates
    return Plan(steps, name, count, work.passes, advice, fits=not wrong)


def planned_strategy(inputs: Inputs) -> Strategy:
    """What the search will go by.

    Raises:
        InputError: it has no mixture to choose from, or too many.
    """
    examples = 1  # its name and candidates are the same with any number
    return make_strategy(inputs.recipe.search, search_space(inputs), examples, aims(inputs))


def count_examples(inputs: Inputs) -> int:
    """Of all dev sets; of a text in windows each window is one."""
    seed, tasks = inputs.recipe.search.seed, inputs.dev.values()
    return sum(len(Evaluator(task, inputs.formatter, seed)) for task in tasks)


class Work:
    """What a run has to do, in seconds and bytes.

    Args:
        inputs: the run's.
        rates: of this machine.
    """

    def __init__(self, inputs: Inputs, rates: Rates) -> None:
        self.inputs, self.rates = inputs, rates
        self.recipe = inputs.recipe
        self.names = wanted(inputs)
        self.space, self.strategy = search_space(inputs), planned_strategy(inputs)
        self.sizes = _sizes(self.space)
        self.passes = expert_passes(inputs)
        dev, test = (
            [count_tokens(task, inputs.formatter) for task in tasks.values()]
            for tasks in (inputs.dev, inputs.test)
        )
        self.block_seconds = sum(shared for shared, _ in dev) * rates.scored
        self.dev_seconds, self.test_seconds = (
            sum(map(sum, tokens)) * rates.scored for tokens in (dev, test)
        )
        choices = sum(
            len(example.choices) for task in inputs.dev.values() for example in task.examples
        )
        self.line = _CHOICE * choices
        self.examples = count_examples(inputs)
        kind = self.recipe.quantize.type
        kind = "f16" if kind == "auto" else kind  # none that auto takes is larger
        metadata, specs = quantized_layout(inputs.base.gguf, file_type(kind))
        self.scratch = plan_gguf(metadata, specs)[2]
        metadata, specs = quantized_layout(inputs.base.gguf, file_type(self.recipe.quantize.export))
        self.exported = plan_gguf(metadata, specs)[2]

    def train(self) -> PlannedStep:
        """One adapter for every dataset that has none yet."""
        made = finished_experts(self.inputs)
        left = [name for name in self.names if name not in made]
        seconds = sum(self._training(self.recipe.train.steps, name) for name in left)
        seen = list(dict.fromkeys(f"{count:.3g}" for count in sorted(self.passes.values())))
        what = f"{len(left)} adapters of {self.recipe.train.steps} steps, passes over their rows: "
        what += " to ".join([seen[0], *seen[1:][-1:]])
        at_once, peak = 1, self.rates.training_bytes
        if aside := self.rates.aside:
            at_once, peak = aside.at_once, aside.bytes
            seconds *= _times_alone(aside)
            what += f", {at_once} at a time"
        if left:
            seconds += self.rates.decoder
        disk = (len(left) + _CHECKPOINTS * at_once) * self.rates.adapter_bytes if left else 0
        return PlannedStep("train", what, seconds, peak, disk)

    def search(self) -> PlannedStep:
        """The base on dev, what the strategy takes, and the finalists as they are exported."""
        effort, rates = self.effort(), self.rates
        left = effort.less(self.done())
        base = 1.0 - rates.known.get(BASE, Effort()).evaluations
        load = rates.load(self._expected_size(), len(self.names))
        seconds = rates.surrogate + base * (rates.load(1, len(self.names)) + self.dev_seconds)
        seconds += left.loads * (load + self.block_seconds)
        seconds += left.evaluations * (self.dev_seconds - self.block_seconds)
        # Every mixture's standing once; of whole ones the warnings look again.
        seconds += (effort.mixtures + effort.evaluations + 1) * rates.judged
        quantize, finalists = self.recipe.quantize, max(2, self.recipe.confirm.top)
        finalists = min(finalists, self.strategy.candidates)
        if quantize.export != quantize.type and finalists > 1:
            seconds += rates.surrogate + finalists * (load + self.dev_seconds)
        disk = (
            round(effort.loads * _LINE + effort.evaluations * self.line) + self._scratch_on_disk()
        )
        peak = max(rates.training_bytes, rates.scoring_bytes)
        return PlannedStep("search", self._search_in_words(effort), seconds, peak, disk)

    def effort(self) -> Effort:
        """What the strategy takes, whatever is done of it."""
        budget, name = self.recipe.search.budget, self.strategy.name
        return foresee(name, self.space, self.examples, len(self.recipe.targets), budget)

    def done(self) -> Effort:
        """What the journal has of the mixtures that the search may look at."""
        singles = [Mixture.uniform([name]) for name in self.names]
        found = Effort()
        for mixture, known in self.rates.known.items():
            if self.space.allows(mixture) or mixture in singles:
                found += known
        return found

    def _search_in_words(self, effort: Effort) -> str:
        name, count = self.strategy.name, self.strategy.candidates
        if name == "exhaustive":
            return f"exhaustive: {count:,} mixtures"
        some = f"{effort.mixtures:.0f} of {count:,}" if name == "guided" else f"{count:,}"
        return f"{name}: {some} mixtures, about {effort.evaluations:.0f} evaluations of dev"

    def confirm(self) -> PlannedStep:
        """Fine-tunes of the best and of the baselines, all scored on dev and test."""
        confirm = self.recipe.confirm
        total = len(self.names)
        sizes = [self._expected_size()] * min(confirm.top, self.strategy.candidates)
        trainings = [self._share_trained() * self._confirming(size) for size in sizes]
        union = Mixture.union(training_rows(self.inputs, self.names))
        everything = {"all": Mixture.uniform(self.names), "union": union}
        # One fine-tune if all datasets have as many rows.
        both = {everything[name] for name in confirm.baselines if name in everything}
        whole = len(both) if total > 1 else 0
        sizes += [total] * whole
        trainings += [self._confirming(total)] * whole
        models = 2.0 + len(sizes)
        if "best_single" in confirm.baselines and self._expected_size() > 1:
            # It may be one of the top already.
            models += self._share_mixed() ** confirm.top
            trainings.append(0.0 if self._is_free() else self._confirming(1))
        seconds = sum(trainings) + (self.rates.decoder if any(trainings) else 0.0)
        seconds += self.rates.surrogate + models * (self.dev_seconds + self.test_seconds)
        seconds += models * (self.rates.load(1, total) + 2 * self.rates.judged)
        tuned = sum(map(bool, trainings))
        disk = (tuned + _CHECKPOINTS) * self.rates.adapter_bytes
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        what = f"up to {tuned} fine-tunes, {whole} on all datasets; {models:.0f} models scored"
        return PlannedStep("confirm", what, seconds, peak, disk)

    def export(self) -> PlannedStep:
        """The winner as GGUF and LoRA."""
        seconds = self.rates.surrogate + self.rates.load(1, len(self.names))
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

    def _scratch_on_disk(self) -> int:
        key = self.recipe.folder
        folder = scratch_folder(key, 2 * self.inputs.base.info.parameters)
        if folder == key:
            return self.scratch
        if not any(folder.iterdir()):
            folder.rmdir()
        return 0


def _sizes(space: Space) -> Counter[int]:
    """How many mixtures have how many datasets: of all, or of a sample where they are too many."""
    if not space.parts and space.most <= LISTED:
        return Counter(len(each.datasets) for each in space.subsets())
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(_DRAWN)]
    return Counter(len(each.datasets) for each in drawn if each) or Counter([1])


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


def _precision(work: Work, steps: Sequence[PlannedStep]) -> Iterator[str]:
    training = sum(step.seconds for step in steps if step.name in ("train", "confirm"))
    if work.recipe.train.precision != "float32" or training < _LONG:
        return
    if (gain := bf16_gain()) >= WORTH_BF16:
        times = 1.0 / (1.0 - _PRODUCTS + _PRODUCTS / gain)
        yield (
            f'[train] precision = "bf16" would train about {times:.1f} times as fast on this '
            "processor, with rounding that docs/training.md tells of"
        )


def _times_alone(aside: Aside) -> float:
    """Times as long as the experts take one after the other, each with all threads."""
    return aside.slower * aside.count / aside.at_once / _ASIDE


def _unseen(work: Work) -> Iterator[str]:
    if partly := [f"{x:.0%} of {name}" for name, x in work.passes.items() if x < 1]:
        seen = ", ".join(partly)
        yield f"some rows will not be trained on: experts see {seen}; raise [train] steps"


def _workers(work: Work, steps: Sequence[PlannedStep]) -> Iterator[str]:
    recipe, training = work.recipe, steps[0].seconds
    if (aside := work.rates.aside) and _times_alone(aside) > 1.0:
        yield (
            f"memory is too little for {aside.count} workers to be faster than one: set "
            "[limits] workers = 1"
        )
    count = min(threads(recipe), len(work.names) // 2)
    limit, need = memory_limit(recipe), count * work.rates.training_bytes
    room = not limit or need <= limit
    if recipe.limits.workers == 1 and count > 1 and training >= _LONG and room:
        yield (
            f"[limits] workers = {count} would train the adapters side by side, about "
            f"{_ASIDE:.2f} times as fast as now, in {need / GIB:.1f} GiB"
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
        "search": 'set [search] strategy = "racing", or a smaller budget or max_datasets',
        "confirm": 'set [confirm] top = 1, or budget = "fixed"',
    }.get(longest.name, "take a smaller base")
    yield f"time: {total / 3600:.1f} of {hours:g} hours, most of it to {longest.name}: {change}"
