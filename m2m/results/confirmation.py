"""The result of the confirm step: models that were really fine-tuned, with base and best merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from m2m.evaluate.score import Measured, Score
from m2m.formats.json_fields import Inline, JsonFields, Key, Newer
from m2m.mix.facets import Breakdown
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.verdict import Verdict
from m2m.results.answers import Answers
from m2m.results.courses import Courses
from m2m.results.table import Cell, Column, Table

How = Literal["base", "merged", "finetuned"]
HOW: Mapping[str, str] = {"base": "unchanged", "merged": "merged", "finetuned": "fine-tuned"}
_METRICS = 2  # metrics that people see, the recipe's own first; CSV has all


@dataclass(frozen=True)
class RowsSeen(JsonFields):
    """Number of a dataset's `of` rows that a training used, and its average passes over them."""

    rows: int
    of: int
    passes: float


@dataclass(frozen=True)
class Model(JsonFields):
    """One model scored on dev and test.

    Attributes:
        label: why it was chosen, such as "top 1, best single".
        adapter: folder of a fine-tune.
        seen: rows that its training used, by dataset.
        steps: training steps, for a merge those of each expert; None for the base and in older
            results.
        right: (right answers, questions) on dev and on test, if an answer can be right or wrong.
    """

    label: str
    mixture: Inline[Mixture]
    how: How
    dev: Measured
    test: Measured
    adapter: Path | None = None
    seen: Mapping[str, RowsSeen] = field(default_factory=dict)
    steps: Newer[int | None] = None
    right: Newer[Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """Describe the model: "top 1, fine-tuned"; only "unchanged" for the base."""
        made = HOW.get(self.how, self.how)
        return made if self.how == "base" else f"{self.label}, {made}"

    @property
    def passes(self) -> float | None:
        """Return how often it saw each row, on average over all rows; None if untrained."""
        rows = sum(seen.of for seen in self.seen.values())
        return sum(seen.passes * seen.of for seen in self.seen.values()) / rows if rows else None

    @property
    def trained(self) -> str:
        """Return "300 (2.9)": steps, and passes if they are known; "" for an untrained model."""
        passes = f" ({self.passes:.2g})" if self.passes is not None else ""
        return f"{self.steps:,}{passes}" if self.steps else ""

    @property
    def rows_seen(self) -> str:
        """Return "110 of 200": rows of all datasets together; "" for an untrained model."""
        rows, of = (
            sum(getattr(seen, key) for seen in self.seen.values()) for key in ("rows", "of")
        )
        return f"{rows:,} of {of:,}" if self.seen else ""


@dataclass(frozen=True)
class Confirmation(JsonFields):
    """All confirmed models and the winner, which dev chose among the fine-tuned.

    Attributes:
        winning: index of the winner in `models`.
        ahead: how far the winner is ahead of each of `models` on test, by the recipe's metric and
            on the same resamples; of other fine-tunes with budget "until" after equal steps; None
            if a target has no test set.
        verdict: the answer.
        breakdowns: scores by facet.
        shared: by target, (test questions that are also dev questions, test questions).
        budget: steps of the fine-tunes: "until", "fixed", "proportional" or a number.
        scored_elsewhere: number of `models` whose scores come from another machine.
        warnings: warnings about these scores.
        courses: dev scores after more and more steps, with budget "until".
        answers: some questions with the answers of base and winner; None in older results.
    """

    verdict: Verdict
    target: str
    metric: str
    models: Annotated[Sequence[Model], Key("confirmed")]
    winning: Annotated[int, Key("winner")]
    ahead: Annotated[Sequence[Interval] | None, Key("winner_ahead_on_test")]
    breakdowns: Annotated[Sequence[Breakdown], Key("facets")] = ()
    shared: Annotated[Mapping[str, tuple[int, int]], Key("test_questions_in_dev")] = field(
        default_factory=dict
    )
    budget: str | int = "fixed"
    scored_elsewhere: Newer[int] = 0
    warnings: Newer[Sequence[str]] = ()
    courses: Newer[Courses | None] = None
    answers: Newer[Answers | None] = None

    @property
    def winner(self) -> Model:
        """Return the fine-tuned model that is best on dev."""
        return self.models[self.winning]

    @property
    def chosen_by(self) -> str:
        """Say how the winner was chosen, and how far to trust its test score."""
        if self.ahead is None:
            return (
                "Best on the dev questions. No test questions checked it. This score is too "
                "optimistic."
            )
        if self.shared:
            counts = ", ".join(f"{n} of {of} of {name}" for name, (n, of) in self.shared.items())
            return (
                "Best on the dev questions. Some test questions helped to choose it, because they "
                f"are also dev questions: {counts}."
            )
        return "Best on the dev questions. The test questions did not help to choose it."

    def ahead_of(self, place: int) -> Interval | None:
        """Return how far the winner is ahead of a model on test; None without a test set."""
        return self.ahead[place] if self.ahead else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m confirm --json` and of `confirm.json`."""
        return {**super().as_json(), "winner": self.winner.as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild it from `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `data` is not from `as_json`.
        """
        winner = data["winner"]["label"], data["winner"]["how"]
        labels = [(model["label"], model["how"]) for model in data["confirmed"]]
        if labels.count(winner) != 1:
            raise ValueError("the winner is not one of the confirmed models")
        read = super().from_json({**data, "winner": labels.index(winner)})
        lengths = {len(facet.values) for part in read.breakdowns for facet in part.facets}
        lengths |= {len(labels) if read.ahead is None else len(read.ahead)}
        if lengths - {len(labels)}:
            raise ValueError(f"{max(lengths)} values for {len(labels)} models")
        return read


def confirmed_table(confirmation: Confirmation, datasets: int) -> Table:
    """Show every confirmed model on dev and test, and how far the winner is ahead.

    Args:
        confirmation: the models.
        datasets: number of datasets of the run.
    """
    models = confirmation.models
    scored = [metric for model in models for metric in (*model.dev, *model.test)]
    metrics = sorted(dict.fromkeys(scored), key=lambda metric: metric != confirmation.metric)
    parts = [
        (part, metric, number < _METRICS)
        for number, metric in enumerate(metrics)
        for part in ("dev", "test")
        if any(metric in getattr(model, part) for model in models)
    ]
    first = "" if confirmation.metric in metrics else "; scores are of the first target"
    lengths = {model.steps for model in models if model.how == "finetuned"} - {None}
    equally = "; each is compared with it after an equal number of steps"
    uneven = "; fine-tunes have different steps, and more steps alone can raise a score"
    note = equally if confirmation.courses else uneven
    partly = any(seen.rows < seen.of for model in models for seen in model.seen.values())
    merge = " and the best merge" if any(model.how == "merged" for model in models) else ""
    judged = "test" if any(model.test for model in models) else "dev"
    rows: list[list[Cell]] = []
    for place, model in enumerate(models):
        scores = [getattr(model, part).get(metric) for part, metric, _ in parts]
        winner = place == confirmation.winning
        rows.append([
            model.mixture.short(datasets),
            model.described,
            winner,
            model.steps,
            model.passes,
            model.trained or None,
            model.rows_seen or None,
            "{} of {}".format(*model.right[judged]) if judged in model.right else None,
            *scores,
            None if winner else confirmation.ahead_of(place),
        ])  # fmt: skip
    return Table(
        "confirmed",
        f"Models really fine-tuned, with the base{merge}: value ± standard error. "
        "The winner is the best of the fine-tuned on dev; how far it is ahead is measured on test"
        + first
        + (note if len(lengths) > 1 else ""),
        [
            Column("mixture", "mixture"),
            Column("model", "model"),
            Column("winner", "winner", bool, lambda winner: "*" if winner else ""),
            Column("steps", "", int),
            Column("passes", "", float),
            Column("trained", "steps (passes)"),
            Column("rows_seen", "rows seen" if partly else ""),
            Column("right", f"right on {judged}" if any(model.right for model in models) else ""),
            *(
                Column(f"{part}_{metric}", f"{part} {metric}" if visible else "", Score)
                for part, metric, visible in parts
            ),
            Column(
                "winner_ahead",
                "winner ahead (95 %)" if confirmation.ahead else "",
                Interval,
                lambda span: span.signed,
            ),
        ],
        rows,
        strong=frozenset({confirmation.winning}),
    )


def facet_tables(confirmation: Confirmation, datasets: int) -> list[Table]:
    """Show the metric of each target by facet: a row for each model, a column for each facet."""
    return [
        _facets(breakdown, confirmation, datasets, number)
        for number, breakdown in enumerate(confirmation.breakdowns, 1)
    ]


def _facets(breakdown: Breakdown, confirmation: Confirmation, datasets: int, number: int) -> Table:
    return Table(
        f"facets-{number}",  # name of a file, so not the target's name
        f"{breakdown.metric} on the {breakdown.part} examples of {breakdown.target}, by facet "
        "(number of examples); value ± standard error",
        [
            Column("mixture", "mixture"),
            Column("model", "model"),
            *(
                Column(facet.name, f"{facet.name} ({facet.examples})", Score)
                for facet in breakdown.facets
            ),
        ],
        [
            (
                model.mixture.short(datasets),
                model.described,
                *(facet.values[place] for facet in breakdown.facets),
            )
            for place, model in enumerate(confirmation.models)
        ],
        strong=frozenset({confirmation.winning}),
    )
