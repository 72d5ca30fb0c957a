"""The merge and its rivals: how well each predicts real fine-tunes, and what its pick is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from m2m.counted import counted
from m2m.evaluate.score import Score
from m2m.formats.json_fields import JsonFields
from m2m.mix.comparison import Foresight
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.rival_predictors import MERGE, RIVALS
from m2m.mix.unmerged import Unmerged
from m2m.results.table import Cell, Column, Table

_MERGE_TITLE = "Merge to Mix: the best surrogate"


@dataclass(frozen=True)
class Pick(JsonFields):
    """The mixture that one way of choosing takes, really fine-tuned.

    Attributes:
        mixture: None for a mean over several picks.
        score: of its fine-tune, on the split that judges.
        regret: how far the best fine-tune with as many steps is ahead of it.
        behind: how far it is behind the merge's pick, on the same questions.
    """

    mixture: Mixture | None
    score: Score
    regret: Interval
    behind: Interval


@dataclass(frozen=True)
class RivalResult(JsonFields):
    """One way of choosing.

    Attributes:
        name: of the merge (`MERGE`) or of a rival in `RIVALS`.
        foresight: None if it does not predict scores, or too few mixtures were fine-tuned.
        pick: None if it has no pick that was fine-tuned for as many steps as the merge's.
        note: why a part is missing, or what the pick is; "" if there is nothing to say.
    """

    name: str
    foresight: Foresight | None
    pick: Pick | None
    note: str = ""

    @property
    def title(self) -> str:
        """Return its name for people."""
        return _MERGE_TITLE if self.name == MERGE else RIVALS[self.name].title

    @property
    def cost(self) -> str:
        """Return the work that it needs before its pick is known."""
        return "the experts, a merge per mixture" if self.name == MERGE else RIVALS[self.name].cost

    def as_json(self) -> dict[str, Any]:
        """Return its fields, with the cost after the name."""
        return {"name": self.name, "cost": self.cost, **super().as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `as_json`.

        Raises:
            ValueError: there is no rival of that name.
        """
        read = super().from_json(data)
        if read.name != MERGE and read.name not in RIVALS:
            raise ValueError(f'no rival is called "{read.name:.80}"')
        return read


@dataclass(frozen=True)
class Rivals(JsonFields):
    """The merge and its rivals on the same fine-tunes.

    Attributes:
        judged_on: split of the questions that judge the fine-tunes.
        metric: judges them.
        lengths: least and most steps of the fine-tunes that predictions are compared with.
        apart: fine-tunes that differ by less count as equally good.
        steps: training steps of every pick, so that picks are compared at equal cost.
        pool: number of mixtures that were fine-tuned for that many steps.
        rows: the merge first.
    """

    judged_on: str
    metric: str
    lengths: tuple[int, int]
    apart: float
    steps: int
    pool: int
    rows: Sequence[RivalResult]


def unmerged_table(found: Sequence[Unmerged], metric: str) -> Table:
    """Show the picks of the rivals that cost nothing after the search."""
    compared = counted(found[0].compared if found else 0, "mixture")
    return Table(
        "unmerged",
        f"The same mixtures, ranked without merging, by {metric} on dev. Agreement with the order "
        f"of the merges above (Spearman: 1 is the same order), over {compared} of two datasets or "
        "more. `m2m validate` says which order is right",
        [
            Column("rival", "predicted by"),
            Column("pick", "its pick"),
            Column("rank", "rank of the pick above", int),
            Column("agreement", "agreement", float, lambda r: f"{r:z.3f}" if r == r else "-"),
        ],
        [(RIVALS[row.name].title, row.mixture.label, row.rank, row.spearman) for row in found],
    )


def rival_tables(rivals: Rivals) -> list[Table]:
    """Show the predictions and the picks of the merge and of all its rivals."""
    return [_foresight_table(rivals), _pick_table(rivals)]


def _foresight_table(rivals: Rivals) -> Table:
    least, most = rivals.lengths
    steps = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return Table(
        "rivals",
        f"Ways of predicting the fine-tunes of two datasets or more ({steps} steps) by "
        f"{rivals.metric} on {rivals.judged_on}; in order: pairs more than {rivals.apart:g} apart "
        "that are ordered rightly; lead: Spearman of the merge minus it, on the same mixtures and "
        "questions (95 %)",
        [
            Column("rival", "predicted by"),
            Column("mixtures", "mixtures", int),
            Column("spearman", "Spearman", Interval, str),
            Column("pearson", "Pearson", Interval, str),
            Column("ordered", "in order", Interval, str),
            Column("lead", "lead of the merge", Interval, _signed),
            Column("cost", "needs"),
        ],
        [
            (row.title, f.mixtures, f.spearman, f.pearson, f.ordered, f.lead, row.cost)
            for row in rivals.rows
            if (f := row.foresight)
        ],
    )


def _pick_table(rivals: Rivals) -> Table:
    return Table(
        "picks",
        f"Picks at equal cost: every pick fine-tuned for {rivals.steps:,} steps, {rivals.metric} "
        f"on {rivals.judged_on}; regret: how far behind the best of "
        f"{counted(rivals.pool, 'mixture')} fine-tuned for as many steps (95 %)",
        [
            Column("rival", "chosen by"),
            Column("pick", "its pick"),
            Column("score", "score", Score),
            Column("regret", "regret", Interval, str),
            Column("behind", "behind the merge's pick", Interval, _signed),
            Column("note", "note"),
        ],
        [_pick_row(row) for row in rivals.rows],
    )


def _pick_row(row: RivalResult) -> tuple[Cell, ...]:
    pick = row.pick
    if pick is None:
        return row.title, None, None, None, None, row.note or None
    return (
        row.title,
        pick.mixture.label if pick.mixture else None,
        pick.score,
        pick.regret,
        None if row.name == MERGE else pick.behind,
        row.note or None,
    )


def _signed(lead: Interval) -> str:
    return lead.signed if math.isfinite(lead.low) else f"{lead.estimate:+z.3f}"
