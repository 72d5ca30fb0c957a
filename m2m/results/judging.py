"""The result of `m2m judge`: which model's answers people prefer, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from m2m.counted import counted
from m2m.formats.json_fields import JsonFields
from m2m.formats.json_values import as_text
from m2m.mix.preference import RELIABLE
from m2m.mix.ranking import Interval
from m2m.mix.verdict import LEAST
from m2m.results.table import Column, Table

A, B, BOTH, NEITHER = CHOICES = ("a", "b", "both", "neither")
KINDS = {"winner": "winner", "rival": "other", BOTH: "both good", NEITHER: "neither"}
BASE, RUNNER_UP, WINNER = ROLES = ("base", "runner-up", "winner")


@dataclass(frozen=True)
class Pair(JsonFields):
    """Two models' answers to one question; `same` answers are not asked.

    Attributes:
        id: its name on the page, which says nothing about the models.
        line: of the question in the target's file.
        a: role of the model whose answer is shown as A.
        b: role of the other.
    """

    id: str
    line: int
    a: str
    b: str
    same: bool

    @property
    def rival(self) -> str:
        """Return the role that is compared with the winner."""
        return self.b if self.a == WINNER else self.a

    def kind(self, choice: str) -> str:
        """Return the choice without sides: one of `KINDS`."""
        won = (choice == A) == (self.a == WINNER)
        return choice if choice in (BOTH, NEITHER) else "winner" if won else "rival"

    def outcome(self, choice: str) -> float:
        """Return 1 if the choice is the winner's answer, 0 for its rival's, 0.5 for a tie."""
        return {"winner": 1.0, "rival": 0.0}.get(self.kind(choice), 0.5)


@dataclass(frozen=True)
class JudgeKey(JsonFields):
    """Which model gave which answer on a page of pairs; it stays in the run's folder.

    Attributes:
        page: identity of the page, which is also in files of answers.
        seed: drew the questions and shuffled the pairs.
        part: "test" or "dev".
        models: the model of each role, such as "copy + upper (top 2)".
        confirmed: the state of the confirmation whose models answered.
    """

    page: str
    seed: int
    target: str
    part: str
    models: Mapping[str, str]
    confirmed: str
    pairs: Sequence[Pair]

    @property
    def asked(self) -> int:
        """Return the number of pairs that people see."""
        return sum(not pair.same for pair in self.pairs)


@dataclass(frozen=True)
class Preference(JsonFields):
    """The winner against one other model.

    Attributes:
        rival: the other's role.
        model: a description of it.
        pairs: number of judged pairs, with `same` ones.
        questions: number of different questions in them.
        same: pairs with equal answers, which count as ties.
        counts: the judges' answers by kind (`KINDS`).
        rate: part of the pairs in which the winner is preferred; ties count as half.
    """

    rival: Annotated[str, partial(as_text, choices=ROLES)]
    model: str
    pairs: int
    questions: int
    same: int
    counts: Mapping[str, int]
    rate: Interval

    @property
    def sentence(self) -> str:
        """Say who is preferred, with the interval."""
        low, high = (f"{100 * end:.0f} %" for end in (self.rate.low, self.rate.high))
        if self.questions < LEAST:
            answer = f"{counted(self.questions, 'question')} are too few to decide"
        elif self.rate.low <= 0.5 <= self.rate.high:
            answer = "no clear preference"
        else:
            best = "winner" if self.rate.low > 0.5 else "other model"
            answer = f"the {best} is clearly preferred"
        return (
            f"Against {self.model}, judges preferred the winner in {100 * self.rate.estimate:.0f} "
            f"% of {counted(self.pairs, 'pair')} (95 % interval {low} to {high}; a tie counts as "
            f"half): {answer}."
        )


@dataclass(frozen=True)
class Judged(JsonFields):
    """The preferences of one page's judges.

    Attributes:
        judges: number of them.
        alpha: Krippendorff's alpha (nominal) over the pairs that two or more judges answered; None
            if there are no such pairs, or if all answers are equal.
        shared: number of such pairs.
    """

    page: str
    target: str
    part: str
    judges: int
    preferences: Sequence[Preference]
    alpha: Interval | None
    shared: int

    @property
    def sentences(self) -> list[str]:
        """Return the result in sentences."""
        about = (
            f"{counted(self.judges, 'person')} compared answers to {self.part} questions of "
            f"{self.target} without knowing which model wrote them."
        ).replace("persons", "people")
        return [about, *(p.sentence for p in self.preferences), self._agreement]

    @property
    def _agreement(self) -> str:
        if self.judges == 1:
            return "One judge alone shows nothing about agreement: ask a second one."
        if self.alpha is None:
            return "Agreement of the judges is unknown: too few pairs have different answers."
        low = f"; below {RELIABLE}, judges agree too little for firm conclusions"
        return (
            f"Agreement of the judges: Krippendorff's alpha (nominal) {self.alpha}, over "
            f"{counted(self.shared, 'pair')}"
            f"{low if self.alpha.estimate < RELIABLE else ''}."
        )


def judged_table(judged: Judged) -> Table:
    """Show the winner against each other model."""
    return Table(
        "judged",
        "Answers that people preferred, without knowing the models; pairs with the same answer and "
        "ties count as half",
        [
            Column("rival", "winner against"),
            Column("model", "model"),
            Column("pairs", "pairs", int),
            Column("same", "same answer", int),
            *(Column(key, head, int) for key, head in KINDS.items()),
            Column("rate", "preferred (95 %)", Interval),
        ],
        [
            (p.rival, p.model, p.pairs, p.same, *(p.counts[key] for key in KINDS), p.rate)
            for p in judged.preferences
        ],
    )
