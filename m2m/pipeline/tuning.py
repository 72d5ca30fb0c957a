"""Fine-tunes adapters; finished ones are kept, and the base is loaded only when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from m2m.dataset import Sample
from m2m.machine import peak_rss_bytes
from m2m.nn.decoder import Decoder
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.results import Trained
from m2m.progress import Progress
from m2m.recipe import Train
from m2m.tuner.callbacks import ShowProgress
from m2m.tuner.trainer import Origin, Trainer, finished


class Tuning:
    """Trains adapters of one base, one after the other, with one decoder.

    Args:
        inputs: the run's.
        progress: gets one bar per adapter.
    """

    def __init__(self, inputs: Inputs, progress: Progress) -> None:
        self._inputs = inputs
        self._progress = progress

    @cached_property
    def _decoder(self) -> Decoder:
        base = self._inputs.base
        return Decoder(base.config, base.weights)

    def adapter(
        self,
        name: str,
        samples: Sequence[Sample],
        samples_fingerprint: str,
        config: Train,
        folder: Path,
    ) -> Trained:
        """Train an adapter into `folder`, or take it from there if it is the same training's.

        Raises:
            Interrupted: the user asked to stop; the state is saved.
            TrainingError: it diverged.
        """
        base = self._inputs.base
        origin = Origin(name, base.name, base.fingerprint, samples_fingerprint)
        result = finished(folder, config, origin, len(samples))
        kept = result is not None
        if result is None:
            bar = ShowProgress(self._progress, f"training {name}")
            result = Trainer(
                self._decoder, samples, config, folder=folder, origin=origin, callbacks=[bar]
            ).run()
        return Trained(
            dataset=name,
            path=folder,
            steps=result.steps,
            tokens=result.tokens,
            loss_first=result.loss_first,
            loss_last=result.loss_last,
            tokens_per_second=result.tokens_per_second,
            peak_rss_bytes=peak_rss_bytes(),
            resumed=kept or result.resumed > 0,
        )
