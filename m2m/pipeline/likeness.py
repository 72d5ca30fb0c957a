"""Describe datasets and targets by their tokens, and by the hidden states that the base has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from m2m.arrays import F64
from m2m.evaluate.tasks import requests
from m2m.formats.spooled import Lazy
from m2m.mix.rival_predictors import Features
from m2m.mix.similarity import token_frequencies
from m2m.nn.decoder import Decoder
from m2m.pipeline.experts import open_reader
from m2m.pipeline.inputs import Inputs

_TEXTS = 64  # rows of a dataset, and questions of the targets, whose hidden states are averaged
_TOGETHER = 16  # texts in one pass over the weights


def token_features(inputs: Inputs) -> Features:
    """Return the frequencies of the tokens of all rows, and of dev questions with right answers."""
    vocabulary = inputs.base.config.vocab_size
    frequencies = {
        name: token_frequencies((sample.ids for sample in corpus.samples), vocabulary)
        for name, corpus in inputs.corpora.items()
        if corpus.samples
    }
    return Features(frequencies, token_frequencies(_questions(inputs), vocabulary))


def hidden_features(inputs: Inputs) -> Features:
    """Return the base's mean last hidden states over rows, and over questions with right answers.

    At most `_TEXTS` of each are read, evenly spaced. Every token counts the same.
    """
    decoder = open_reader(inputs)
    means = {
        name: _mean(decoder, Lazy(corpus.samples, lambda sample: sample.ids))
        for name, corpus in inputs.corpora.items()
    }
    return Features(means, _mean(decoder, _questions(inputs)))


def _questions(inputs: Inputs) -> list[list[int]]:
    return [
        [*request.prompt, *request.continuations[example.gold]]
        for task in inputs.dev.values()
        for request, example in zip(requests(task, inputs.formatter), task.examples, strict=True)
    ]


def _mean(decoder: Decoder, texts: Sequence[ArrayLike]) -> F64:
    """Return the mean hidden state (C,) of the tokens of some texts."""
    chosen = np.unique(np.linspace(0, len(texts) - 1, min(_TEXTS, len(texts))).round().astype(int))
    rows = [np.asarray(texts[i], np.int64) for i in chosen]
    states = [decoder.hidden(rows[i : i + _TOGETHER]) for i in range(0, len(rows), _TOGETHER)]
    mean: F64 = np.concatenate(states).mean(axis=0, dtype=np.float64)
    return mean
