"""The cost of each stage of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from m2m.formats.json_fields import JsonFields, Newer, Rounded
from m2m.formats.json_values import as_seconds, as_text, as_whole
from m2m.progress import duration
from m2m.results.table import Cell, Column, Table

GIB = 2**30


@dataclass(frozen=True)
class Stage(JsonFields):
    """The cost of one stage of the run; memory is the process's peak when it ended.

    `gpu_joules` is the energy that GPUs say they drew: None if no GPU worked, or none says.
    """

    name: Annotated[str, as_text]
    seconds: Annotated[float, as_seconds, Rounded(3)]
    peak_rss_bytes: Annotated[int, as_whole]
    gpu_joules: Newer[Annotated[float, as_seconds] | None] = None


def added_up(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Add up each stage over all its calls: the sum of the seconds, and the largest peak."""
    total: dict[str, Stage] = {}
    for stage in stages:
        before = total.get(stage.name, Stage(stage.name, 0.0, 0))
        peak = max(before.peak_rss_bytes, stage.peak_rss_bytes)
        joules = summed(before.gpu_joules, stage.gpu_joules)
        total[stage.name] = Stage(stage.name, before.seconds + stage.seconds, peak, joules)
    return tuple(total.values())


def summed(*joules: float | None) -> float | None:
    """Return the sum of the energies that are known; None if none is."""
    known = [each for each in joules if each is not None]
    return sum(known) if known else None


def stage_table(stages: Sequence[Stage]) -> Table:
    """Show time and memory of each stage of one call."""
    return Table("steps", "Time and memory of this call", stage_columns(), stage_rows(stages))


def stage_columns() -> list[Column]:
    """Return the columns of tables with a stage in each row."""
    return [
        Column("step", "step"),
        Column("seconds", "time", float, duration),
        Column("peak_rss_bytes", "peak memory", int, lambda n: f"{n / GIB:.2f} GiB" if n else "-"),
    ]


def stage_rows(stages: Iterable[Stage]) -> list[tuple[Cell, ...]]:
    """Return a row for each stage."""
    return [(stage.name, stage.seconds, stage.peak_rss_bytes) for stage in stages]
