"""What a report says, as plain values; each part reads itself from the JSON that a step prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval, Ranked
from m2m.mix.verdict import Verdict

Json = Mapping[str, Any]
Measured = Mapping[str, tuple[float, float]]  # metric -> (value, standard error)

JOULE_PER_KWH = 3.6e6


def half_width(error: float) -> float:
    """Half of a normal 95 % interval; 0 where the standard error is not known."""
    return 1.959964 * error if math.isfinite(error) else 0.0


@dataclass(frozen=True)
class Ranking:
    """What `m2m search` found.

    `notes`: how it went about it, and what that promises; `different`: how many of the examples are
    different questions; `verdicts`: on each dataset's worth; `smallest`: an effect that counts.
    """

    target: str
    metric: str
    higher_is_better: bool
    strategy: str
    candidates: int
    examples: int
    scored_tokens: int
    seconds: float
    base_score: float | None
    places: tuple[Ranked, ...]
    worth: Mapping[str, Interval]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    different: int = 0
    verdicts: Mapping[str, str] = field(default_factory=dict)
    smallest: float = 0.0

    @classmethod
    def from_json(cls, data: Json) -> Ranking:
        """From `ranking.json`, which is what `m2m search --json` prints."""
        base = data.get("base_score")
        examples = max((int(each.get("examples", 0)) for each in data["mixtures"]), default=0)
        places = tuple(map(Ranked.from_json, data["mixtures"]))
        return cls(
            target=str(data["target"]),
            metric=str(data["metric"]),
            higher_is_better=bool(data["higher_is_better"]),
            strategy=str(data["strategy"]),
            candidates=int(data["candidates"]),
            examples=examples,
            different=int(data.get("different", examples)),
            verdicts={name: str(each["verdict"]) for name, each in data["dataset_worth"].items()},
            smallest=float(data.get("smallest_effect", 0.0)),
            scored_tokens=int(data["scored_tokens"]),
            seconds=float(data["seconds"]),
            base_score=None if base is None else float(base),
            places=places,
            worth={name: Interval.from_json(each) for name, each in data["dataset_worth"].items()},
            warnings=tuple(map(str, data.get("warnings", ()))),
            notes=tuple(map(str, data.get("notes", ()))),
        )


@dataclass(frozen=True)
class Model:
    """One model of the confirmation.

    Attributes:
        ahead: how far the winner is ahead of it on test.
        rows: how many of its datasets' rows its training saw, as "110 of 200".
    """

    label: str
    how: str
    mixture: Mixture
    dev: Measured
    test: Measured
    ahead: Interval | None
    winner: bool
    rows: str = ""


@dataclass(frozen=True)
class Confirmation:
    """What `m2m confirm` found; `verdict`: None of a run that an older m2m confirmed."""

    target: str
    metric: str
    models: tuple[Model, ...]
    budget: str = "fixed"
    verdict: Verdict | None = None

    @property
    def winner(self) -> Model:
        """The fine-tuned model that is best on dev."""
        return next(model for model in self.models if model.winner)

    @classmethod
    def from_json(cls, data: Json) -> Confirmation:
        """From `confirm.json`, which is what `m2m confirm --json` prints."""
        entries, winner = data["confirmed"], data["winner"]
        ahead = data.get("winner_ahead_on_test") or [None] * len(entries)
        models = tuple(
            Model(
                label=str(each["label"]),
                how=str(each["how"]),
                mixture=Mixture.from_json(each),
                dev=measured(each["dev"]),
                test=measured(each["test"]),
                ahead=Interval.from_json(span) if span else None,
                winner=(each["label"], each["how"]) == (winner["label"], winner["how"]),
                rows=rows_seen(each.get("seen", {})),
            )
            for each, span in zip(entries, ahead, strict=True)
        )
        if sum(model.winner for model in models) != 1:
            raise ValueError("the winner is not one of the confirmed models")
        budget = str(data.get("budget", "fixed"))
        verdict = Verdict.from_json(data["verdict"]) if "verdict" in data else None
        return cls(str(data["target"]), str(data["metric"]), models, budget, verdict)


def rows_seen(seen: Mapping[str, Json]) -> str:
    """ "110 of 200": the rows of all datasets that a training saw; "" of models without one."""
    if not seen:
        return ""
    rows, of = (sum(int(each[key]) for each in seen.values()) for key in ("rows", "of"))
    return f"{rows:,} of {of:,}"


def measured(data: Json) -> Measured:
    """Metrics from `{metric: {"value", "stderr"}}`; an error that is not known is nan."""
    return {
        name: (
            float(each["value"]),
            math.nan if each.get("stderr") is None else float(each["stderr"]),
        )
        for name, each in data.items()
    }


@dataclass(frozen=True)
class Curve:
    """A training's loss, step by step, in nats per trained token.

    `passes`: how often it saw each of its rows, on average; None if its folder does not say.
    """

    name: str
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]
    kept_step: int
    tokens: int
    passes: float | None = None

    @classmethod
    def from_json(cls, name: str, data: Json) -> Curve:
        """From the `m2m.json` of an adapter's folder."""
        losses = tuple(map(float, data["losses"]))
        held_out = tuple((int(step), float(loss)) for step, loss in data["held_out"])
        kept = int(data.get("kept_step", len(losses)))
        passes = data.get("passes")
        seen = None if passes is None else float(passes)
        return cls(name, losses, held_out, kept, int(data["tokens"]), seen)


@dataclass(frozen=True)
class Facet:
    """One kind of examples of a target, and each model's (value, standard error) on them."""

    name: str
    examples: int
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Breakdown:
    """A metric by facet on one part ("dev", "test") of a target, for the confirmed models."""

    target: str
    part: str
    metric: str
    higher_is_better: bool
    facets: tuple[Facet, ...]


@dataclass(frozen=True)
class Pair:
    """A mixture's surrogate beside its real fine-tune, as (value, standard error or nan)."""

    mixture: Mixture
    surrogate: tuple[float, float]
    finetuned: tuple[float, float]


@dataclass(frozen=True)
class Validation:
    """What `m2m validate` found: how far surrogates and fine-tunes agree.

    Attributes:
        judged_on: the part that the fine-tunes were scored on.
        budget: "fixed", "proportional" or steps: the regime that it speaks for.
        agreement: (Spearman, Pearson) by what predicted the fine-tunes, mixtures of two datasets
            or more; "repeatability" is what a perfect prediction could reach.
        regret: by way of choosing, how far its pick is behind the best that was fine-tuned.
    """

    pairs: tuple[Pair, ...]
    metric: str
    judged_on: str
    budget: str
    agreement: Mapping[str, tuple[Interval, Interval]]
    regret: Mapping[str, Interval]

    @classmethod
    def from_json(cls, data: Json) -> Validation:
        """From `validate.json`, which is what `m2m validate --json` prints."""
        judged_on = str(data.get("judged_on", "test"))
        groups = {
            "surrogate": data,
            **{
                name: splits.get(judged_on, {}).get("mixtures")
                for name, splits in data.get("agreement", {}).items()
            },
            "repeatability": (data.get("repeatability") or {}).get("mixtures"),
        }
        intervals = data.get("regret_ci95", {})
        return cls(
            pairs=tuple(_pair(each, judged_on) for each in data["mixtures"]),
            metric=str(data.get("metric", "")),
            judged_on=judged_on,
            budget=str(data.get("budget", "fixed")),
            agreement={
                name: (_span(found, "spearman"), _span(found, "pearson"))
                for name, found in groups.items()
                if found and found.get("spearman") is not None
            },
            regret={
                name: Interval(float(value), *map(float, intervals.get(name, (math.nan, math.nan))))
                for name, value in data.get("regret", {}).items()
            },
        )


def _pair(data: Json, judged_on: str) -> Pair:
    def error(name: str) -> float:
        found = data.get(f"{name}_stderr")
        return math.nan if found is None else float(found)

    return Pair(
        Mixture.from_json(data),
        (float(data["surrogate"]), error("surrogate")),
        (float(data["finetuned"]), error(f"finetuned_{judged_on}")),
    )


def _span(data: Json, name: str) -> Interval:
    """A correlation with its interval, nan where that is not known."""
    low, high = map(float, data.get(f"{name}_ci95") or (math.nan, math.nan))
    return Interval(float(data[name]), low, high)


@dataclass(frozen=True)
class Source:
    """A dataset: where it comes from, what may be done with it, its share in the winner."""

    name: str
    rows: int | None
    share: float
    languages: tuple[str, ...]
    licence: str
    source: str
    notes: str


@dataclass(frozen=True)
class Cost:
    """What one step took over all calls; memory is the largest peak of the process."""

    step: str
    seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class Facts:
    """Everything that a report says about one run.

    Attributes:
        name: of the run, its recipe's.
        base: what is known of the base model (`name`, `parameters`, `licence`, ...).
        settings: the recipe with its defaults, section by section.
        versions: of m2m and llama.cpp.
        watts: what the machine is taken to draw while it works.
        warnings: about the results, each a sentence.
        remarks: what the licences of the base and of the winner's data ask or forbid.
    """

    name: str
    base: Json
    settings: Json
    versions: Mapping[str, str]
    sources: tuple[Source, ...] = ()
    ranking: Ranking | None = None
    confirmation: Confirmation | None = None
    breakdowns: tuple[Breakdown, ...] = ()
    curves: tuple[Curve, ...] = ()
    validation: Validation | None = None
    export: Json | None = None
    costs: tuple[Cost, ...] = ()
    watts: float = 0.0
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(cost.seconds for cost in self.costs)

    def energy_kwh(self, seconds: float) -> float:
        """Energy at the assumed power."""
        return self.watts * seconds / JOULE_PER_KWH

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        data = dataclasses.asdict(self)
        verdict = self.confirmation.verdict if self.confirmation else None
        return {
            "verdict": verdict and verdict.as_json(),
            **data,
            "seconds": self.seconds,
            "energy_kwh": self.energy_kwh(self.seconds),
        }
