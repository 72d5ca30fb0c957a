"""The result of a search: all scored mixtures, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Annotated, Any, Self

from m2m.counted import counted
from m2m.errors import OTHER, WarningText
from m2m.evaluate.score import Score
from m2m.formats.json_fields import Inline, JsonFields, Key, Newer, OrUnknown, Rounded, inserted
from m2m.formats.json_values import as_seconds
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval, Ranked
from m2m.mix.unmerged import Unmerged
from m2m.mix.worth import Interaction
from m2m.recipe.strategies import NONE
from m2m.results.rivals import unmerged_table
from m2m.results.table import Cell, Column, Table

NOT_SEARCHED = "No mixtures were searched: all datasets were trained on at once."
TOP, BOTTOM = 16, 3  # mixtures that are shown one by one


@dataclass(frozen=True)
class OnFront(JsonFields):
    """A mixture of the Pareto front: no other beats it on one target without losing on another."""

    mixture: Inline[Mixture]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Ranking(JsonFields):
    """The ranking of all scored mixtures.

    Attributes:
        candidates: number of mixtures that the recipe allows.
        places: the scored mixtures, best first.
        examples: examples in all dev sets; a mixture that left the search early had fewer.
        different: number of different questions among them.
        worth: how much each dataset adds; `verdicts`: the words for it; a change below
            `smallest_effect` does not count.
        pairs_left_out: number of pairs of datasets at an end of the metric's scale.
        notes: how the strategy worked, and its promises.
        interactions: the strongest interactions of two datasets.
        pareto: the front over several targets, if the recipe asks for it.
        scored: number of models whose scores were used, with the base; `scored_elsewhere`: number
            of these whose scores come from another machine.
        steps: of every expert; 0 in older results.
        unmerged: the predictions of rivals that merge nothing.
    """

    target: str
    metric: str
    higher_is_better: bool
    strategy: str
    candidates: int
    examples: int
    different: int
    scored: Newer[int] = field(default=0, kw_only=True)
    scored_elsewhere: Newer[int] = field(default=0, kw_only=True)
    steps: Newer[int] = field(default=0, kw_only=True)
    scored_tokens: int
    seconds: Annotated[float, as_seconds, Rounded(1)]
    base_score: OrUnknown
    places: Annotated[Sequence[Ranked], Key("mixtures")]
    worth: Annotated[Mapping[str, Interval], Key("dataset_worth")] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    smallest_effect: float = 0.0
    pairs_left_out: int = 0
    interactions: Sequence[Interaction] = ()
    pareto: Sequence[OnFront] = ()
    unmerged: Newer[Sequence[Unmerged]] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def worst(self) -> Ranked | None:
        """Return the control: a search that measures anything separates it from the best."""
        return self.places[-1] if self.places else None

    @property
    def best(self) -> Mixture | None:
        """Return the mixture with the best surrogate; None if nothing was searched."""
        return self.places[0].mixture if self.places else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m search --json` and of `ranking.json`."""
        written = super().as_json()
        for name, verdict in written.pop("verdicts").items():
            written["dataset_worth"][name]["verdict"] = verdict
        written["gravity"] = [WarningText(text).gravity for text in self.warnings]
        written = inserted(written, "candidates", evaluated=len(self.places))
        return inserted(written, "mixtures", worst=self.worst and self.worst.as_json())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild it from `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `data` is not from `as_json`.
        """
        smallest, worth = data["smallest_effect"], data["dataset_worth"]
        read = super().from_json({
            **data,
            "verdicts": {name: effect["verdict"] for name, effect in worth.items()},
            "interactions": [{**pair, "smallest": smallest} for pair in data["interactions"]],
        })  # fmt: skip
        if not read.places and read.strategy != NONE:
            raise ValueError("no mixtures")
        grave = zip(read.warnings, chain(data.get("gravity", ()), repeat(OTHER)), strict=False)
        return replace(read, warnings=[WarningText(text, int(gravity)) for text, gravity in grave])


def ranking_tables(ranking: Ranking, names: Sequence[str]) -> list[Table]:
    """Return the tables: ranking, worth of datasets, pairs, Pareto front, and rivals."""
    return [
        ranking_table(ranking, names),
        worth_table(ranking),
        interaction_table(ranking),
        pareto_table(ranking),
        unmerged_table(ranking.unmerged, ranking.metric),
    ]


def ranking_table(ranking: Ranking, names: Sequence[str]) -> Table:
    """Show all scored mixtures, best first; CSV has the proportion of each dataset of `names`."""
    rows: list[list[Cell]] = []
    for place in ranking.places:
        weights = place.mixture.weight_by_dataset
        rows.append([
            place.rank,
            place.tied_with_best,
            place.mixture.label,
            Score(place.score, place.stderr),
            Interval(place.score, *place.ci95),
            place.behind,
            place.examples,
            *(weights.get(name, 0.0) for name in names),
        ])  # fmt: skip
    merged = f" (experts of {counted(ranking.steps, 'step')}, merged)" if ranking.steps else ""
    return Table(
        "ranking",
        f"{counted(len(ranking.places), 'mixture')} by their surrogates' {ranking.metric}{merged} "
        "on up to "
        f"{counted(ranking.examples, 'dev question')} of {ranking.target}; the base has "
        f"{ranking.base_score:z.3f}. =: the best, or too close to it to decide",
        [
            Column("rank", "rank", int),
            Column("tied_with_best", "=", bool),
            Column("mixture", "mixture"),
            Column(ranking.metric, ranking.metric, Score),
            Column("interval", "95 % interval", Interval, lambda span: span.ends),
            Column("behind", "behind the best (95 %)", Interval, lambda span: span.signed),
            Column("examples", "questions", int),
            *(Column(f"proportion of {name}", "", float) for name in names),
        ],
        rows,
        top=TOP,
        bottom=BOTTOM,
    )


def worth_table(ranking: Ranking) -> Table:
    """Show how much each dataset adds on average."""
    ordered = sorted(ranking.worth.items(), key=lambda item: -item[1].estimate)
    return Table(
        "worth",
        f"{_gain(ranking)} of {ranking.metric} when a dataset joins, on average over mixtures "
        f"without it; less than {ranking.smallest_effect:.2g} counts as neutral",
        [
            Column("dataset", "dataset"),
            Column("worth", "worth (95 %)", Interval, lambda span: span.signed),
            Column("verdict", "it is"),
        ],
        [(name, span, ranking.verdicts.get(name)) for name, span in ordered],
    )


def _gain(ranking: Ranking) -> str:
    """Return the word for a change to the better, which has a plus sign in all tables."""
    return "Rise" if ranking.higher_is_better else "Fall"


def interaction_table(ranking: Ranking) -> Table:
    """Show the strongest pairs of datasets."""
    left_out = (
        f". Pairs not judged: {ranking.pairs_left_out}. One dataset alone is no better than "
        "guessing, or the two would be expected beyond the best possible score"
        if ranking.pairs_left_out
        else ""
    )
    return Table(
        "interactions",
        f"Pairs of datasets: {_gain(ranking).lower()} of {ranking.metric} together beyond what "
        f"each adds alone{left_out}",
        [
            Column("pair", "pair"),
            Column("effect", "effect (95 %)", Interval, lambda span: span.signed),
            Column("verdict", "together they"),
        ],
        [(" + ".join(pair.datasets), pair.effect, pair.verdict) for pair in ranking.interactions],
    )


def pareto_table(ranking: Ranking) -> Table:
    """Show the mixtures that no other beats on all targets at once."""
    targets = list(ranking.pareto[0].scores) if ranking.pareto else []
    return Table(
        "pareto",
        "Pareto front: mixtures that no other beats on one target without losing on another",
        [
            Column("mixture", "mixture"),
            *(Column(target, target, float, "{:z.3f}".format) for target in targets),
        ],
        [(p.mixture.label, *(p.scores[target] for target in targets)) for p in ranking.pareto],
    )
