"""The dev scores of fine-tunes that went on to more steps, and why the last training ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from m2m.counted import counted
from m2m.evaluate.score import Score
from m2m.formats.json_fields import Inline, JsonFields, Newer
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.progress import duration
from m2m.results.table import Cell, Column, Table

# Reasons why the last training ended, with words for people.
PATIENCE, PASSES, CAP, TIME = "patience", "passes", "cap", "time"
_ENDS: Mapping[str, str] = {
    PATIENCE: "neither the dev score nor the held-out loss had improved for long enough ([confirm] "
    "patience)",
    PASSES: "it had seen the rows of a dataset often enough ([confirm] max_passes)",
    CAP: "it had had as many steps as all experts and all other fine-tunes together",
    TIME: "the time was up",
}


@dataclass(frozen=True)
class Check(JsonFields):
    """One measurement of a training: dev score and held-out loss (None without such rows)."""

    steps: int
    dev: Score
    held_out: float | None


@dataclass(frozen=True)
class Course(JsonFields):
    """The checks of one mixture's training, by their steps."""

    mixture: Inline[Mixture]
    checks: Sequence[Check]


@dataclass(frozen=True)
class Spoiled(JsonFields):
    """A dataset whose held-out loss turned in the last training while that of others still fell.

    Attributes:
        best, lowest: steps after which its loss was lowest, and that loss.
        steps, loss: the check that showed it.
        dropped: whether the training went on without it.
    """

    dataset: str
    best: int
    lowest: float
    steps: int
    loss: float
    dropped: bool = False

    @property
    def sentence(self) -> str:
        """Say so in a sentence, with the remedy."""
        best = counted(self.best, "step")
        turned = (
            f"The loss on held-out rows of {self.dataset} was lowest after {best} "
            f"({self.lowest:z.3f}) and {self.loss:z.3f} after {self.steps:,}, while that of the "
            "other datasets fell"
        )
        if self.dropped:
            return f"{turned}; from there on it was left out ([confirm] drop)."
        return f"{turned}. `drop = true` in [confirm] leaves such a dataset out from there on."


@dataclass(frozen=True)
class Courses(JsonFields):
    """The courses of all contenders.

    Attributes:
        metric: of the dev scores.
        winner: place of the winner in `courses`.
        best: steps after which the winner was best on dev.
        end: why its training ended: `PATIENCE`, `PASSES`, `CAP` or `TIME`.
        more: how much as many steps again would bring on dev; None if too little is known.
        seconds: of one step of the winner here, with its part of the checks; 0 if not known.
        spoiled: datasets whose held-out loss turned in its last training.
    """

    metric: str
    courses: Sequence[Course]
    winner: int
    best: int
    end: str
    more: Newer[Interval | None] = None
    seconds: Newer[float] = 0.0
    spoiled: Newer[Sequence[Spoiled]] = ()

    @property
    def steps(self) -> int:
        """Return the steps of the winner's whole training."""
        return self.courses[self.winner].checks[-1].steps

    @property
    def sentences(self) -> list[str]:
        """Say how the training ended, and how it can go on."""
        kept = (
            "its last adapter is the best on dev and is kept"
            if self.best == self.steps
            else f"the adapter after {counted(self.best, 'step')} was best on dev and is kept"
        )
        ended = f"Training ended after {self.steps:,} steps, because {_ENDS[self.end]}; {kept}."
        turned = [spoiled.sentence for spoiled in self.spoiled]
        return [ended, *turned, *self.outlook]

    @property
    def outlook(self) -> list[str]:
        """Say how much further training would bring, and how to go on."""
        further = "`m2m run RECIPE --hours 2` goes on from there."
        return [*self._trend, *([further] if self.end in (CAP, TIME) else [])]

    @property
    def _trend(self) -> list[str]:
        if self.more is None:
            return []
        here = f", about {duration(self.steps * self.seconds)} here" if self.seconds else ""
        return [
            f"As many steps again ({self.steps:,}{here}) would bring {self.more.estimate:+z.3f} "
            f"{self.metric} on dev (95 % interval {self.more.ends}), judged by the last checks."
        ]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `as_json`.

        Raises:
            ValueError: there is no such winner or end.
        """
        read = super().from_json(data)
        courses, winner, end = read.courses, read.winner, read.end
        if not 0 <= winner < len(courses) or not courses[winner].checks or end not in _ENDS:
            raise ValueError(f"winner {winner} of {len(courses)} courses, end {end!r:.40}")
        return read


def courses_table(courses: Courses, datasets: int) -> Table:
    """Show every check of every training.

    Args:
        courses: the trainings.
        datasets: number of datasets of the run.
    """
    rows: list[Sequence[Cell]] = []
    strong: set[int] = set()
    for place, course in enumerate(courses.courses):
        for check in course.checks:
            if place == courses.winner and check.steps == courses.best:
                strong.add(len(rows))
            name = course.mixture.short(datasets)
            rows.append((name, check.steps, check.dev, check.held_out))
    return Table(
        "courses",
        f"{courses.metric} on dev after more and more steps: value ± standard error; held-out loss "
        "in nats per trained token",
        [
            Column("mixture", "mixture"),
            Column("steps", "steps", int),
            Column("dev", f"dev {courses.metric}", Score),
            Column("held_out", "held-out loss", float, "{:z.3f}".format),
        ],
        rows,
        strong=frozenset(strong),
    )
