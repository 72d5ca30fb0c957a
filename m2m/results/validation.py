"""The result of `m2m validate`: how well the surrogates predicted real fine-tunes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from m2m.evaluate.score import Score
from m2m.formats.json_fields import JsonFields, Key, Newer, or_unknown, plain
from m2m.formats.json_values import as_text
from m2m.mix.agreement import Agreement, Agreements
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.validation_plan import MIXED, SURROGATE
from m2m.results.rivals import Rivals, rival_tables
from m2m.results.table import Cell, Column, Table


@dataclass(frozen=True)
class Validated:
    """One mixture: its predicted scores, and the real scores of its fine-tune.

    Attributes:
        rank: predicted rank among all candidates; None if the search did not rank it.
        steps: steps of its fine-tune.
        predicted: score by predictor.
        stderr: standard error of the surrogate's score.
        real: score of the fine-tune by split, "dev" and "test".
    """

    mixture: Mixture
    rank: int | None
    steps: int
    predicted: Mapping[str, float]
    stderr: float
    real: Mapping[str, Score]

    @property
    def surrogate(self) -> Score:
        """Return the surrogate's score."""
        return Score(self.predicted[SURROGATE], self.stderr)

    def as_json(self) -> dict[str, Any]:
        """Return one mixture of `m2m validate --json`; `finetuned` is on fresh examples."""
        return {
            **self.mixture.as_json(),
            "rank": self.rank,
            "steps": self.steps,
            **self.predicted,
            "surrogate_stderr": self.stderr,
            "finetuned": [*self.real.values()][-1][0],
            **{f"finetuned_{split}": value for split, (value, _) in self.real.items()},
            **{f"finetuned_{split}_stderr": error for split, (_, error) in self.real.items()},
        }

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], predictors: Sequence[str], splits: Sequence[str]
    ) -> Validated:
        """Rebuild it from `as_json`, whose keys name predictors and splits."""
        rank, names = data["rank"], [f"finetuned_{split}" for split in splits]
        return cls(
            mixture=Mixture.from_json(data),
            rank=None if rank is None else int(rank),
            steps=int(data["steps"]),
            predicted={name: or_unknown(data[name], name) for name in predictors},
            stderr=or_unknown(data["surrogate_stderr"], "stderr"),
            real={
                split: Score(*(or_unknown(data[key], key) for key in (name, f"{name}_stderr")))
                for split, name in zip(splits, names, strict=True)
            },
        )


@dataclass(frozen=True)
class Validation(JsonFields):
    """How well surrogates predicted real fine-tunes, in the recipe's regime.

    Attributes:
        judged_on: "test", examples that no surrogate was scored on, or "dev" without them.
        agreements: by predictor, split and group ("mixtures" of two or more datasets,
            "with_singles").
        repeatability: agreement of the fine-tunes' scores on dev with their scores on test, by
            group: about the most that a perfect surrogate could reach; None without test.
        picks: the mixture that each way of choosing takes.
        regret: how much better the best of all mixtures is than each pick, on `judged_on`.
    """

    target: str
    metric: str
    higher_is_better: bool
    budget: str | int
    judged_on: str
    examples: Mapping[str, int]
    mixtures: Sequence[Validated]
    agreements: Annotated[Mapping[str, Mapping[str, Agreements]], Key("agreement")]
    repeatability: Agreements | None
    picks: Mapping[str, Mixture]
    regret: Mapping[str, Interval]
    rivals: Newer[Rivals | None] = None

    @property
    def headline(self) -> Agreement | None:
        """Return the agreement on fresh examples, without single datasets."""
        return self.agreements[SURROGATE][self.judged_on][MIXED]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m validate --json` and of `validate.json`."""
        none = dict.fromkeys(("spearman", "spearman_ci95", "pearson", "pearson_ci95"))
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "budget": self.budget,
            "judged_on": self.judged_on,
            "examples": dict(self.examples),
            **(self.headline.as_json() if self.headline else none),
            "mixtures": plain(self.mixtures),
            "singles": sum(len(validated.mixture.datasets) == 1 for validated in self.mixtures),
            "agreement": plain(self.agreements),
            "repeatability": plain(self.repeatability) or None,
            "picks": plain(self.picks),
            "regret": {choice: lost.estimate for choice, lost in self.regret.items()},
            "regret_ci95": {choice: [lost.low, lost.high] for choice, lost in self.regret.items()},
            "rivals": self.rivals and self.rivals.as_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild it from `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `data` is not from `as_json`.
        """
        intervals = data["regret_ci95"]
        regret = {
            name: {"estimate": value, "ci95": intervals[name]}
            for name, value in data["regret"].items()
        }
        read = super().from_json({**data, "mixtures": [], "regret": regret})
        splits = list(read.agreements[SURROGATE])
        as_text(read.judged_on, "judged_on", splits)
        mixtures = [
            Validated.from_json(validated, [*read.agreements], splits)
            for validated in data["mixtures"]
        ]
        return replace(read, mixtures=mixtures)


_PREDICTORS = {
    SURROGATE: "surrogate (base + merge of the deltas)",
    "repeatability": "the fine-tunes' own scores on dev: about the most that is possible",
}


def validation_tables(validation: Validation) -> list[Table]:
    """Show how well surrogates and fine-tunes agree, all rivals of the merge, and every mixture."""
    metric = validation.metric
    agreement = Table(
        "agreement",
        f"Correlation with the fine-tunes' {metric} (95 % intervals); budget of the fine-tunes: "
        f"{validation.budget}. For a single dataset at an expert's budget surrogate and fine-tune "
        "are the same model",
        [
            Column("predictor", "predicted by"),
            Column("against", "fine-tunes on"),
            Column("mixtures", "mixtures", int),
            Column("group", "of"),
            Column("spearman", "Spearman", Interval, str),
            Column("pearson", "Pearson", Interval, str),
        ],
        list(_agreement_rows(validation)),
    )
    rivals = rival_tables(validation.rivals) if validation.rivals else []
    return [agreement, *rivals, mixture_table(validation)]


def _agreement_rows(validation: Validation) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each predictor, split and group of mixtures that is large enough."""
    known = {SURROGATE: validation.agreements[SURROGATE]}
    if validation.repeatability:
        known["repeatability"] = {"test": validation.repeatability}
    for predictor, splits in known.items():
        for split, groups in splits.items():
            for group, agreement in groups.items():
                if agreement:
                    kind = "two datasets or more" if group == MIXED else "any size"
                    yield (
                        _PREDICTORS[predictor],
                        split,
                        agreement.mixtures,
                        kind,
                        agreement.spearman,
                        agreement.pearson,
                    )


def mixture_table(validation: Validation) -> Table:
    """Show every validated mixture; CSV has all predictions."""
    splits = [split for split, count in validation.examples.items() if count]
    others = [name for name in validation.agreements if name != SURROGATE]
    sign = -1.0 if validation.higher_is_better else 1.0
    ordered = sorted(
        validation.mixtures, key=lambda validated: sign * validated.real[validation.judged_on].value
    )
    return Table(
        "validation",
        f"Every validated mixture, best fine-tune first: {validation.metric} of its surrogate and "
        "of its real fine-tune (value ± standard error)",
        [
            Column("rank", "rank", int),
            Column("mixture", "mixture"),
            Column("steps", "steps", int),
            Column("surrogate", "surrogate", Score),
            *(Column(f"finetuned_{split}", f"fine-tuned, {split}", Score) for split in splits),
            *(Column(name, "", float) for name in others),
        ],
        [
            (
                validated.rank,
                validated.mixture.label,
                validated.steps,
                validated.surrogate,
                *(validated.real.get(split) for split in splits),
                *(validated.predicted.get(name) for name in others),
            )
            for validated in ordered
        ],
    )
