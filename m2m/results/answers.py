"""Some questions with the answers of the base and of the winner, for people who look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2m.formats.json_fields import JsonFields
from m2m.results.table import Column, Table


@dataclass(frozen=True)
class Answered(JsonFields):
    """A question, with the answers of two models.

    Attributes:
        question: what the models read, without a chat template.
        right: a right answer, or several with " | " between them.
        base, winner: the choice that a model found likeliest, or the text that it wrote.
        base_right, winner_right: whether that answer is right.
    """

    question: str
    right: str
    base: str
    winner: str
    base_right: bool
    winner_right: bool


@dataclass(frozen=True)
class Answers(JsonFields):
    """Questions that a seed drew, so that nobody chose those that look best.

    Attributes:
        target, part: the questions are some of this target's "dev" or "test" questions.
        asked: number of all its questions.
        written: whether the models wrote their answers; they chose one otherwise.
        rows: the questions that were drawn, in the file's order.
    """

    target: str
    part: str
    asked: int
    written: bool
    rows: Sequence[Answered]

    @property
    def caption(self) -> str:
        """Say which questions these are, and how the answers were found."""
        how = "wrote" if self.written else "found likeliest among the choices"
        return (
            f"{len(self.rows)} of {self.asked:,} {self.part} questions of {self.target}, drawn at "
            f"random, with the answers that the base and the winner {how}"
        )


def answers_table(answers: Answers) -> Table:
    """Show a question in each row."""

    def marked(answer: str, right: bool) -> str:
        return f"{'right' if right else 'wrong'}: {answer}"

    return Table(
        "answers",
        answers.caption,
        [
            Column("question", "question"),
            Column("right", "right answer"),
            Column("base", "base"),
            Column("winner", "winner"),
        ],
        [
            (row.question, row.right, marked(row.base, row.base_right),
             marked(row.winner, row.winner_right))
            for row in answers.rows
        ],
    )  # fmt: skip
