"""The result of training one adapter: its cost, and its loss step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.formats.json_fields import JsonFields
from m2m.results.table import Cell, Column, Table

MANY_PASSES = 20.0  # a model mostly learns its rows by heart beyond these


def passes_text(passes: float) -> str:
    """Say how often rows were seen: "2.9", or "24 (too many?)"."""
    return f"{passes:.3g}{' (too many?)' * (passes > MANY_PASSES)}"


_COLUMNS = (
    Column("steps", "steps", int),
    Column("passes", "passes", float, passes_text),
    Column("tokens", "tokens", int),
    Column("first_loss", "first loss", float, "{:z.3f}".format),
    Column("last_loss", "last loss", float, "{:z.3f}".format),
)


@dataclass(frozen=True)
class Trained(JsonFields):
    """One adapter, new or kept; `passes`: how often it has seen each row, on average.

    None is a number that an adapter from elsewhere does not give.
    """

    dataset: str
    path: Path
    steps: int | None
    tokens: int | None
    loss_first: float | None
    loss_last: float | None
    tokens_per_second: float
    peak_rss_bytes: int
    resumed: bool
    passes: float | None


@dataclass(frozen=True)
class Curve(JsonFields):
    """A training's loss, step by step, in nats per trained token.

    `passes`: how often it saw each of its rows, on average; None if its folder does not have it.
    """

    name: str
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]
    kept_step: int
    tokens: int
    passes: float | None = None

    @property
    def loss_first(self) -> float | None:
        """Return the mean loss of the first tenth of the steps; one step says little."""
        return _mean(self.losses[: self._tenth])

    @property
    def loss_last(self) -> float | None:
        """Return the mean loss of the last tenth of the steps."""
        return _mean(self.losses[-self._tenth :])

    @property
    def _tenth(self) -> int:
        return max(1, len(self.losses) // 10)

    @classmethod
    def of_adapter(cls, name: str, data: Mapping[str, Any]) -> Curve:
        """Read a curve from the `m2m.json` of an adapter's folder."""
        older = {"kept_step": len(data["losses"]), "passes": None}
        return cls.from_json({**older, **data, "name": name})


def _mean(losses: Sequence[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def adapter_table(trained: Sequence[Trained]) -> Table:
    """Show one row for each adapter of `m2m train`."""
    return Table(
        "adapters",
        "Adapters; losses in nats per trained token, mean of the first and last tenth",
        [
            Column("dataset", "dataset"),
            *_COLUMNS,
            Column("speed", "tokens/s", float, lambda speed: f"{speed:.0f}" if speed else "kept"),
            Column("adapter", "adapter"),
        ],
        [
            (
                training.dataset,
                training.steps,
                training.passes,
                training.tokens,
                training.loss_first,
                training.loss_last,
                training.tokens_per_second,
                str(training.path),
            )
            for training in trained
        ],
    )


def training_table(curves: Sequence[Curve]) -> Table:
    """Show one row for each training."""
    return Table(
        "training",
        "Trainings; passes over the rows; losses in nats per trained token, mean of the first and "
        "last tenth",
        [
            Column("trained_on", "trained on"),
            *_COLUMNS,
            Column("held_out", "best held-out", float, "{:z.3f}".format),
            Column("kept_step", "kept step", int),
        ],
        [
            (
                curve.name,
                len(curve.losses),
                curve.passes,
                curve.tokens,
                curve.loss_first,
                curve.loss_last,
                min((loss for _, loss in curve.held_out), default=None),
                curve.kept_step,
            )
            for curve in curves
        ],
    )


def loss_table(curves: Sequence[Curve]) -> Table:
    """Show the loss of every step of every training."""
    rows: list[Sequence[Cell]] = []
    for curve in curves:
        held_out = dict(curve.held_out)
        rows += [
            (curve.name, step, loss, held_out.get(step))
            for step, loss in enumerate(curve.losses, 1)
        ]
    columns = [
        Column("trained_on", "trained on"),
        Column("step", "step", int),
        Column("loss", "loss", float),
        Column("held_out", "held-out", float),
    ]
    return Table("losses", "Losses in nats per trained token", columns, rows)
