"""The cost of each step of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.formats.json_values import as_seconds, as_text, as_whole
from m2m.progress import duration
from m2m.results.table import Cell, Column, Table

GIB = 2**30


@dataclass(frozen=True)
class Step:
    """The cost of one step of the run; memory is the process's peak when it ended."""

    name: str
    seconds: float
    peak_rss_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return one line of `steps.jsonl`."""
        return {**vars(self), "seconds": round(self.seconds, 3)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Rebuild it from `as_json`.

        Raises:
            KeyError, ValueError: it is not from `as_json`.
        """
        return cls(
            as_text(data["name"], "name"),
            as_seconds(data["seconds"], "seconds"),
            as_whole(data["peak_rss_bytes"], "peak_rss_bytes"),
        )


def added_up(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Add up each step over all its calls: the sum of the seconds, and the largest peak."""
    total: dict[str, Step] = {}
    for step in steps:
        before = total.get(step.name, Step(step.name, 0.0, 0))
        peak = max(before.peak_rss_bytes, step.peak_rss_bytes)
        total[step.name] = Step(step.name, before.seconds + step.seconds, peak)
    return tuple(total.values())


def step_table(steps: Sequence[Step]) -> Table:
    """Show time and memory of each step of one call."""
    return Table("steps", "Time and memory of this call", step_columns(), step_rows(steps))


def step_columns() -> list[Column]:
    """Return the columns of tables with a step in each row."""
    return [
        Column("step", "step"),
        Column("seconds", "time", float, duration),
        Column("peak_rss_bytes", "peak memory", int, lambda n: f"{n / GIB:.2f} GiB" if n else "-"),
    ]


def step_rows(steps: Iterable[Step]) -> list[tuple[Cell, ...]]:
    """Return a row for each step."""
    return [(step.name, step.seconds, step.peak_rss_bytes) for step in steps]
