"""Train one LoRA adapter: deterministic, stoppable after any step and resumable bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m2m.adapter import Adapter
from m2m.arrays import F32
from m2m.dataset import Sample, pack_all
from m2m.errors import InputError, Interrupted, TrainingError
from m2m.formats.json_values import as_list, as_reals, as_whole, as_wholes
from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.lora import LoraPair, init_lora
from m2m.nn.optim import AdamW, clip_factor, global_norm, learning_rate_factor
from m2m.nn.thread_pool import ThreadPool
from m2m.recipe import Train
from m2m.recipe.fields import ANYTIME
from m2m.tuner.callbacks import Callback, Step
from m2m.tuner.checkpointing import checkpoint_path, load_checkpoint, save_checkpoint, saved_step
from m2m.tuner.result import (
    Origin,
    TrainResult,
    finished,
    folder_mark,
    identity,
    measured,
    write_result,
)
from m2m.tuner.row_mix import stream_of

__all__ = ["Origin", "TrainResult", "Trainer", "finished"]

Gradients = dict[str, tuple[NDArray[Any], NDArray[Any]]]

# An `anytime` training keeps the polynomial-decay average of its weights (Shamir & Zhang 2013,
# arXiv 1212.1824, section 4). Step s of t has about the weight (s/t)^_POWER: the last tenth counts.
_POWER = 8
# Number of steps whose mean loss shows a divergence that never became infinite.
_WINDOW = 5


class Model(Protocol):
    """A frozen base that is trained: m2m.nn's decoder, or m2m.ggml's on a device."""

    config: DecoderConfig
    pool: ThreadPool

    def loss(self, batch: Batch, lora: Mapping[str, LoraPair]) -> tuple[float, int]:
        """Return the summed loss in nats and the number of positions."""

    def loss_and_grads(
        self, batch: Batch, lora: Mapping[str, LoraPair], out: Gradients | None = None
    ) -> tuple[float, int, Gradients]:
        """Return loss and positions, and d(sum)/d(A, B) by module, written into `out` if given."""


@dataclass
class _Progress:
    """The progress of a run: the content of a checkpoint besides arrays."""

    step: int = 0
    position: tuple[int, int] = (0, 0)
    tokens: int = 0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)

    def best(self) -> int:
        """Return the index of the lowest held-out loss; the first of equals."""
        losses = [loss for _, loss in self.held_out]
        return losses.index(min(losses))


def read_progress(state: Mapping[str, Any], steps: int, samples: int) -> _Progress:
    """Return the progress in a checkpoint; raise ValueError for values that no training has."""
    step = as_whole(state.get("step"), "step", 0, steps)
    losses = as_reals(state.get("losses"), "losses")
    if len(losses) != step:
        raise ValueError(f"losses has {len(losses)} entries, expected {step}")
    epoch, taken = as_wholes(state.get("position"), "position", count=2)
    as_whole(taken, "position", 0, samples)
    held_out = as_list(state.get("held_out"), "held_out", (list,))
    return _Progress(
        step,
        (epoch, taken),
        as_whole(state.get("tokens"), "tokens"),
        losses,
        [measured(point) for point in held_out],
    )


class Trainer:
    """Train one adapter and write it as a PEFT folder.

    The trainer makes every step up to the end with one learning-rate schedule. Held-out samples
    choose which step's adapter is kept; `patience` ends a training that is past its best.

    Args:
        decoder: the frozen base.
        samples: rows to train on.
        config: the recipe's `[train]`.
        folder: the PEFT folder to make; until then the checkpoint is stored next to it.
        origin: names and fingerprints of base and dataset.
        held_out: samples whose loss is measured at every checkpoint, never trained on.
        callbacks: get the events of the run.

    Raises:
        InputError: samples that do not fit into batches.
    """

    def __init__(
        self,
        decoder: Model,
        samples: Sequence[Sample],
        config: Train,
        *,
        folder: Path,
        origin: Origin,
        held_out: Sequence[Sample] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._decoder = decoder
        self._config = config
        self._folder = folder
        self._origin = origin
        self._callbacks = callbacks
        self._stream, self._samples = stream_of(samples, config), len(samples)
        self._held_out = list(pack_all(held_out, config.batch_tokens))
        self._lora = init_lora(
            decoder.config,
            config.target_modules,
            config.rank,
            config.alpha,
            np.random.default_rng(config.seed),
        )
        self._parameters = [array for pair in self._lora.values() for array in (pair.a, pair.b)]
        # The mean over the steps so far; the adapter itself if the schedule ends with small steps.
        self._average = _copies(self._lora) if config.shape == ANYTIME else self._lora
        # The adapter with the lowest held-out loss so far.
        self._best = _copies(self._lora) if self._held_out else {}
        # Gradients of a step and of its later batches, kept so that no step allocates them again.
        self._sums: Gradients | None = None
        self._more: Gradients | None = None
        self._optimizer = AdamW(
            self._parameters, weight_decay=config.weight_decay, pool=decoder.pool
        )
        self._identity = identity(config, origin, len(samples), len(held_out))
        self._until, self._checkpoint = config.steps, checkpoint_path(folder)
        self._keeps_last = False

    def run(
        self, until: int | None = None, state: Path | None = None, *, last: bool = False
    ) -> TrainResult:
        """Make all steps that are left, write the folder and remove the checkpoint.

        An `anytime` schedule does not depend on the end: a training of 300 steps that goes on to
        600 is, bit for bit, the training of 600 steps. (With held-out samples, both numbers must
        be multiples of `checkpoint_every`.)

        Args:
            until: steps to make, if the schedule is `anytime`; default: `steps` of `config`.
            state: the checkpoint, which then stays after the end so that the training can go on.
            last: keep the last step's adapter, even if the held-out loss was lower before.

        Raises:
            Interrupted: a callback asked to stop; the state is saved.
            TrainingError: the loss diverged; the last checkpoint stays.
        """
        self._until, self._keeps_last = self._config.steps if until is None else until, last
        if self._until != self._config.steps and self._config.shape != ANYTIME:
            raise ValueError(f"schedule {self._config.shape} ends at {self._config.steps} steps")
        # A state that is further on stays as it is, and this shorter training starts again.
        stays = state is not None and saved_step(state, self._identity) <= self._until
        self._checkpoint = state if state and stays else checkpoint_path(self._folder)
        done = self._resume()
        resumed, earlier = done.step, done.tokens
        started = time.perf_counter()
        for callback in self._callbacks:
            callback.on_start(self._until, resumed)
        while not self._is_over(done):
            self._advance(done)
            stop = any(callback.stop_requested() for callback in self._callbacks)
            if stop or self._is_due(done.step):
                self._save(done)
            if stop and not self._is_over(done):
                raise Interrupted(
                    f"stopped {self._origin.name} after step {done.step} of {self._until}; "
                    "its state is saved",
                    "run the same command again to go on from there",
                )
        seconds = time.perf_counter() - started
        result = self._result(done, resumed, (done.tokens - earlier) / max(seconds, 1e-9))
        # Until the folder exists, the checkpoint is needed.
        mark = folder_mark(self._identity, self._config, self._until, last=last)
        write_result(self._folder, result, self._config, self._origin, mark)
        if not stays:
            self._checkpoint.unlink(missing_ok=True)
        for callback in self._callbacks:
            callback.on_end(result)
        return result

    def _is_over(self, done: _Progress) -> bool:
        if done.step >= self._until:
            return True
        patience = self._config.patience
        return 0 < patience < len(done.held_out) and len(done.held_out) - done.best() > patience

    def _advance(self, done: _Progress) -> None:
        """Make one step and record it."""
        started = time.perf_counter()
        rate = self._learning_rate(done.step)
        # A divergence shows as overflow; `_refuse_divergence` reports it in words.
        with np.errstate(over="ignore", invalid="ignore"):
            loss, norm, tokens = self._step(rate)
        done.step += 1
        done.position = self._stream.position
        done.tokens += tokens
        done.losses.append(loss)
        self._refuse_divergence(done, norm)
        self._add_to_average(done.step)
        seconds = time.perf_counter() - started
        held_out = self._measure_held_out(done) if self._is_due(done.step) else None
        for callback in self._callbacks:
            callback.on_step(Step(done.step, loss, rate, norm, tokens, seconds, held_out))

    def _step(self, rate: float) -> tuple[float, float, int]:
        """Make one optimiser step; return mean loss, gradient norm before clipping, tokens."""
        total, count, tokens = 0.0, 0, 0
        for part, batch in enumerate(self._stream.step(self._config.accumulate)):
            into = self._sums if part == 0 else self._more
            nats, trained, grads = self._decoder.loss_and_grads(batch, self._lora, into)
            total += nats
            count += trained
            tokens += len(batch.tokens)
            if part == 0:
                self._sums = sums = grads
            else:
                self._more = grads
                _add(sums, grads)
        gradients = [gradient for module in self._lora for gradient in sums[module]]
        norm = global_norm(gradients) / count
        if math.isfinite(norm):
            self._optimizer.step(gradients, rate, clip_factor(norm, self._config.clip) / count)
        return total / count, norm, tokens

    def _learning_rate(self, step: int) -> float:
        config = self._config
        warmup = round(config.warmup * config.steps)
        factor = learning_rate_factor(config.shape, step, config.steps, warmup)
        return config.learning_rate * factor

    def _is_due(self, step: int) -> bool:
        return step % self._config.checkpoint_every == 0 or step == self._until

    def _add_to_average(self, step: int) -> None:
        """Move the average towards the weights of this step."""
        if self._average is self._lora:
            return
        weight = np.float32((_POWER + 1) / (step + _POWER))
        for module, pair in self._lora.items():
            average = self._average[module]
            average.a[...] += weight * (pair.a - average.a)
            average.b[...] += weight * (pair.b - average.b)

    def _measure_held_out(self, done: _Progress) -> float | None:
        """Record and return the held-out loss; keep the adapter if no earlier one was better."""
        if not self._held_out:
            return None
        sums = [self._decoder.loss(batch, self._average) for batch in self._held_out]
        mean = sum(nats for nats, _ in sums) / sum(count for _, count in sums)
        done.held_out.append((done.step, mean))
        if done.best() == len(done.held_out) - 1:
            for module, best in self._best.items():
                best.a[...], best.b[...] = self._average[module].a, self._average[module].b
        return mean

    def _refuse_divergence(self, done: _Progress, norm: float) -> None:
        loss = done.losses[-1]
        recent = float(np.mean(done.losses[-_WINDOW:]))
        # Worse than the same guess for every token, and clearly worse than untrained.
        limit = max(math.log(self._decoder.config.vocab_size), 1.5 * done.losses[0])
        lost = done.step > _WINDOW and recent > limit
        if math.isfinite(loss) and math.isfinite(norm) and not lost:
            return
        raise TrainingError(
            f"training of {self._origin.name} diverged at step {done.step}: "
            f"loss {loss:.4g} (at first {done.losses[0]:.4g}), gradient norm {norm:.4g}",
            f"lower learning_rate in [train] (now {self._config.learning_rate:g}), "
            f"or raise warmup (now {self._config.warmup:g})",
        )

    def _arrays(self) -> dict[str, F32]:
        """Return everything that a step changes, by name, and the best adapter so far."""
        arrays: dict[str, F32] = {}
        average = {} if self._average is self._lora else self._average
        for prefix, pairs in (("", self._lora), ("average.", average), ("best.", self._best)):
            for module, pair in pairs.items():
                arrays |= {f"{prefix}{module}.a": pair.a, f"{prefix}{module}.b": pair.b}
        return arrays | self._optimizer.state_arrays()

    def _resume(self) -> _Progress:
        state = load_checkpoint(self._checkpoint, self._identity, self._arrays())
        if state is None:
            return _Progress()
        try:
            done = read_progress(state, self._until, self._samples)
        except ValueError as error:
            raise InputError(
                f"{self._checkpoint}: {error}",
                f"delete {self._checkpoint} to start this training again",
            ) from error
        self._optimizer.steps = done.step
        self._stream.seek(done.position)
        return done

    def _save(self, done: _Progress) -> None:
        save_checkpoint(self._checkpoint, self._identity, vars(done), self._arrays())

    def _result(self, done: _Progress, resumed: int, speed: float) -> TrainResult:
        adapter = Adapter(
            rank=self._config.rank,
            alpha=self._config.alpha,
            pairs=self._average if self._keeps_last else self._best or self._average,
            base_model=self._origin.base_model,
            base_fingerprint=self._origin.base_fingerprint,
            name=self._origin.name,
        )
        return TrainResult(
            adapter=adapter,
            steps=done.step,
            tokens=done.tokens,
            losses=done.losses,
            tokens_per_second=0.0 if resumed == done.step else speed,
            resumed=resumed,
            held_out=done.held_out,
            passes=self._stream.taken / self._samples,
            last=self._keeps_last,
        )


def _copies(pairs: Mapping[str, LoraPair]) -> dict[str, LoraPair]:
    return {
        module: LoraPair(pair.a.copy(), pair.b.copy(), pair.scale) for module, pair in pairs.items()
    }


def _add(sums: Gradients, more: Gradients) -> None:
    for module, (da, db) in more.items():
        sums[module][0][...] += da
        sums[module][1][...] += db
