"""What each step found, with the JSON that the command line prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m2m.export.selftest import SelfTest
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval, Ranked
from m2m.mix.verdict import Verdict
from m2m.mix.worth import Interaction

Measured = Mapping[str, Mapping[str, float]]  # metric -> {"value", "stderr"}


@dataclass(frozen=True)
class Trained:
    """One adapter, new or kept; `passes`: how often it has seen each row, on average."""

    dataset: str
    path: Path
    steps: int
    tokens: int
    loss_first: float
    loss_last: float
    tokens_per_second: float
    peak_rss_bytes: int
    resumed: bool
    passes: float

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m train --json` for one adapter."""
        return {**vars(self), "path": str(self.path)}


@dataclass(frozen=True)
class OnFront:
    """A mixture of the Pareto front: no other beats it on one target without losing on another."""

    mixture: Mixture
    scores: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Datasets, weights and the score on each target."""
        return {**self.mixture.as_json(), "scores": dict(self.scores)}


@dataclass(frozen=True)
class Searched:
    """The ranking of all scored mixtures, best first.

    Attributes:
        examples: of all dev sets; a mixture that left the search early was scored on fewer.
        different: how many of them are different questions.
        verdicts: what may be said of each dataset's worth; `smallest_effect`: less does not count.
        pairs_left_out: of datasets, at an end of the metric's scale.
        notes: how the strategy went about it, and what it promises.
        interactions: the strongest between two datasets.
        pareto: where the recipe asks for it.
    """

    target: str
    metric: str
    higher_is_better: bool
    strategy: str
    candidates: int
    scored_tokens: int
    seconds: float
    base_score: float
    ranking: Sequence[Ranked]
    examples: int
    different: int
    dataset_worth: Mapping[str, Interval]
    verdicts: Mapping[str, str]
    smallest_effect: float
    pairs_left_out: int
    warnings: Sequence[str]
    notes: Sequence[str] = ()
    interactions: Sequence[Interaction] = ()
    pareto: Sequence[OnFront] = ()

    @property
    def worst(self) -> Ranked:
        """The control: a search that tells anything tells this one from the best."""
        return self.ranking[-1]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m search --json`."""
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "strategy": self.strategy,
            "candidates": self.candidates,
            "evaluated": len(self.ranking),
            "examples": self.examples,
            "different": self.different,
            "scored_tokens": self.scored_tokens,
            "seconds": round(self.seconds, 1),
            "base_score": self.base_score,
            "mixtures": [each.as_json() for each in self.ranking],
            "worst": self.worst.as_json(),
            "dataset_worth": {
                name: {**worth.as_json(), "verdict": self.verdicts[name]}
                for name, worth in self.dataset_worth.items()
            },
            "smallest_effect": self.smallest_effect,
            "pairs_left_out": self.pairs_left_out,
            "interactions": [each.as_json() for each in self.interactions],
            "pareto": [each.as_json() for each in self.pareto],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Seen:
    """What a fine-tune sees of a dataset: how many `of` its rows, and each how often on average."""

    rows: int
    of: int
    passes: float


@dataclass(frozen=True)
class Confirmed:
    """One model scored on dev and test; `seen`: what its training saw of each dataset."""

    label: str
    mixture: Mixture
    how: Literal["base", "merged", "finetuned"]
    dev: Measured
    test: Measured
    adapter: Path | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One entry of `m2m confirm --json`."""
        return {
            "label": self.label,
            **self.mixture.as_json(),
            "how": self.how,
            "dev": self.dev,
            "test": self.test,
            "adapter": str(self.adapter) if self.adapter else None,
            "seen": {name: vars(each) for name, each in self.seen.items()},
        }


@dataclass(frozen=True)
class Confirmation:
    """All confirmed models and the one chosen by dev among the fine-tuned.

    Attributes:
        ahead: how far the winner is ahead of each of `confirmed` on test, by the recipe's metric
            and on the same resamples; None where a target has no test set.
        verdict: what to do.
        facets: the scores by facet, as `by_facet` gives them.
        shared: by target, (test questions that are also dev questions, test questions).
    """

    target: str
    metric: str
    confirmed: Sequence[Confirmed]
    winner: Confirmed
    ahead: Sequence[Interval] | None
    verdict: Verdict
    facets: Sequence[Mapping[str, Any]] = ()
    shared: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m confirm --json`."""
        return {
            "verdict": self.verdict.as_json(),
            "target": self.target,
            "metric": self.metric,
            "confirmed": [each.as_json() for each in self.confirmed],
            "winner": self.winner.as_json(),
            "winner_ahead_on_test": self.ahead and [each.as_json() for each in self.ahead],
            "facets": list(self.facets),
            "test_questions_in_dev": {name: list(each) for name, each in self.shared.items()},
        }


@dataclass(frozen=True)
class Exported:
    """The files of the winner.

    Attributes:
        gguf: the merged model.
        lora: the fine-tune alone, for the unchanged base.
        delta_survival: {"gain", "cosine"} of the fine-tune in `gguf`; None if it changed nothing.
        remedy: what to do where `type` keeps too little of the fine-tune, else None.
        card: the model card.
        remarks: what the licences of base and data ask or forbid.
        self_test: the GGUF's answers to questions that it was trained on.
        serving: where programs ask it in another way than it was trained, and what to do then.
    """

    gguf: Path
    modelfile: Path
    lora: Path
    type: str
    types_written: Mapping[str, int]
    delta_survival: Mapping[str, float] | None
    remedy: str | None
    card: Path
    remarks: Sequence[str]
    self_test: SelfTest
    serving: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m export --json`."""
        paths = {name: str(getattr(self, name)) for name in ("gguf", "modelfile", "lora", "card")}
        return {**vars(self), **paths, "self_test": self.self_test.as_json()}


@dataclass(frozen=True)
class Step:
    """What one step of the run took; memory is the process's peak when it ended."""

    name: str
    seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class RunResult:
    """The whole run, and the folder that holds it; no export if the verdict is against it."""

    folder: Path
    searched: Searched
    confirmation: Confirmation
    exported: Exported | None
    report: Path
    steps: Sequence[Step]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m run --json`."""
        return {
            "verdict": self.confirmation.verdict.as_json(),
            "winner": self.confirmation.winner.as_json(),
            "confirmed": [each.as_json() for each in self.confirmation.confirmed],
            "folder": str(self.folder),
            "ranking": str(self.folder / "ranking.json"),
            "gguf": str(self.exported.gguf) if self.exported else None,
            "self_test": self.exported.self_test.as_json() if self.exported else None,
            "serving": list(self.exported.serving) if self.exported else None,
            "report": str(self.report),
            "seconds": round(sum(step.seconds for step in self.steps), 1),
            "steps": [vars(step) for step in self.steps],
        }
