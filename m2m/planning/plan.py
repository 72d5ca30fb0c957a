"""`m2m plan`: estimate time, memory and disk of every stage of a run before it starts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from m2m.counted import counted
from m2m.errors import ResourceError
from m2m.formats.json_fields import JsonFields, Key, Rounded, inserted
from m2m.formats.json_text import json_text
from m2m.machine import free_memory_bytes
from m2m.nn.matrix import WORTH_BF16, bf16_gain
from m2m.pipeline.device import training_device
from m2m.pipeline.experts import memory_limit
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.leaks import STOPS, find_leaks, target_warnings
from m2m.pipeline.resolved import resolved
from m2m.pipeline.scorer import threads
from m2m.pipeline.search import planned_strategy
from m2m.planning.calibration import Rates, calibrate
from m2m.planning.cost import ASIDE, PlannedStage, Work, times_alone
from m2m.planning.hours import Within, decide, first_of, with_decision
from m2m.planning.until import HALVING, LAST, LAST_PART, MOST, TRAIN, FirstPass
from m2m.progress import Progress
from m2m.recipe.fields import UNTIL
from m2m.results.confirmation import Confirmation
from m2m.results.courses import PASSES, PATIENCE, Courses
from m2m.results.folder import CONFIRMED
from m2m.tuner.saving import GIB

_ROOM = 256 << 20  # bytes left free on a disk
_LONG = 60.0  # seconds of training; nobody needs a shorter time than this
_TRAINING = (TRAIN, "confirm", HALVING, LAST)
UNCUT: Mapping[str, Any] = {"settings": {}, "gave_up": []}
_PRODUCTS = 0.55  # fraction of a training step that bf16 makes faster


@dataclass(frozen=True)
class Plan(JsonFields):
    """The plan of a whole run.

    Attributes:
        stages: the stages in order.
        strategy: name of the search's strategy.
        candidates: number of mixtures that it chooses from.
        passes: how often an expert will see each of its rows, on average, by dataset.
        advice: changes to make if the run does not fit; else hints that may help.
        fits: memory, disk and hours suffice.
        hours: hours that the run may take; 0 for any.
        parts: the part of the hours that each stage gets, if the last one has no fixed length.
        validation_seconds: of `m2m validate`, which no run does by itself.
        gave_up: everything that the run gives up to fit into the hours.
        began: the cuts of an earlier call, which hold.
        twice: sentences on a run of twice the hours.
        warnings: warnings about the model and the data, as the run prints them.
    """

    stages: Annotated[Sequence[PlannedStage], Key("steps")]
    strategy: str
    candidates: int
    passes: Mapping[str, float]
    fits: bool
    parts: Sequence[HoursPart] = ()
    validation_seconds: Annotated[float, Rounded(1)] = 0.0
    gave_up: Sequence[str] = ()
    began: str = ""
    twice: Sequence[str] = ()
    advice: Sequence[str] = ()
    warnings: Sequence[str] = ()
    hours: float = 0.0

    @property
    def total_seconds(self) -> float:
        """Return the seconds of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m plan --json`."""
        written = inserted(super().as_json(), "steps", total_seconds=round(self.total_seconds, 1))
        del written["hours"]
        return written


def make_plan(inputs: Inputs, progress: Progress, within: Within | None = None) -> Plan:
    """Calibrate and plan.

    Args:
        inputs: the run's inputs.
        progress: shows the calibration.
        within: hours that the run may take, with the decisions of earlier calls.

    Raises:
        InputError: the search has no mixture to choose from, or too many.
        Interrupted: the user asked to stop.
    """
    strategy, warnings = planned_strategy(inputs), [*inputs.warnings, *_leaks(inputs)]
    for warning in warnings:
        progress.warn(warning)
    try:
        rates = calibrate(inputs, progress)
    except ResourceError as error:
        advice = (error.message, *([error.hint] if error.hint else []))
        name, count = strategy.name, strategy.candidates
        return Plan((), name, count, {}, False, advice=advice, warnings=warnings)
    hours = within.hours if within else 0.0
    if within and inputs.recipe.confirm.budget == UNTIL:
        kept = within.kept(until=True)
        plan = plan_within(inputs, rates, hours, kept)
        if kept and kept["gave_up"]:
            plan = dataclasses.replace(plan, gave_up=(), began=within.again(kept))
    else:
        plan = plan_with(inputs, rates, hours)
    return dataclasses.replace(plan, warnings=warnings)


def estimated(inputs: Inputs, progress: Progress) -> Plan:
    """Measure for some seconds, and return the plan of a run without hours; no warnings.

    Raises:
        M2MError: as `make_plan`, or training does not fit into memory.
    """
    return plan_with(inputs, calibrate(inputs, progress))


def plan_within(
    inputs: Inputs, rates: Rates, hours: float, kept: dict[str, Any] | None = None
) -> Plan:
    """Return the plan of a run whose last training has no fixed length, cut down to its hours.

    Args:
        inputs: the run's inputs, with the whole recipe.
        rates: the rates of this machine.
        hours: hours that the run may take; 0 for any.
        kept: the decision of an earlier call, which holds for any hours.
    """
    decision = kept or (decide(inputs, rates, hours) if hours else UNCUT)
    cut = with_decision(inputs, decision)
    plan = plan_with(cut, rates, hours, first_of(decision))
    plan = dataclasses.replace(plan, gave_up=decision["gave_up"])
    if (confirmation := _confirmed(cut)) and confirmation.courses:
        return dataclasses.replace(plan, twice=[*twice_after(confirmation.courses)])
    if not hours:
        return plan
    later = kept or decide(inputs, rates, 2 * hours)
    both = {"once": decision, "twice": later}
    losses = {
        name: dict(zip(each.get("cuts", ()), each["gave_up"], strict=False))
        for name, each in both.items()
    }
    works = [
        Work(with_decision(inputs, each), rates, first=first_of(each)) for each in (decision, later)
    ]
    return dataclasses.replace(plan, twice=[*twice(works[0], hours, works[1], losses)])


def _confirmed(inputs: Inputs) -> Confirmation | None:
    """Return what a finished run of the same settings has found."""
    if not inputs.files.is_of(CONFIRMED, json.loads(json_text(resolved(inputs)))):
        return None
    return inputs.files.read(CONFIRMED, Confirmation.from_json)


def _leaks(inputs: Inputs) -> Iterator[str]:
    """Warn of leaks, which would stop the run, and of targets that cannot verify its result."""
    leaks = find_leaks(inputs)
    yield from (leak.warning for leak in leaks)
    if leaks:
        yield STOPS
    yield from target_warnings(inputs)


def plan_with(
    inputs: Inputs, rates: Rates, hours: float = 0.0, first: FirstPass | None = None
) -> Plan:
    """Return the plan for given rates; see `make_plan`."""
    until = inputs.recipe.confirm.budget == UNTIL
    work = Work(inputs, rates, first=first, finished=_confirmed(inputs))
    stages = until_time_is_up(work, hours) if until and hours else work.stages()
    wrong = [*_memory(work, stages), *_disk(work, stages), *_time(work, stages, hours)]
    advice = [*wrong, *_precision(work, stages), *_workers(work, stages), *_unseen(work)]
    name, count = work.strategy.name, work.strategy.candidates
    parts = parts_of(stages, hours) if until else ()
    validation = work.validation_seconds()
    return Plan(
        stages, name, count, work.passes, not wrong, parts, validation, advice=advice, hours=hours
    )


def _memory(work: Work, stages: Sequence[PlannedStage]) -> Iterator[str]:
    free = free_memory_bytes()
    # With a RAM disk the scratch model is in memory too.
    need = max(stage.peak_rss_bytes for stage in stages)
    need += 0 if work.scratch_on_disk() else work.scratch
    if free and need > free:
        yield (
            f"memory: {need / GIB:.1f} GiB needed, {free / GIB:.1f} free: set [limits] memory or a "
            "smaller [train] batch_tokens, take a smaller [quantize] type, or close programs"
        )


def _disk(work: Work, stages: Sequence[PlannedStage]) -> Iterator[str]:
    need = sum(stage.disk_bytes for stage in stages) + _ROOM
    free = shutil.disk_usage(_existing(work.recipe.folder)).free
    if need > free:
        yield (
            f"disk: {need / GIB:.1f} GiB needed under {work.recipe.folder}, {free / GIB:.1f} free: "
            "free some, or move the recipe to a larger disk"
        )


def _precision(work: Work, stages: Sequence[PlannedStage]) -> Iterator[str]:
    training = sum(stage.seconds for stage in stages if stage.name in _TRAINING)
    if work.recipe.train.precision != "float32" or training < _LONG:
        return
    if training_device(work.recipe, work.inputs.base.config):
        return
    if (gain := bf16_gain()) >= WORTH_BF16:
        times = 1.0 / (1.0 - _PRODUCTS + _PRODUCTS / gain)
        yield (
            f'[train] precision = "bf16" would train about {times:.1f} times as fast on this '
            "processor, with rounding that docs/training.md describes"
        )


def _unseen(work: Work) -> Iterator[str]:
    experts = work.inputs.expert_names
    partly = [f"{x:.0%} of {name}" for name, x in work.passes.items() if x < 1 and name in experts]
    if partly:
        seen = ", ".join(partly)
        yield f"some rows will not be trained on: experts see {seen}; raise [train] steps"


def _workers(work: Work, stages: Sequence[PlannedStage]) -> Iterator[str]:
    recipe, training = work.recipe, stages[0].seconds
    if (aside := work.rates.aside) and times_alone(aside) > 1.0:
        yield (
            f"memory is too little for {counted(aside.count, 'worker')} to be faster than one: set "
            "[limits] workers = 1"
        )
    count = min(threads(recipe), len(work.names) // 2)
    limit, need = memory_limit(recipe), count * work.rates.training_bytes
    room = not limit or need <= limit
    if recipe.limits.workers == 1 and count > 1 and training >= _LONG and room:
        yield (
            f"[limits] workers = {count} would train the adapters side by side, about "
            f"{ASIDE:.2f} times as fast as now, in {need / GIB:.1f} GiB"
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _time(work: Work, stages: Sequence[PlannedStage], hours: float) -> Iterator[str]:
    """Say that a run with a fixed budget does not fit; others are cut until they do."""
    total = sum(stage.seconds for stage in stages)
    if not hours or total <= hours * 3600 or work.recipe.confirm.budget == UNTIL:
        return
    longest = max(stages, key=lambda stage: stage.seconds)
    cheaper = work.strategy.cheaper
    less = f'strategy = "{cheaper[0]}"' if cheaper else "a smaller budget"
    change = {
        TRAIN: "lower [train] steps, or leave datasets out",
        "search": f"set [search] {less}, or a smaller max_datasets",
        "confirm": 'set [confirm] top = 1, or budget = "fixed"',
    }.get(longest.name, "take a smaller base")
    yield (
        f"time: {total / 3600:.1f} of {hours:g} hours, most of it to {longest.name}: {change}. "
        f"`m2m run RECIPE --hours {hours:g}` looks for cuts itself"
    )


@dataclass(frozen=True)
class HoursPart(JsonFields):
    """A stage's part of the hours, with its limit.

    Attributes:
        part: fraction of the hours.
        most, least: its limits, as fractions; None: no such limit.
    """

    name: str
    part: Annotated[float, Rounded(4)]
    most: float | None = None
    least: float | None = None

    @property
    def text(self) -> str:
        """Say both: "22 % (at most 25 %)"."""
        limit = f" (at most {self.most:.0%})" if self.most else ""
        limit += f" (at least {self.least:.0%})" if self.least else ""
        return f"{self.part:.0%}{limit}".replace("%", " %")


def until_time_is_up(work: Work, hours: float) -> list[PlannedStage]:
    """Return the stages with a last training that takes the rest of the hours, if some are left.

    The plan's last training ends earlier if its rows have been seen often enough by then.
    """
    stages = work.stages()
    rest = hours * 3600 - sum(stage.seconds for stage in stages if stage.name != LAST)
    if rest <= 0 or (work.courses and work.courses.end in (PATIENCE, PASSES)):
        return stages
    steps, passes, ends = last_training(work, hours)
    who = "the last contender"
    if work.courses:
        who = f"the winner goes on from {counted(work.courses.steps, 'step')}"
    what = f"{who}, about {steps:,} more steps, in all {passes:.2g} passes over its rows, "
    if ends:
        what += f"which ends it ([confirm] max_passes) before {hours:g} hours are up"
    else:
        what += f"until {hours:g} hours are up or training does not pay any more"
    return [
        dataclasses.replace(stage, seconds=rest, what=what) if stage.name == LAST else stage
        for stage in stages
    ]


def last_training(work: Work, hours: float) -> tuple[int, float, bool]:
    """Return the steps of the last training, its passes, and whether these end it before time."""
    before = sum(stage.seconds for stage in work.stages() if stage.name != LAST)
    top = work.courses.steps if work.courses else work.rungs().top
    most = work.recipe.confirm.max_passes
    steps = work.steps_within(hours * 3600 - before)
    passes = (top + steps) * work.passes_per_step
    if passes < most:
        return steps, passes, False
    return max(0, round(most / work.passes_per_step) - top), most, True


def parts_of(stages: Sequence[PlannedStage], hours: float) -> list[HoursPart]:
    """Return each stage's part of the hours, or without hours of the whole, with its limit."""
    total = hours * 3600 or sum(stage.seconds for stage in stages)
    return [
        HoursPart(
            stage.name,
            stage.seconds / total,
            MOST.get(stage.name) if hours else None,
            LAST_PART if hours and stage.name == LAST else None,
        )
        for stage in stages
        if total > 0
    ]


def twice(
    work: Work, hours: float, doubled: Work, losses: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Describe a run of twice the hours, before anything is known of its scores.

    Args:
        work: of the recipe as it is cut down to the hours.
        hours: hours that the run may take.
        doubled: of the recipe as it would be cut down to twice as many.
        losses: by cut, what is given up in "once" and in "twice" the hours.
    """
    steps, passes, ends = last_training(work, hours)
    more, longer, _ = last_training(doubled, 2 * hours)
    steps, more = steps + work.rungs().top, more + doubled.rungs().top
    yield (
        f"In {2 * hours:g} hours the winner would have about {more:,} steps in all instead of "
        f"{steps:,} ({longer:.2g} passes instead of {passes:.2g})"
        + (", because more passes end it" if ends and more <= steps else "")
        + "."
    )
    saved = [loss for cut, loss in losses["once"].items() if cut not in losses["twice"]]
    if saved:
        yield f"These cuts would not be needed: {'; '.join(saved)}."
    yield (
        "How much better the model would be is not known before the run. When it ends, it says so "
        "with an interval, and so does this command."
    )


def twice_after(courses: Courses) -> Iterator[str]:
    """Say how much further training would bring, from the dev scores of a run that has ended."""
    yield from courses.sentences
    if courses.more is None:
        yield "How much more hours would bring is not known: its last training had too few checks."
