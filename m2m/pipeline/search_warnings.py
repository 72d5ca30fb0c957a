"""Every reason not to trust a ranking: the experts, the scores, leaks and shared questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from m2m.adapter import load_adapter
from m2m.merge.geometry import base_norm, gram_matrix
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial
from m2m.mix.warnings import Deltas, delta_warnings, mixture_warnings
from m2m.pipeline.leaks import find_leaks, shared_warnings
from m2m.pipeline.trained_run import TrainedRun


def warnings(
    run: TrainedRun, trials: Sequence[Trial], above: Mapping[str, frozenset[Mixture] | None]
) -> list[str]:
    """Return every reason not to trust the ranking of these trials, each with a remedy."""
    inputs, experts = run.inputs, run.experts
    adapters = [load_adapter(folder) for folder in experts.values()]
    deltas = Deltas(list(experts), gram_matrix(adapters), base_norm(inputs.base, adapters))
    sentences = mixture_warnings(trials, inputs.objectives, inputs.recipe.search.seed, above)
    sentences += delta_warnings(deltas, inputs.recipe.growth)
    sentences += [leak.warning for leak in find_leaks(inputs)]
    return sentences + shared_warnings(inputs)
