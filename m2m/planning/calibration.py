"""Measure the speed of each part of a run on this machine, by doing a little of each.

It takes a few seconds, and guesses nothing that it can time: real training steps on the recipe's
own rows, real surrogates of its own base, real examples of its own targets.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np

from m2m.dataset import BatchStream
from m2m.errors import DeviceError, InputError, Interrupted
from m2m.evaluate.metric import resample
from m2m.evaluate.tasks import Task, contrasted, requests
from m2m.formats.disk import make_folder
from m2m.formats.journal import Journal
from m2m.ggml.decoder import DeviceDecoder
from m2m.llamacpp.scoring import common_prefix
from m2m.machine import peak_rss_bytes
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.strategy import Cost
from m2m.mix.study import READABLE
from m2m.mix.surrogate import SurrogateScorer
from m2m.mix.trial import Trial
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.device import give_up, note_memory, say
from m2m.pipeline.experts import choose, open_model
from m2m.pipeline.inputs import Inputs, expert_corpus
from m2m.pipeline.kept import finished_experts
from m2m.pipeline.scorer import open_scorer
from m2m.pipeline.workers import divide, workers
from m2m.progress import Progress
from m2m.recipe import Train
from m2m.tokenizer import Formatter
from m2m.tuner.callbacks import ShowProgress, Step
from m2m.tuner.trainer import Model, Origin, Trainer

# A first step also allocates memory. If steps are short, several are made and the median counts.
_SHORT, _MORE_SECONDS, _MORE_STEPS = 10.0, 8.0, 6
_TOKENS_SCORED = 2_000  # tokens of the examples that are scored
_ADAPTER = "adapter"  # name of the adapter that represents experts
_BATCHES = 12  # batches that are measured, as they are not full


@dataclass(frozen=True)
class Aside:
    """How experts train side by side.

    Attributes:
        count: workers that share the threads.
        at_once: workers that fit into memory together.
        slower: time of a step with a worker's memory saving over the time of a step alone.
        bytes: expected peak of all workers together.
    """

    count: int
    at_once: int
    slower: float
    bytes: int


@dataclass(frozen=True)
class Rates:
    """Seconds and bytes of the parts of a run.

    Attributes:
        decoder: seconds to read the base into the trainer.
        token: seconds of one training step divided by its tokens.
        tokens: tokens of a step, by dataset.
        pause: seconds to measure held-out rows and write a checkpoint or an adapter.
        surrogate: seconds to quantise the base before the first mixture.
        load_one, load_all: seconds to merge and load a mixture of one and of all datasets.
        scored: seconds to score a token.
        judged: seconds to bootstrap a model's scores.
        training_bytes: expected peak of the process while training.
        aside: the experts' training if several train side by side.
        scoring_bytes: measured peak of the process after scoring.
        adapter_bytes: size of an adapter's file.
        known: work that the run's journal already holds, by mixture.
    """

    decoder: float
    token: float
    tokens: Mapping[str, float]
    pause: float
    surrogate: float
    load_one: float
    load_all: float
    scored: float
    judged: float
    training_bytes: int
    scoring_bytes: int
    adapter_bytes: int
    known: Mapping[Mixture, Cost] = field(default_factory=dict)
    aside: Aside | None = None

    def step(self, dataset: str | None = None) -> float:
        """Return the seconds of a training step on a dataset, or on an average one."""
        tokens = self.tokens[dataset] if dataset else statistics.fmean(self.tokens.values())
        return self.token * tokens

    def load(self, size: float, of: int) -> float:
        """Return the seconds to merge and load a mixture of `size` of `of` datasets."""
        fraction = (size - 1) / (of - 1) if of > 1 else 0.0
        return self.load_one + fraction * (self.load_all - self.load_one)


def calibrate(inputs: Inputs, progress: Progress) -> Rates:
    """Time a little of every part of a run.

    Raises:
        ResourceError: training does not fit into memory; the hint names settings that would.
        Interrupted: the user asked to stop.
    """
    try:
        return _calibrate(inputs, progress)
    except DeviceError as error:
        give_up(inputs.recipe, error, progress)
        return _calibrate(inputs, progress)


def _calibrate(inputs: Inputs, progress: Progress) -> Rates:
    make_folder(inputs.recipe.folder)
    with tempfile.TemporaryDirectory(prefix=".m2m-plan-", dir=inputs.recipe.folder) as temporary:
        folder = Path(temporary)
        timing = _Timing(inputs, folder, progress)
        corpora = [inputs.corpora[n] for n in inputs.usable_names if inputs.corpora[n].samples]
        if not corpora:
            raise InputError(
                f"{inputs.recipe.path}: no dataset has rows, so there is no training to time",
                "run `m2m search`: it merges and scores the adapters",
            )
        saving = choose(inputs.base, inputs.recipe)
        count = workers(inputs.recipe, len(corpora))
        portion = divide(inputs, count, len(corpora)) if count > 1 else None
        started = time.perf_counter()
        say(inputs.recipe, inputs.base.config, progress)
        decoder = open_model(inputs.base, inputs.recipe, saving)
        opened = time.perf_counter() - started
        corpus = expert_corpus(inputs, corpora[0])
        tokens = {corpus.name: _tokens_of_a_step(inputs, corpus) for corpus in corpora}
        timed = timing.train(corpus, decoder, _ADAPTER)
        note_memory(decoder, progress)
        size = sum(file.stat().st_size for file in (folder / _ADAPTER).iterdir())
        del decoder
        aside = None
        if portion:
            slower = 1.0
            if portion.saving.ways != saving.ways:
                decoder = open_model(inputs.base, inputs.recipe, portion.saving)
                slower = timing.train(corpus, decoder, "aside").step / timed.step
                del decoder
            aside = Aside(count, portion.at_once, slower, portion.at_once * portion.saving.bytes)
        timed_scoring, known = timing.score()
    return Rates(
        decoder=opened,
        token=timed.step / tokens[corpus.name],
        tokens=tokens,
        pause=timed.pause,
        **timed_scoring,
        training_bytes=saving.bytes,
        scoring_bytes=peak_rss_bytes(),
        adapter_bytes=size,
        known=known,
        aside=aside,
    )


@dataclass(frozen=True)
class _Timed:
    step: float
    pause: float


class _Stopwatch(ShowProgress):
    """Keeps the seconds of every step."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress, "calibrating: training")
        self.steps: list[float] = []

    def on_step(self, step: Step) -> None:
        """Note the step's seconds and show it."""
        self.steps.append(step.seconds)
        super().on_step(step)


@dataclass(frozen=True)
class _Timing:
    """Times training and scoring; files go to a temporary folder."""

    inputs: Inputs
    folder: Path
    progress: Progress

    def train(self, corpus: Corpus, decoder: Model, name: str) -> _Timed:
        """Time one real step, and some more if it was short; the adapter is called `name`."""
        timed = self._train(corpus, decoder, name, steps=1)
        if timed.step < _SHORT or isinstance(decoder, DeviceDecoder):  # its first step compiles
            steps = max(2, min(_MORE_STEPS, int(_MORE_SECONDS / timed.step)))
            timed = self._train(corpus, decoder, name, steps)
        return timed

    def _train(self, corpus: Corpus, decoder: Model, name: str, steps: int) -> _Timed:
        base, train = self.inputs.base, self.inputs.recipe.train
        mark = f"{corpus.fingerprint} {steps}"
        watch = _Stopwatch(self.progress)
        trainer = Trainer(
            decoder,
            corpus.samples,
            dataclasses.replace(train, steps=steps, patience=0, warmup=0.0),
            folder=self.folder / name,
            origin=Origin("calibration", base.name, base.fingerprint, mark),
            held_out=corpus.held_out,
            callbacks=[watch],
        )
        started = time.perf_counter()
        trainer.run()
        spent = time.perf_counter() - started
        return _Timed(statistics.median(watch.steps), max(0.0, spent - sum(watch.steps)))

    def score(self) -> tuple[dict[str, float], dict[Mixture, Cost]]:
        """Return the rates of surrogates by name, and the work that the run's journal holds.

        The adapter of `train` represents the experts that are not trained yet.
        """
        inputs, names = self.inputs, self.inputs.usable_names
        trained = finished_experts(inputs)
        experts = {name: trained.get(name, self.folder / _ADAPTER) for name in names}
        self.progress.start("calibrating: surrogates", 4, "models")
        started = time.perf_counter()
        with open_scorer(inputs, experts, inputs.dev, scratch=self.folder) as scorer:
            made = time.perf_counter() - started
            loads = []
            for mixture in (BASE, Mixture.uniform(names[:1]), Mixture.uniform(names)):
                loads.append(scorer.score(mixture, dict.fromkeys(inputs.dev, ())).seconds)
                self._advance()
            known = _known(Journal(inputs.files.study), scorer, {*trained})
        some = {name: _some(task, inputs.formatter) for name, task in inputs.dev.items()}
        with open_scorer(inputs, experts, some, scratch=self.folder) as scorer:
            whole = scorer.score(BASE)
            self._advance()
        self.progress.finish()
        started = time.perf_counter()
        for objective in inputs.objectives:
            scores = whole.scores[objective.target]
            objective.metric.value(scores, resample(len(scores), np.random.default_rng(0)))
        judged = time.perf_counter() - started
        tokens = sum(sum(count_tokens(task, inputs.formatter)) for task in some.values())
        rates = {
            "surrogate": made,
            "load_one": loads[1],
            "load_all": loads[2],
            "scored": max(0.0, whole.seconds - loads[0]) / tokens,
            "judged": judged,
        }
        return rates, known

    def _advance(self) -> None:
        self.progress.advance()
        if self.progress.stop_requested():
            raise Interrupted("stopped while calibrating")


def _tokens_of_a_step(inputs: Inputs, corpus: Corpus) -> float:
    """Return the tokens of a step: rows do not fill a dataset's batches to the last token."""
    train: Train = inputs.recipe.train
    stream = BatchStream(expert_corpus(inputs, corpus).samples, train.seed, train.batch_tokens)
    batches = [len(next(stream).tokens) for _ in range(min(_BATCHES, train.steps))]
    return train.accumulate * statistics.fmean(batches)


def _known(journal: Journal, scorer: SurrogateScorer, trained: Set[str]) -> dict[Mixture, Cost]:
    """Return the journal's work for these adapters and settings; only finished ones have a key."""
    total, known = sum(scorer.examples.values()), dict[Mixture, Cost]()
    for line in journal.replay():
        if line.get("schema") not in READABLE:
            continue
        trial = Trial.from_json(line)
        mixture = trial.mixture
        if trained >= {*mixture.datasets} and scorer.key(mixture) == line.get("key"):
            before = known.get(mixture, Cost())
            known[mixture] = before.plus(1, trial.examples / total, new=mixture not in known)
    return known


def _some(task: Task, formatter: Formatter) -> Task:
    """Return the first examples of a task, enough to time it."""
    task = contrasted(task)  # some of the answers alone may include no wrong ones
    fraction = _TOKENS_SCORED / max(1, sum(count_tokens(task, formatter)))
    count = min(len(task.examples), max(8, round(fraction * len(task.examples))))
    return dataclasses.replace(task, examples=task.examples[:count])


def count_tokens(task: Task, formatter: Formatter) -> tuple[int, int]:
    """Count the tokens that scoring a task decodes; a beginning that answers share counts once.

    Returns:
        The tokens that all prompts have in common, decoded once for each block of examples; and all
        tokens that the examples have of their own. A last token is only predicted, not decoded.
    """
    asked = requests(task, formatter)
    shared = len(common_prefix(asked))
    own = sum(len(request.prompt) - shared + _branches(request.continuations) for request in asked)
    return shared, own


def _branches(continuations: Sequence[Sequence[int]]) -> int:
    """Count the tokens of the tree of some continuations, without their last ones."""
    paths = sorted(tuple(continuation[:-1]) for continuation in continuations)
    shared = (
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        for a, b in pairwise(paths)
    )
    return sum(map(len, paths)) - sum(shared)
