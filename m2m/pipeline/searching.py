"""The search step: score mixtures, rank them, say what each dataset is worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m2m.formats.journal import Journal
from m2m.mix.mixture import BASE
from m2m.mix.ranking import dataset_worth, rank
from m2m.mix.search import make_strategy
from m2m.mix.standing import metric_name, standing, target_name
from m2m.mix.study import Study, Trial
from m2m.pipeline.cautioning import warnings
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.results import Searched
from m2m.pipeline.rounding import rounding_warnings
from m2m.pipeline.scoring import aims, open_scorer
from m2m.progress import Progress


def search(
    inputs: Inputs, experts: Mapping[str, Path], folder: Path, progress: Progress
) -> Searched:
    """Score the mixtures that the recipe's strategy wants on the dev sets.

    Args:
        inputs: the run's.
        experts: adapter folders by dataset name.
        folder: of the run; the journal is its `study.jsonl`.
        progress: one bar over the mixtures.

    Raises:
        Interrupted: the user asked to stop; scored mixtures are in the journal.
    """
    wanted = aims(inputs)
    strategy = make_strategy(inputs.recipe.search, list(experts))

    def value(trial: Trial) -> float:
        return float(wanted[0].metric.value(trial.scores[wanted[0].target], None)[0])

    with open_scorer(inputs, experts, inputs.dev, folder) as scorer:
        study = Study(Journal(folder / "study.jsonl"), scorer, value)
        trials = study.run(strategy, progress)
    found = standing(trials, wanted, inputs.recipe.search.seed)
    base = found.mixtures.index(BASE)
    mixed = found.without(base)
    ranking = rank(mixed.mixtures, mixed.points, mixed.replicates, mixed.higher_is_better)
    finalists = [each.mixture for each in ranking[: max(2, inputs.recipe.confirm.top)]]
    rounded = rounding_warnings(inputs, experts, finalists, wanted, folder, progress)
    return Searched(
        target=target_name(wanted),
        metric=metric_name(wanted),
        higher_is_better=found.higher_is_better,
        strategy=strategy.name,
        candidates=strategy.candidates,
        scored_tokens=sum(trial.scored_tokens for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        base_score=float(found.points[base]),
        ranking=ranking,
        examples=sum(len(scores) for scores in trials[0].scores.values()),
        dataset_worth=dataset_worth(
            found.mixtures, found.points, found.replicates, found.higher_is_better
        ),
        warnings=[*warnings(inputs, experts, trials), *rounded],
    )
