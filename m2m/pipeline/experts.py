"""Fine-tune adapters; finished ones are kept, and the base is loaded only when needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from m2m.adapter import read_extra
from m2m.checkpoint import BaseModel
from m2m.errors import DeviceError
from m2m.machine import free_memory_bytes, hand_back_freed, peak_rss_bytes, resident_bytes
from m2m.nn.decoder import Decoder
from m2m.nn.matrix import bf16_gain
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.device import note_memory, open_on, say, training_device
from m2m.pipeline.inputs import Inputs, expert_corpus
from m2m.pipeline.scorer import threads
from m2m.progress import Progress
from m2m.recipe import Recipe, Train
from m2m.recipe.fields import UNTIL
from m2m.results.folder import RunFolder
from m2m.results.training import Trained
from m2m.tuner.callbacks import Callback, ShowProgress
from m2m.tuner.checkpointing import checkpoint_path, saved_step
from m2m.tuner.loss_files import EventFile, LossFile
from m2m.tuner.result import TrainResult, folder_mark, identity
from m2m.tuner.row_mix import passes
from m2m.tuner.saving import GIB, Saving, choose_saving, load_of
from m2m.tuner.trainer import Model, Origin, Trainer, finished

# The fraction of free memory that training may take if the recipe names no limit.
_FRACTION = 0.9


@dataclass(frozen=True)
class Job:
    """One adapter to train: its data, its settings and its folder.

    Attributes:
        until: its steps, if a training without an end makes several adapters; 0: those of `config`.
        state: file from which that training goes on, and which stays.
        last: whether the adapter is that of the last step, not of the best.
        device: ggml's name of the GPU that trains it; "": the processor.
    """

    corpus: Corpus
    config: Train
    folder: Path
    until: int = 0
    state: Path | None = None
    last: bool = False
    device: str = ""

    @property
    def steps(self) -> int:
        """Return the steps after which the adapter is finished."""
        return self.until or self.config.steps

    def mark(self, base: BaseModel) -> str:
        """Return the mark of its folder: the fingerprint of everything that decides its bits."""
        return folder_mark(self.identity(base), self.config, self.steps, last=self.last)

    def identity(self, base: BaseModel) -> str:
        """Return the identity of its training, whatever its end."""
        sizes = len(self.corpus.samples), len(self.corpus.held_out)
        return identity(self.config, self.origin(base), *sizes)

    def origin(self, base: BaseModel) -> Origin:
        """Return the names and fingerprints that identify its training."""
        own = (self.corpus.name, base.name, base.fingerprint, self.corpus.fingerprint)
        return Origin(*own, self.device)


class Tuning:
    """Trains adapters of one base, one after the other, with one decoder.

    Args:
        base: the model that the adapters belong to.
        recipe: gives precision and rank in `[train]`, and the limits.
        progress: gets one bar per adapter.
    """

    def __init__(self, base: BaseModel, recipe: Recipe, progress: Progress) -> None:
        self._base, self._recipe = base, recipe
        self._progress = progress

    @cached_property
    def _decoder(self) -> Model:
        say(self._recipe, self._base.config, self._progress)
        saving = choose(self._base, self._recipe)
        decoder = open_model(self._base, self._recipe, saving)
        if saving.recompute or saving.half:
            size = saving.bytes / GIB
            self._progress.note(f"training takes about {size:.2f} GiB with {saving.ways}")
        if self._recipe.train.precision == "q8_0":
            self._progress.note(
                "training keeps the base in 8 bits (Q8_0); merges, scores and exports start from "
                "the weights that were imported"
            )
        if self._recipe.train.precision == "bf16" and (gain := bf16_gain()) < 1.0:
            self._progress.note(
                f"products in bf16 are {gain:.2g} times as fast as in float32 on this processor: "
                'precision = "float32" in [train] is better here'
            )
        return decoder

    def train(self, job: Job, place: str = "") -> Trained:
        """Train an adapter, or take it from its folder if the same training made it.

        Args:
            job: the adapter.
            place: its place among others, for people: "2 of 6".

        Raises:
            Interrupted: the user asked to stop; the state is saved.
            ResourceError: there is not enough memory.
            TrainingError: the training diverged.
        """
        if kept := taken(self._base, job):
            return kept
        corpus, device = job.corpus, training_device(self._recipe, self._base.config)
        if job.device != (device.name if device else ""):
            raise DeviceError(
                f"{job.device or 'the processor'} was to train {corpus.name}, and now only "
                f"{device.name if device else 'the processor'} can",
                'run the command again, or set device = "cpu" in [limits]',
            )
        result = Trainer(
            self._decoder,
            corpus.samples,
            job.config,
            folder=job.folder,
            origin=job.origin(self._base),
            held_out=corpus.held_out,
            callbacks=[
                ShowProgress(
                    self._progress, f"training {corpus.name}{f' ({place})' * bool(place)}"
                ),
                *loss_files(self._recipe, job.folder),
            ],
        ).run(job.steps, job.state, last=job.last)
        note_memory(self._decoder, self._progress, if_short=True)
        return _trained(job, result, kept=result.resumed > 0)


def loss_files(recipe: Recipe, folder: Path) -> list[Callback]:
    """Return the files that get the losses of the training whose adapter goes to `folder`."""
    files, name = RunFolder(recipe.folder), folder.relative_to(recipe.folder)
    lines = LossFile(files.losses / name.parent / f"{name.name}.jsonl")
    wanted = recipe.report.tensorboard == "yes"
    return [lines, *([EventFile(files.event_files / name)] if wanted else [])]


def made(base: BaseModel, job: Job) -> Trained | None:
    """Return the adapter that the same training made before, or None."""
    sizes = len(job.corpus.samples), len(job.corpus.held_out)
    result = finished(job.folder, job.config, job.origin(base), *sizes, job.steps, job.last)
    return None if result is None else _trained(job, result, kept=True)


def taken(base: BaseModel, job: Job) -> Trained | None:
    """Return the adapter as `made` does, for a run that goes on with it.

    A kill can come between the writing of an adapter and the end of its checkpoint, which is
    deleted here.
    """
    known = made(base, job)
    left = checkpoint_path(job.folder)
    if known and job.state is None and saved_step(left, job.identity(base)):
        left.unlink()
    return known


def _trained(job: Job, result: TrainResult, *, kept: bool) -> Trained:
    return Trained(
        dataset=job.corpus.name,
        path=job.folder,
        steps=result.steps,
        tokens=result.tokens,
        loss_first=result.loss_first,
        loss_last=result.loss_last,
        tokens_per_second=result.tokens_per_second,
        peak_rss_bytes=peak_rss_bytes(),
        resumed=kept,
        passes=result.passes or passes(job.corpus.samples, job.config, result.steps),
    )


def choose(base: BaseModel, recipe: Recipe, held: int = 0) -> Saving:
    """Choose how training fits into the recipe's memory.

    Args:
        base: the model that is trained.
        recipe: gives `[train]` and `[limits]`.
        held: bytes that the process will hold by then; 0: the bytes that this process holds now.

    Raises:
        ResourceError: no way fits; the hint names settings that would.
    """
    if training_device(recipe, base.config):  # it has memory of its own, and says when that ends
        return Saving(0, False, held or resident_bytes())
    load = load_of(recipe.train, threads(recipe))
    base.release()  # memory of earlier reading and scoring does not count
    hand_back_freed()
    return choose_saving(base.config, load, memory_limit(recipe), held=held or resident_bytes())


def open_model(base: BaseModel, recipe: Recipe, saving: Saving) -> Model:
    """Open the base for training on the recipe's device, in a way that `choose` found to fit."""
    if device := training_device(recipe, base.config):
        return open_on(device, base, threads(recipe))
    return open_decoder(base, recipe, saving)


def open_reader(inputs: Inputs) -> Decoder:
    """Open the base on the processor, for losses and hidden states, within the recipe's memory."""
    limits = replace(inputs.recipe.limits, device="cpu")
    recipe = replace(inputs.recipe, limits=limits)
    return open_decoder(inputs.base, recipe, choose(inputs.base, recipe))


def open_decoder(base: BaseModel, recipe: Recipe, saving: Saving) -> Decoder:
    """Open the base on the processor, in a way that `choose` found to fit."""
    maps = recipe.train.precision
    decoder = Decoder(
        base.config,
        base.compact_weights,
        threads=threads(recipe),
        recompute=saving.recompute,
        maps=maps if maps != "float32" else "half" if saving.half else "whole",
        rank=recipe.train.rank,
    )
    base.release()  # Most tensors are too small to be given back one by one while they are read.
    return decoder


def expert_job(inputs: Inputs, name: str) -> Job:
    """Return the training of one dataset's expert, with the rows that it replays."""
    corpus, recipe = expert_corpus(inputs, inputs.corpora[name]), inputs.recipe
    state = expert_state(inputs, name) if goes_on(recipe) else None
    folder, device = inputs.files.adapters / name, device_name(inputs)
    return Job(corpus, recipe.train, folder, state=state, device=device)


def device_name(inputs: Inputs) -> str:
    """Return ggml's name of the GPU that trains; "": the processor does."""
    device = training_device(inputs.recipe, inputs.base.config)
    return device.name if device else ""


def expert_state(inputs: Inputs, name: str) -> Path:
    """Return the file from which the training of an expert can go on."""
    return inputs.files.states / f"{name}.safetensors"


def goes_on(recipe: Recipe) -> bool:
    """Return whether an expert is the beginning of its dataset's real fine-tune.

    It is not if it borrows rows of other datasets, or if a loss can end it early.
    """
    train = recipe.train
    borrows = train.replay > 0 and train.replay_from is None
    return recipe.confirm.budget == UNTIL and not borrows and not train.patience


def given_experts(inputs: Inputs) -> dict[str, Trained]:
    """Return the experts that were trained elsewhere, by the name of their dataset."""
    given = {name: inputs.corpora[name].expert for name in inputs.expert_names}
    return {
        name: Trained(
            dataset=name,
            path=folder,
            steps=read_extra(folder).get("steps"),
            tokens=None,
            loss_first=None,
            loss_last=None,
            tokens_per_second=0.0,
            peak_rss_bytes=0,
            resumed=True,
            passes=None,
        )
        for name, folder in given.items()
        if folder is not None
    }


def memory_limit(recipe: Recipe) -> int:
    """Return the bytes that training may take; 0 for no limit."""
    memory = recipe.limits.memory
    if not isinstance(memory, str):
        return int(memory * GIB)
    free = free_memory_bytes()
    return int(_FRACTION * free) + resident_bytes() if free else 0
