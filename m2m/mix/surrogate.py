"""Make a mixture's surrogate, base + scale * sum_i c_i delta_i, and score it in llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from m2m.checkpoint import gguf_rules
from m2m.evaluate.evaluator import Evaluator
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import AdaptedTensor, Surrogate
from m2m.merge.merger import Merger
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Places, Trial
from m2m.store import fingerprint


class SurrogateScorer:
    """The `Scorer` of a study.

    Args:
        merger: base and experts.
        adapter_fingerprints: of the experts, by dataset name.
        surrogate: the scratch model that mixtures are written into.
        evaluators: by target name.
        settings: JSON values that can change a score and are not in the other arguments.
        growth: of the merged deltas with the number of datasets (`Mixture.coefficients`).
        spare: a second scratch model, of the same kind. With it the next mixture is written while
            the last one is scored, if a GPU scores: the processor has time then.
    """

    def __init__(
        self,
        merger: Merger,
        adapter_fingerprints: Mapping[str, str],
        surrogate: Surrogate,
        evaluators: Mapping[str, Evaluator],
        settings: Mapping[str, Any],
        growth: float = 0.0,
        spare: Surrogate | None = None,
    ) -> None:
        self._merger = merger
        self._adapters = adapter_fingerprints
        self._surrogate = surrogate
        self._evaluators = evaluators
        self._settings = dict(settings)
        self._growth = growth
        self._spare = spare
        self._expected: Mixture | None = None
        self._ready: tuple[Mixture, Future[None]] | None = None
        self._writer = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Wait for the mixture that is being written; the surrogates stay their owner's."""
        self._writer.shutdown()

    def key(self, mixture: Mixture) -> str:
        """Return the fingerprint of adapters, their coefficients and settings."""
        coefficients = mixture.coefficients(self._growth)
        adapters = [self._adapters[name] for name in mixture.datasets]
        parts = [list(pair) for pair in zip(adapters, coefficients, strict=True)]
        return fingerprint(mixture=parts, **self._settings)

    @property
    def settings_key(self) -> str:
        """Return the fingerprint of everything but adapters that can change a score."""
        return fingerprint(**self._settings)

    @property
    def examples(self) -> dict[str, int]:
        """Return how many examples each target has."""
        return {name: len(evaluator) for name, evaluator in self._evaluators.items()}

    def score(self, mixture: Mixture, places: Places | None = None) -> Trial:
        """Merge, quantise, load, and score every target: the examples at `places`, or all."""
        started = time.perf_counter()
        model = self._load(mixture)
        every = {name: tuple(range(count)) for name, count in self.examples.items()}
        asked = {name: some for name, some in (places or every).items() if some}
        scores = {n: self._evaluators[n].evaluate(model, some) for n, some in asked.items()}
        survival = self._surrogate.survival if mixture.datasets else None
        return Trial(
            mixture=mixture,
            scores=scores,
            survival=(survival and survival.as_json()) or {},
            scored_tokens=sum(scored.decoded_tokens for scored in scores.values()),
            seconds=time.perf_counter() - started,
            places={} if asked == every else asked,
        )

    def expect(self, mixture: Mixture | None) -> None:
        """Name the mixture that comes after the next one to score."""
        self._expected = mixture

    def _load(self, mixture: Mixture) -> LlamaModel:
        ready, self._ready = self._ready, None
        if ready is not None:
            wait([ready[1]])  # the merger works for one mixture at a time
        if self._spare and ready and ready[0] == mixture:
            ready[1].result()
            self._surrogate.close_model()
            self._surrogate, self._spare = self._spare, self._surrogate
            model = self._surrogate.current()
        else:
            model = self._surrogate.load(self._tensors(mixture))
        if self._spare and self._expected:
            work = self._writer.submit(self._spare.write, self._tensors(self._expected))
            self._ready = self._expected, work
        return model

    def _tensors(self, mixture: Mixture) -> Iterator[AdaptedTensor]:
        return adapted_tensors(self._merger, mixture, self._growth)


def adapted_tensors(
    merger: Merger, mixture: Mixture, growth: float = 0.0
) -> Iterator[AdaptedTensor]:
    """Yield the weights that a mixture changes, with llama.cpp's names and order of rows."""
    changes = merger.changes(mixture.datasets, mixture.coefficients(growth))
    for name, change in gguf_rules(merger.base.config).changes(changes):
        yield AdaptedTensor(name, change)
