"""The result of `m2m compare`: several runs side by side, paired only on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2m.evaluate.same import in_words
from m2m.formats.json_fields import JsonFields
from m2m.mix.ranking import Interval
from m2m.mix.verdict import LEAST
from m2m.results.table import Column, Table


@dataclass(frozen=True)
class Entry(JsonFields):
    """One recipe on one set of questions: its winner, or the mean of its runs' winners.

    Attributes:
        name: of the run, or of its runs that differ in seeds only.
        runs: number of runs.
        mixtures: of the winners, each once.
        trained: their steps, and passes over their rows: "600 (3.9)"; each once, "" in older runs.
        base: score of the base model, mean over the runs.
        score: of the winner, mean over the runs.
        ahead: how far it is ahead of the first entry; None for that one, and with few questions.
        wins: part of the questions on which it is better than the first entry; ties count as half.
        verdicts: of the runs, each once.
    """

    name: str
    runs: int
    mixtures: Sequence[str]
    base: Interval
    score: Interval
    ahead: Interval | None
    wins: Interval | None
    verdicts: Sequence[str]
    trained: Sequence[str] = ()


@dataclass(frozen=True)
class Contest(JsonFields):
    """Runs that were scored on the same questions, by the same metric.

    Attributes:
        part: "test"; "dev" if a run has no test questions.
        questions: number of questions; `different` counts equal ones once.
    """

    target: str
    part: str
    metric: str
    higher_is_better: bool
    questions: int
    different: int
    entries: Sequence[Entry]

    @property
    def title(self) -> str:
        """Name metric, target and part."""
        return f"{self.metric} on the {self.part} questions of {self.target}"

    @property
    def caption(self) -> str:
        """Describe the table."""
        better = "higher" if self.higher_is_better else "lower"
        chosen = "" if self.part == "test" else ", which chose the winners"
        few = "" if self.different >= LEAST else "; too few questions to compare"
        count = in_words(self.questions, self.different)
        return (
            f"{self.title} ({count}{chosen}; {better} is better{few}): 95 % intervals over the "
            "questions, and over the seeds if a row has several runs; ahead of the first row and "
            "wins against it on the same questions"
        )


@dataclass(frozen=True)
class Compared(JsonFields):
    """Several runs.

    Attributes:
        runs: their names.
        differences: by field of the recipe, its value in each run, if the values differ.
        warnings: which runs are not compared with each other, and why.
    """

    runs: Sequence[str]
    contests: Sequence[Contest]
    differences: Mapping[str, Sequence[str]]
    warnings: Sequence[str]

    @property
    def tables(self) -> list[Table]:
        """Return a table for each set of questions, and one of the fields that differ."""
        contests = [_table(contest, number) for number, contest in enumerate(self.contests, 1)]
        return [*contests, *([difference_table(self)] if self.differences else [])]


def _table(contest: Contest, number: int) -> Table:
    return Table(
        f"compare-{number}",
        contest.caption,
        [
            Column("run", "run"),
            Column("runs", "runs", int),
            Column("mixture", "winner"),
            Column("trained", "steps (passes)"),
            Column("base", "base", Interval),
            Column("score", "score (95 %)", Interval),
            Column("ahead", "ahead (95 %)", Interval, lambda span: span.signed),
            Column("wins", "wins (95 %)", Interval),
            Column("verdict", "verdict"),
        ],
        [
            (
                entry.name,
                entry.runs,
                "; ".join(entry.mixtures),
                "; ".join(entry.trained),
                entry.base,
                entry.score,
                entry.ahead,
                entry.wins,
                "; ".join(entry.verdicts),
            )
            for entry in contest.entries
        ],
    )


def difference_table(compared: Compared) -> Table:
    """Show the fields in which the recipes differ, a column for each run."""
    return Table(
        "recipes",
        "Fields in which the recipes, their data or the programs differ",
        [Column("field", "field"), *(Column(name, name) for name in compared.runs)],
        [(name, *values) for name, values in compared.differences.items()],
    )
