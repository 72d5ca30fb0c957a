"""The result of `m2m more-rows`: how much the second half of each dataset's rows helped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m2m.counted import counted
from m2m.evaluate.score import Score
from m2m.formats.json_fields import JsonFields, Newer
from m2m.mix.ranking import Interval
from m2m.results.table import Column, Table

MORE = 100  # rows whose gain is estimated
_MOST = 3  # datasets that sentences name


@dataclass(frozen=True)
class RowsGain(JsonFields):
    """One dataset: the dev scores of adapters on all of its rows, and on each half of them.

    Attributes:
        rows: number of rows that are trained on.
        doubling: how much better all rows are than half of them; above 0 is better.
        room: how much better a perfect score is than that of all rows; None if none is perfect.
    """

    dataset: str
    rows: int
    all_rows: Score
    halves: tuple[Score, Score]
    doubling: Interval
    room: Newer[float | None] = None

    @property
    def hundred(self) -> Interval:
        """Return the gain of a hundred more rows, if each doubling brings as much as the last."""
        part = math.log2(1 + MORE / self.rows)
        most = math.inf if self.room is None else self.room
        return Interval(*(min(part * value, most) for value in vars(self.doubling).values()))


@dataclass(frozen=True)
class MoreRows(JsonFields):
    """How much more rows of each dataset would help.

    Attributes:
        steps: of every training, whatever the number of rows.
        questions: number of dev questions.
    """

    target: str
    metric: str
    steps: int
    questions: int
    datasets: Sequence[RowsGain]

    @property
    def best_first(self) -> list[RowsGain]:
        """Return the datasets, that with the largest gain from more rows first."""
        return sorted(self.datasets, key=lambda gain: -gain.hundred.estimate)

    @property
    def sentences(self) -> Iterator[str]:
        """Yield the measured gains, the largest first, and those of more rows if that goes on."""
        for gain in self.best_first[:_MOST]:
            measured = (
                f"{gain.dataset}: all {counted(gain.rows, 'row')} score {gain.all_rows.value:z.3f} "
                f"{self.metric}, half of them "
                f"{sum(half.value for half in gain.halves) / 2:z.3f} (gain "
                f"{gain.doubling.in_full})."
            )
            yield measured + (
                f" If that goes on, {MORE} more rows bring about {gain.hundred.in_full}."
                if gain.doubling.sign > 0
                else " So no gain from more rows of this kind is shown at "
                f"{counted(self.steps, 'step')}."
            )
        yield (
            "A gain beyond the rows that exist is a guess from one doubling. Collect a part, and "
            "measure again."
        )


def more_rows_table(found: MoreRows) -> Table:
    """Show each dataset, the largest gain first."""
    return Table(
        "more_rows",
        f"{found.metric} on {counted(found.questions, 'dev question')} of {found.target} after "
        f"{counted(found.steps, 'step')} on all rows, and on each half of them",
        [
            Column("dataset", "dataset"),
            Column("rows", "rows", int),
            Column("half_1", "half of them", Score),
            Column("half_2", "other half", Score),
            Column("all_rows", "all rows", Score),
            Column("doubling", "doubling", Interval, lambda gain: gain.signed),
            Column("hundred", f"{MORE} more rows", Interval, lambda gain: gain.signed),
        ],
        [
            (gain.dataset, gain.rows, *gain.halves, gain.all_rows, gain.doubling, gain.hundred)
            for gain in found.best_first
        ],
    )
