"""Fine-tunes adapters; finished ones are kept, and the base is loaded only when needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from m2m.machine import free_memory_bytes, peak_rss_bytes, resident_bytes
from m2m.nn.decoder import Decoder
from m2m.nn.matrix import bf16_gain
from m2m.pipeline.inputs import Corpus, Inputs
from m2m.pipeline.results import Trained
from m2m.pipeline.scoring import threads
from m2m.progress import Progress
from m2m.recipe import Recipe, Train
from m2m.store import fingerprint
from m2m.tuner.callbacks import ShowProgress
from m2m.tuner.diet import replayed
from m2m.tuner.memory import GIB, Saving, choose_saving, load_of
from m2m.tuner.trainer import Origin, Trainer, finished

# What is left free for others where the recipe names no limit.
_SHARE = 0.9


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
        decoder, saving = open_decoder(self._inputs)
        if saving.recompute or saving.half:
            size = saving.bytes / GIB
            self._progress.note(f"training takes about {size:.2f} GiB with {saving.ways}")
        if self._inputs.recipe.train.precision == "bf16" and (gain := bf16_gain()) < 1.0:
            self._progress.note(
                f"products in bf16 are {gain:.1f} times as fast as in float32 on this processor: "
                'precision = "float32" in [train] is better here'
            )
        return decoder

    def expert(self, corpus: Corpus, folder: Path) -> Trained:
        """Train the adapter of one dataset, with what it replays; see `adapter`."""
        return self.adapter(expert_corpus(self._inputs, corpus), self._inputs.recipe.train, folder)

    def adapter(self, corpus: Corpus, config: Train, folder: Path) -> Trained:
        """Train an adapter into `folder`, or take it from there if it is the same training's.

        Raises:
            Interrupted: the user asked to stop; the state is saved.
            ResourceError: there is not the memory for it.
            TrainingError: it diverged.
        """
        base = self._inputs.base
        samples, held_out = corpus.samples, corpus.held_out
        origin = Origin(corpus.name, base.name, base.fingerprint, corpus.fingerprint)
        result = finished(folder, config, origin, len(samples), len(held_out))
        kept = result is not None
        if result is None:
            result = Trainer(
                self._decoder,
                samples,
                config,
                folder=folder,
                origin=origin,
                held_out=held_out,
                callbacks=[ShowProgress(self._progress, f"training {corpus.name}")],
            ).run()
        return Trained(
            dataset=corpus.name,
            path=folder,
            steps=result.steps,
            tokens=result.tokens,
            loss_first=result.loss_first,
            loss_last=result.loss_last,
            tokens_per_second=result.tokens_per_second,
            peak_rss_bytes=peak_rss_bytes(),
            resumed=kept or result.resumed > 0,
        )


def open_decoder(inputs: Inputs) -> tuple[Decoder, Saving]:
    """The base ready for training, in the way that fits the recipe's memory.

    Raises:
        ResourceError: no way fits; the hint says what would.
    """
    base, recipe = inputs.base, inputs.recipe
    count = threads(recipe)
    saving = choose_saving(
        base.config,
        load_of(recipe.train, count, float16=base.info.dtype == "F16"),
        _limit(recipe),
        held=resident_bytes(),
    )
    decoder = Decoder(
        base.config,
        base.compact_weights,
        threads=count,
        recompute=saving.recompute,
        maps="bf16" if recipe.train.precision == "bf16" else "half" if saving.half else "whole",
        rank=recipe.train.rank,
    )
    return decoder, saving


def expert_corpus(inputs: Inputs, corpus: Corpus) -> Corpus:
    """A dataset with the rows that its expert replays, drawn by the recipe's seed."""
    train = inputs.recipe.train
    if not train.replay:
        return corpus
    others = [each for each in inputs.corpora.values() if each.name != corpus.name]
    sources = [inputs.replay] if inputs.replay else others
    rng = np.random.default_rng(train.seed)
    rows = replayed(corpus.samples, [each.samples for each in sources], train.replay, rng)
    mark = fingerprint(
        own=corpus.fingerprint,
        replay=train.replay,
        sources=[[each.fingerprint, len(each.samples)] for each in sources],
    )
    return Corpus(corpus.name, rows, corpus.held_out, mark)


def _limit(recipe: Recipe) -> int:
    """Bytes that training may take; 0 for any."""
    memory = recipe.limits.memory
    if not isinstance(memory, str):
        return int(memory * GIB)
    free = free_memory_bytes()
    return int(_SHARE * free) + resident_bytes() if free else 0
