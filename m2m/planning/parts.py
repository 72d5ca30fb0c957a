"""The parts of the hours that each stage gets, and the gain that twice the hours would bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from m2m.formats.json_fields import JsonFields, Rounded
from m2m.planning.cost import PlannedStage, Work
from m2m.planning.until import LAST, LAST_PART, MOST
from m2m.results.courses import Courses


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
    if rest <= 0:
        return stages
    steps, passes, ends = last_training(work, hours)
    what = f"the last contender, about {steps:,} more steps, in all {passes:.2g} passes over its "
    what += "rows, "
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
    top, most = work.rungs().top, work.recipe.confirm.max_passes
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
    yield (
        f"In {2 * hours:g} hours the last training would have about {more:,} steps instead of "
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
