"""The validate step: surrogates held against the real fine-tunes of a planned sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.tasks import requests
from m2m.formats.atomic import write_text
from m2m.formats.journal import Journal
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.similarity import likeness, token_shares, weight_matrix
from m2m.mix.standing import metric_name, standing, target_name
from m2m.mix.study import Study, Trial
from m2m.mix.validate import Agreement, Scored, agreement, plan, regret
from m2m.pipeline.finetuning import DEV, TEST, FineTuner, aims_on, has_test, open_judge
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.results import Searched
from m2m.pipeline.scoring import aims, open_scorer
from m2m.progress import Progress

# The predictors that are compared; each gives every mixture a score, higher is better.
SURROGATE, SINGLES, LIKENESS = "surrogate", "mean_of_singles", "similarity"
# A group of mixtures: for a single dataset at an expert's budget the surrogate is the fine-tune.
MIXED, EVERY = "mixtures", "with_singles"

Agreements = Mapping[str, Agreement | None]


@dataclass(frozen=True)
class Validated:
    """One mixture: what was predicted for it, and what its fine-tune really scores.

    Attributes:
        rank: predicted, among all candidates; None for one that the search did not rank.
        steps: of its fine-tune.
        predicted: score by predictor.
        stderr: of the surrogate's score.
        real: (score, standard error) of the fine-tune by split, "dev" and "test".
    """

    mixture: Mixture
    rank: int | None
    steps: int
    predicted: Mapping[str, float]
    stderr: float
    real: Mapping[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m validate --json` for one mixture, `finetuned` on fresh examples."""
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


@dataclass(frozen=True)
class Validation:
    """How well surrogates foretold real fine-tunes, in the recipe's regime.

    Attributes:
        judged_on: "test", examples that no surrogate was scored on, or "dev" without them.
        agreements: by predictor, split and group ("mixtures" of two datasets or more,
            "with_singles").
        repeatability: of the fine-tunes' scores on dev with those on test, by group: about what a
            perfect surrogate could reach; None without test.
        picks: the mixture that each way of choosing takes.
        regret: how much better the best of all validated is than each pick, on `judged_on`.
    """

    target: str
    metric: str
    higher_is_better: bool
    budget: str | int
    judged_on: str
    examples: Mapping[str, int]
    validated: Sequence[Validated]
    agreements: Mapping[str, Mapping[str, Agreements]]
    repeatability: Agreements | None
    picks: Mapping[str, Mixture]
    regret: Mapping[str, Interval]

    @property
    def headline(self) -> Agreement | None:
        """Surrogates against fine-tunes, on fresh examples and without single datasets."""
        return self.agreements[SURROGATE][self.judged_on][MIXED]

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m validate --json`."""
        none = dict.fromkeys(("spearman", "spearman_ci95", "pearson", "pearson_ci95"))
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "budget": self.budget,
            "judged_on": self.judged_on,
            "examples": dict(self.examples),
            **(self.headline.as_json() if self.headline else none),
            "mixtures": [each.as_json() for each in self.validated],
            "singles": sum(len(each.mixture.datasets) == 1 for each in self.validated),
            "agreement": {
                predictor: {split: _json(groups) for split, groups in splits.items()}
                for predictor, splits in self.agreements.items()
            },
            "repeatability": _json(self.repeatability) if self.repeatability else None,
            "picks": {choice: pick.as_json() for choice, pick in self.picks.items()},
            "regret": {choice: lost.estimate for choice, lost in self.regret.items()},
            "regret_ci95": {choice: [lost.low, lost.high] for choice, lost in self.regret.items()},
        }

    def as_csv(self) -> str:
        """The scatter plot's data: one row per mixture."""
        rows = [each.as_json() for each in self.validated]
        names = [name for name in rows[0] if name != "weights"]
        with io.StringIO(newline="") as text:
            writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "datasets": "+".join(row["datasets"])} for row in rows)
            return text.getvalue()


def _json(groups: Agreements) -> dict[str, Any]:
    return {group: found.as_json() if found else None for group, found in groups.items()}


def validate(
    inputs: Inputs,
    experts: Mapping[str, Path],
    searched: Searched,
    folder: Path,
    progress: Progress,
) -> Validation:
    """Fine-tune the planned mixtures, score them, and compare them with what was predicted.

    Args:
        inputs: the run's; `[confirm] budget` names the regime.
        experts: adapter folders by dataset name.
        searched: the ranking.
        folder: of the run; the plan is kept in its `validate.jsonl`, adapters and scores lie where
            the confirm step keeps its own, the scatter plot's data go to `validate.csv`.
        progress: one bar per fine-tune.

    Raises:
        Interrupted: the user asked to stop; what is finished is kept.
    """
    picks = _picks(inputs, searched, list(experts))
    tuner = FineTuner(inputs, experts, folder, progress)
    chosen = _chosen(inputs, searched, picks, tuner, Journal(folder / "validate.jsonl"))
    tuned = {mixture: tuner.adapter(mixture) for mixture in chosen}
    surrogates = _surrogates(inputs, experts, chosen, folder)
    with open_judge(inputs, experts, tuned, folder) as judge:
        trials = [judge.finetuned(mixture) for mixture in chosen]
    found = _compare(inputs, searched, surrogates, trials, tuner, picks)
    write_text(folder / "validate.csv", found.as_csv())
    return found


def _picks(inputs: Inputs, searched: Searched, names: Sequence[str]) -> dict[str, Mixture]:
    """The mixture that each way of choosing takes."""
    ranking = [each.mixture for each in searched.ranking]
    near = _likeness(inputs, ranking)
    picks = {"merge_to_mix": ranking[0], "all": Mixture.uniform(names)}
    singles = [mixture for mixture in ranking if len(mixture.datasets) == 1]
    if singles:
        picks["best_single"] = singles[0]
    return picks | {"similarity": ranking[int(np.argmax(near))]}


def _likeness(inputs: Inputs, mixtures: Sequence[Mixture]) -> NDArray[np.float64]:
    """(n,) likeness of the mixtures' tokens to those of the dev questions and right answers."""
    vocabulary, names = inputs.base.config.vocab_size, list(inputs.corpora)
    shares = [
        token_shares([sample.ids for sample in corpus.samples], vocabulary)
        for corpus in inputs.corpora.values()
    ]
    asked = [
        [*request.prompt, *request.continuations[example.gold]]
        for task in inputs.dev.values()
        for request, example in zip(requests(task, inputs.formatter), task.examples, strict=True)
    ]
    target = token_shares(asked, vocabulary)
    return likeness(weight_matrix(mixtures, names), np.array(shares), target)


def _chosen(
    inputs: Inputs,
    searched: Searched,
    picks: Mapping[str, Mixture],
    tuner: FineTuner,
    journal: Journal,
) -> list[Mixture]:
    """The plan, an earlier one's mixtures first, and the single datasets that cost nothing."""
    recipe, ranking = inputs.recipe, [each.mixture for each in searched.ranking]
    lines = journal.replay()
    earlier = [
        Mixture(tuple(each["datasets"]), tuple(each["weights"]))
        for each in (lines[-1]["plan"] if lines else [])
        if set(each["datasets"]) <= inputs.corpora.keys()
    ]
    best = [mixture for mixture in ranking if len(mixture.datasets) > 1][:1]
    rng = np.random.default_rng(recipe.validate.seed)
    wanted = [*best, *picks.values(), *earlier]
    planned = plan(ranking, wanted, recipe.validate.mixtures, rng)
    entry = {"plan": [mixture.as_json() for mixture in planned]}
    if not lines or (lines[-1] != entry and len(planned) >= len(earlier)):
        journal.append(entry)
    singles = [mixture for mixture in ranking if tuner.is_expert(mixture)]
    return list(dict.fromkeys([*planned, *singles, *picks.values()]))


def _surrogates(
    inputs: Inputs, experts: Mapping[str, Path], chosen: Sequence[Mixture], folder: Path
) -> dict[Mixture, Trial]:
    """The surrogates of the chosen and of all single datasets on the dev sets, as in the search."""
    singles = [Mixture.uniform([name]) for name in experts]
    with open_scorer(inputs, experts, inputs.dev, folder) as scorer:
        study = Study(Journal(folder / "study.jsonl"), scorer, lambda trial: 0.0)
        return {mixture: study.trial(mixture) for mixture in dict.fromkeys([*chosen, *singles])}


def _compare(
    inputs: Inputs,
    searched: Searched,
    surrogates: Mapping[Mixture, Trial],
    trials: Sequence[Trial],
    tuner: FineTuner,
    picks: Mapping[str, Mixture],
) -> Validation:
    """Correlations, regrets and the table of all validated mixtures."""
    chosen, seed = [trial.mixture for trial in trials], inputs.recipe.search.seed
    predicted = _predictions(inputs, surrogates, chosen)
    tests = {"test": TEST} if has_test(inputs) else {}
    standings = {
        split: standing(trials, aims_on(prefix, inputs), seed)
        for split, prefix in ({"dev": DEV} | tests).items()
    }
    real = {split: Scored.of(found) for split, found in standings.items()}
    judged_on = "test" if tests else "dev"
    sizes = np.array([len(mixture.datasets) for mixture in chosen])
    groups = {MIXED: np.flatnonzero(sizes > 1), EVERY: np.arange(len(chosen))}

    def agreements(one: Scored, other: Scored) -> Agreements:
        return {
            group: agreement(one[places], other[places], np.random.default_rng(seed))
            for group, places in groups.items()
        }

    index = {mixture: place for place, mixture in enumerate(chosen)}
    choices: dict[str, Any] = {choice: index[pick] for choice, pick in picks.items()}
    choices["random"] = groups[MIXED]
    sign = 1.0 if standings["dev"].higher_is_better else -1.0
    ranks = {each.mixture: each.rank for each in searched.ranking}
    surrogate = predicted[SURROGATE]
    validated = [
        Validated(
            mixture,
            ranks.get(mixture),
            tuner.steps(mixture),
            {name: _signed(name, sign) * float(p.points[i]) for name, p in predicted.items()},
            float(surrogate.replicates[i].std(ddof=1)),
            {
                split: (float(found.points[i]), float(found.replicates[i].std(ddof=1)))
                for split, found in standings.items()
            },
        )
        for i, mixture in enumerate(chosen)
    ]
    wanted = aims(inputs)
    return Validation(
        target=target_name(wanted),
        metric=metric_name(wanted),
        higher_is_better=standings["dev"].higher_is_better,
        budget=inputs.recipe.confirm.budget,
        judged_on=judged_on,
        examples={
            "dev": sum(len(task.examples) for task in inputs.dev.values()),
            "test": sum(len(task.examples) for task in inputs.test.values()),
        },
        validated=validated,
        agreements={
            name: {split: agreements(each, scored) for split, scored in real.items()}
            for name, each in predicted.items()
        },
        repeatability=agreements(real["dev"], real["test"]) if tests else None,
        picks=picks,
        regret={choice: regret(real[judged_on], places) for choice, places in choices.items()},
    )


def _signed(predictor: str, sign: float) -> float:
    """What turns a prediction, higher is better, back into the metric's own unit."""
    return 1.0 if predictor == LIKENESS else sign


def _predictions(
    inputs: Inputs, surrogates: Mapping[Mixture, Trial], chosen: Sequence[Mixture]
) -> dict[str, Scored]:
    """What each predictor says of the chosen mixtures."""
    scored = standing(list(surrogates.values()), aims(inputs), inputs.recipe.search.seed)
    place = {mixture: index for index, mixture in enumerate(surrogates)}
    every, names = Scored.of(scored), list(inputs.corpora)
    singles = every[np.array([place[Mixture.uniform([name])] for name in names])]
    weights = weight_matrix(chosen, names)
    return {
        SURROGATE: every[np.array([place[mixture] for mixture in chosen])],
        SINGLES: Scored(weights @ singles.points, weights @ singles.replicates),
        LIKENESS: Scored.exact(_likeness(inputs, chosen), every.replicates.shape[1]),
    }
