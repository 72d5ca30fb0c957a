"""The work of a run, stage by stage, in seconds and bytes of this machine."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from m2m.counted import counted
from m2m.formats.json_fields import JsonFields, Rounded
from m2m.llamacpp.scratch_model import scratch_folder
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.space import LISTED, Space
from m2m.mix.strategy import Cost
from m2m.pipeline.experts import expert_job, goes_on
from m2m.pipeline.finetunes import training_rows
from m2m.pipeline.inputs import Inputs, expert_passes
from m2m.pipeline.kept import finished_experts
from m2m.pipeline.search import planned_strategy, search_space
from m2m.planning.calibration import Aside, Rates
from m2m.planning.sizes import Sizes
from m2m.planning.until import HALVING, LAST, SEARCH, TRAIN, FirstPass, Rungs
from m2m.recipe import Recipe
from m2m.recipe.fields import UNTIL
from m2m.results.confirmation import Confirmation
from m2m.results.courses import Courses
from m2m.results.training import passes_text
from m2m.tuner.checkpointing import checkpoint_path, saved_step

# A checkpoint holds the adapter, AdamW's two states and the best adapter so far; one more with
# a schedule that keeps a mean.
_CHECKPOINTS = 4
# A trial's line in the journal: bytes of the line itself, and of each choice's log-likelihood.
_LINE, _CHOICE = 500, 20
_DRAWN = 256  # mixtures that represent all mixtures if these are too many
ASIDE = 1.15  # speed of two workers over one with both threads: 1.13 to 1.2; more may gain more


@dataclass(frozen=True)
class PlannedStage(JsonFields):
    """The expected cost of one stage; memory is the process's peak until its end, as in `Stage`."""

    name: str
    what: str
    seconds: Annotated[float, Rounded(1)]
    peak_rss_bytes: int
    disk_bytes: int


class Work:
    """The work of a run, in seconds and bytes.

    Args:
        inputs: the run's inputs.
        rates: the rates of this machine.
        like: the work of the same inputs with other settings, which saves time.
        first: the pass over the datasets before those without an expert are left out.
        finished: what a finished run of the same settings has found.
    """

    def __init__(
        self,
        inputs: Inputs,
        rates: Rates,
        like: Work | None = None,
        first: FirstPass | None = None,
        finished: Confirmation | None = None,
    ) -> None:
        self.inputs, self.rates, self.recipe = inputs, rates, inputs.recipe
        self.first, self.finished = first, finished
        self._fixed: Sizes = like._fixed if like else Sizes.of(inputs)
        self.scratch, self.exported = self._fixed.scratch, self._fixed.exported
        self.names = inputs.usable_names
        self.space = search_space(inputs)
        self.strategy = planned_strategy(inputs, self._fixed.examples)
        self.sizes = _sizes(self.space)
        self.passes = self._passes_like(like) if like else expert_passes(inputs)
        dev, test = self._fixed.dev, self._fixed.test
        self.block_seconds = sum(shared for shared, _ in dev) * rates.scored
        self.dev_seconds, self.test_seconds = (
            sum(map(sum, tokens)) * rates.scored for tokens in (dev, test)
        )
        choices = sum(
            len(example.choices) for task in inputs.dev.values() for example in task.examples
        )
        self.line = _CHOICE * choices

    def _passes_like(self, like: Work) -> dict[str, float]:
        """Return the passes for other steps; to count the rows of every batch takes long."""
        ratio = self.recipe.train.steps / like.recipe.train.steps
        names = self.names or like.passes
        return {name: seen * ratio for name, seen in like.passes.items() if name in names}

    def of(self, recipe: Recipe, first: FirstPass | None = None) -> Work:
        """Return the work of a recipe that differs only in its settings."""
        return Work(dataclasses.replace(self.inputs, recipe=recipe), self.rates, self, first)

    def stages(self) -> list[PlannedStage]:
        """Return all stages, in order."""
        if self.recipe.confirm.budget == UNTIL:
            return [self.train(), self.search(), self.halving(), self.last(), self.export()]
        return [self.train(), self.search(), self.confirm(), self.export()]

    def train(self) -> PlannedStage:
        """Plan one adapter for every dataset that has none yet."""
        made, experts = finished_experts(self.inputs), self.inputs.expert_names
        left = [name for name in experts if name not in made]
        seconds = sum(self._training(self._steps_left(name), name) for name in left)
        if left and (first := self.first):
            tried = [name for name in first.names if name not in experts]
            seconds += sum(self._training(first.steps, name) for name in tried)
        seen = list(dict.fromkeys(map(passes_text, sorted(self.passes.values()))))
        what = f"{counted(len(left), 'adapter')} of {counted(self.recipe.train.steps, 'step')}, "
        what += "passes over their rows: " + " to ".join([seen[0], *seen[1:][-1:]])
        if not experts:
            return PlannedStage(TRAIN, "no experts", 0.0, self.rates.training_bytes, 0)
        at_once, peak = 1, self.rates.training_bytes
        if aside := self.rates.aside:
            at_once, peak = aside.at_once, aside.bytes
            seconds *= times_alone(aside)
            what += f", {at_once} at a time"
        if left:
            seconds += self.rates.decoder
        if left and first:
            seconds += self.rates.decoder + self.rates.surrogate
            seconds += len(first.names) * self._check_seconds()
            what += f", the best of {counted(len(first.names), 'dataset')} after {first.steps}"
        states = len(left) if goes_on(self.recipe) else at_once  # each has as many as a checkpoint
        disk = (len(left) + (_CHECKPOINTS + goes_on(self.recipe)) * states) * (
            self.rates.adapter_bytes if left else 0
        )
        return PlannedStage(TRAIN, what, seconds, peak, disk)

    def _steps_left(self, name: str) -> int:
        """Return the steps that an expert still needs; a stopped one goes on from its state."""
        job = expert_job(self.inputs, name)
        state = job.state or checkpoint_path(job.folder)
        return max(0, job.steps - saved_step(state, job.identity(self.inputs.base)))

    def search(self) -> PlannedStage:
        """Plan the base on dev, the strategy's mixtures, and the finalists as they are exported."""
        cost, rates = self.strategy.cost(), self.rates
        if not self.recipe.searches:
            return PlannedStage(SEARCH, "no search", 0.0, self.rates.training_bytes, 0)
        left = cost.less(self.done())
        base = 1.0 - rates.known.get(BASE, Cost()).evaluations
        load = rates.load(self._expected_size(), len(self.names))
        seconds = rates.surrogate + base * (rates.load(1, len(self.names)) + self.dev_seconds)
        seconds += left.loads * (load + self.block_seconds)
        seconds += left.evaluations * (self.dev_seconds - self.block_seconds)
        # One scoreboard for every mixture; the warnings use complete mixtures a second time.
        seconds += (cost.mixtures + cost.evaluations + 1) * rates.judged
        quantize, finalists = self.recipe.quantize, max(2, self.recipe.confirm.top)
        finalists = min(finalists, self.strategy.candidates)
        if quantize.export != quantize.type and finalists > 1:
            left_over = 0 if self.finished else finalists
            seconds += rates.surrogate + left_over * (load + self.dev_seconds)
        disk = round(cost.loads * _LINE + cost.evaluations * self.line) + self.scratch_on_disk()
        peak = max(rates.training_bytes, rates.scoring_bytes)
        return PlannedStage(SEARCH, self._search_in_words(cost), seconds, peak, disk)

    def done(self) -> Cost:
        """Return the work that the journal holds for mixtures that the search may need."""
        singles = [Mixture.uniform([name]) for name in self.names]
        total = Cost()
        for mixture, known in self.rates.known.items():
            if self.space.allows(mixture) or mixture in singles:
                total += known
        return total

    def _search_in_words(self, cost: Cost) -> str:
        name, count = self.strategy.name, self.strategy.candidates
        part = "" if cost.mixtures >= count else f"{cost.mixtures:.0f} of "
        all_in_full = cost.evaluations >= count
        evaluations = f", about {cost.evaluations:.0f} evaluations of dev"
        return f"{name}: {part}{counted(count, 'mixture')}{'' if all_in_full else evaluations}"

    def confirm(self) -> PlannedStage:
        """Plan fine-tunes of the best and of the baselines, all scored on dev and test."""
        if self.finished:
            scored = counted(len(self.finished.models), "model")
            return self._kept("confirm", f"{scored} with scores")
        confirm = self.recipe.confirm
        total = len(self.names)
        sizes = [self._expected_size()] * min(confirm.top, self.strategy.candidates)
        # Of a top mixture: a single dataset may be trained already.
        chance_untrained = self._chance_mixed() if self._is_free() else 1.0
        trainings = [chance_untrained * self._confirming(size) for size in sizes]
        union = Mixture.union(training_rows(self.inputs, self.names))
        everything = {"all": Mixture.uniform(self.names), "union": union}
        # One fine-tune if all datasets have as many rows.
        both = {everything[name] for name in confirm.baselines if name in everything}
        whole = len(both) if total > 1 else 0
        sizes += [total] * whole
        trainings += [self._confirming(total)] * whole
        models = 2.0 + len(sizes)
        if "best_single" in confirm.baselines and self._expected_size() > 1:
            # It may already be one of the top mixtures.
            models += self._chance_mixed() ** confirm.top
            trainings.append(0.0 if self._is_free() else self._confirming(1))
        seconds = sum(trainings) + (self.rates.decoder if any(trainings) else 0.0)
        seconds += self.rates.surrogate + models * (self.dev_seconds + self.test_seconds)
        seconds += models * (self.rates.load(1, total) + 2 * self.rates.judged)
        tuned = sum(map(bool, trainings))
        disk = (tuned + _CHECKPOINTS) * self.rates.adapter_bytes
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        what = f"up to {counted(tuned, 'fine-tune')}, {whole} on all datasets; "
        what += f"{models:.0f} models scored"
        return PlannedStage("confirm", what, seconds, peak, disk)

    def _kept(self, stage: str, what: str) -> PlannedStage:
        """Plan a stage whose results are kept, and read again."""
        models = len(self.finished.models) if self.finished else 0
        seconds = self.rates.surrogate + models * 2 * self.rates.judged
        return PlannedStage(stage, f"kept: {what}", seconds, self.rates.scoring_bytes, 0)

    @property
    def courses(self) -> Courses | None:
        """Return the trainings that a finished run without a fixed budget has made."""
        return self.finished.courses if self.finished else None

    def rungs(self) -> Rungs:
        """Return the expected rungs: top of the ranking, nested unions, all datasets, the best."""
        total, confirm = len(self.names), self.recipe.confirm
        named = {*confirm.baselines}
        equal = len({*training_rows(self.inputs, self.names).values()}) == 1
        both = {"all", "union"} & named
        whole = len(both) - (equal and len(both) > 1)
        if not self.recipe.searches:
            return Rungs(max(1, whole), self.recipe.train.steps, 0, total)
        whole = 0 if total < 3 else whole
        nested = max(0, min(confirm.nested, total) - 1)
        top = min(confirm.top, self.strategy.candidates)
        count = 1 if total == 1 else max(2, top + nested + whole + ("best_single" in named) - 1)
        return Rungs(count, self.recipe.train.steps, int(goes_on(self.recipe)), total)

    def halving(self) -> PlannedStage:
        """Plan the rungs of contenders that get equal steps."""
        if self.courses:
            return self._kept(HALVING, counted(len(self.courses.courses), "contender"))
        rungs, rates = self.rungs(), self.rates
        seconds = self._training(rungs.steps) + len([*rungs]) * (rates.decoder + rates.surrogate)
        seconds += rungs.checks * self._check_seconds()
        what = f"one contender of {counted(rungs.first, 'step')}"
        if rungs.contenders > 1:
            what = f"about {rungs.contenders} contenders of {rungs.first:,} steps; the better half "
            what += f"goes on, up to {rungs.top:,}"
        kept = rungs.checks + (_CHECKPOINTS + 1) * rungs.contenders
        peak = max(rates.training_bytes, rates.scoring_bytes)
        return PlannedStage(HALVING, what, seconds, peak, kept * rates.adapter_bytes)

    def last(self) -> PlannedStage:
        """Plan the last training up to its cap, and all scores on test."""
        if self.courses:
            return self._kept(LAST, f"the winner's {counted(self.courses.steps, 'step')}")
        rungs, rates, confirm = self.rungs(), self.rates, self.recipe.confirm
        steps = rungs.last(confirm.max_passes / self.passes_per_step)
        seconds = steps * self._last_step() + self._scored_in_the_end()
        what = f"the last contender, {counted(steps, 'more step')} at most; it ends earlier after "
        what += f"{counted(confirm.patience, 'check')} without improvement, or when --hours are up"
        peak = max(rates.training_bytes, rates.scoring_bytes)
        return PlannedStage(LAST, what, seconds, peak, 2 * rates.adapter_bytes)

    @property
    def passes_per_step(self) -> float:
        """Return how often a step of the last training sees a row; before a run, on average."""
        passes, steps = self.passes, self.recipe.train.steps
        if self.courses:
            names = self.courses.courses[self.courses.winner].mixture.datasets
            return max(passes[name] for name in names) / len(names) / steps
        expected = min(2.0, self._expected_size()) if self.recipe.searches else len(self.names)
        return sum(passes.values()) / len(passes) / steps / expected

    def steps_within(self, seconds: float) -> int:
        """Return the steps that the last training makes after its rungs in that time."""
        return max(0, int((seconds - self._scored_in_the_end()) / self._last_step()))

    def least_seconds(self) -> float:
        """Return the seconds of a run whose last training ends at once."""
        stages = {stage.name: stage.seconds for stage in self.stages()}
        return sum(stages.values()) - stages[LAST] + self._scored_in_the_end()

    def _last_step(self) -> float:
        """Return the seconds of a step of the last training, with its part of the checks."""
        gap, rates = max(1, self.recipe.train.steps // 2), self.rates
        checked = rates.decoder + rates.surrogate + self._check_seconds()
        return rates.step() + (rates.pause + checked) / gap

    def _scored_in_the_end(self) -> float:
        """Return the seconds of scoring all contenders on dev and test."""
        rungs = self.rungs()
        models = rungs.contenders + len([*rungs]) + 2
        return self.rates.surrogate + models * (self._check_seconds() + self.test_seconds)

    def validation_seconds(self) -> float:
        """Return the seconds of `m2m validate`, if none of its fine-tunes is made yet."""
        mixed = sum(count for size, count in self.sizes.items() if size > 1)
        if not self.recipe.searches or not mixed:
            return 0.0
        scored = self._check_seconds() + self.test_seconds
        each = self._confirming(self._expected_size()) + scored + self.dev_seconds
        count = min(self.recipe.validate.mixtures, mixed)
        return self.rates.decoder + 2 * self.rates.surrogate + count * each

    def _check_seconds(self) -> float:
        """Return the seconds of scoring one adapter on dev."""
        return self.dev_seconds + self.rates.load(1, len(self.names)) + 2 * self.rates.judged

    def export(self) -> PlannedStage:
        """Plan the winner as GGUF and LoRA."""
        seconds = self.rates.surrogate + self.rates.load(1, len(self.names))
        peak = max(self.rates.training_bytes, self.rates.scoring_bytes)
        disk = self.exported + self.rates.adapter_bytes
        return PlannedStage("export", self.recipe.quantize.export, seconds, peak, disk)

    def _training(self, steps: int, dataset: str | None = None) -> float:
        pauses = -(-steps // self.recipe.train.checkpoint_every)
        return steps * self.rates.step(dataset) + pauses * self.rates.pause

    def _confirming(self, size: float) -> float:
        """Return the seconds of one confirming fine-tune."""
        return self._training(self._budget(size))

    def _budget(self, size: float) -> int:
        budget, steps = self.recipe.confirm.budget, self.recipe.train.steps
        if budget == "proportional":
            return round(steps * size)
        return steps if isinstance(budget, str) else budget

    def _is_free(self) -> bool:
        """Return whether a confirmed single dataset is its expert, which is trained already."""
        borrows = self.recipe.train.replay > 0 and self.recipe.train.replay_from is None
        return not borrows and self._budget(1) == self.recipe.train.steps

    def _expected_size(self) -> float:
        """Return the expected number of datasets of the winner, when nothing is known of it."""
        return sum(size * count for size, count in self.sizes.items()) / sum(self.sizes.values())

    def _chance_mixed(self) -> float:
        """Return the chance that a mixture is not a single dataset, when nothing is known."""
        return 1.0 - self.sizes[1] / sum(self.sizes.values())

    def scratch_on_disk(self) -> int:
        """Return the bytes of the scratch model on the disk; 0 if it is in memory."""
        key = self.recipe.folder
        folder = scratch_folder(key, 2 * self.inputs.base.info.parameters)
        if folder == key:
            return self.scratch
        if not any(folder.iterdir()):
            folder.rmdir()
        return 0


def _sizes(space: Space) -> Counter[int]:
    """Count the mixtures by their number of datasets: all, or a sample if there are too many."""
    if not space.parts and space.most <= LISTED:
        return Counter(len(mixture.datasets) for mixture in space.subsets())
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(_DRAWN)]
    return Counter(len(mixture.datasets) for mixture in drawn if mixture) or Counter([1])


def times_alone(aside: Aside) -> float:
    """Return the time of workers divided by the time of training one by one with all threads."""
    return aside.slower * aside.count / aside.at_once / ASIDE
