"""The inputs and the results of a training, as its adapter's folder stores them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import OWN, Adapter, load_adapter, read_extra, save_adapter
from m2m.errors import InputError
from m2m.formats.json_values import as_list, as_real, as_reals, as_text, as_whole
from m2m.recipe import Train, as_json
from m2m.recipe.fields import ANYTIME
from m2m.tuner.checkpointing import SCHEMA

# Fields of [train] that change only the samples or the steps, which the identity has already.
_ELSEWHERE = ("epochs", "tokens", "holdout", "replay", "replay_from")
# Fields that change only which held-out losses are measured, and when.
_HELD_OUT = ("checkpoint_every", "patience")

# Fields of m2m.json that describe the training; one hash covers all of them.
_RECORD = ("steps", "kept_step", "tokens", "losses", "held_out")


@dataclass(frozen=True)
class Origin:
    """The inputs of an adapter's training.

    Attributes:
        name: name of the adapter, usually the name of its dataset.
        base_model: name or path of the base, written into the PEFT configuration.
        base_fingerprint: SHA-256 of the base.
        dataset_fingerprint: from `m2m.dataset.dataset_fingerprint`, or one for several datasets.
        device: ggml's name of the GPU that trains, because it rounds in its own way; "": none does.
    """

    name: str
    base_model: str
    base_fingerprint: str
    dataset_fingerprint: str
    device: str = ""


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        adapter: as written to the folder.
        steps: optimiser steps.
        tokens: tokens processed in all steps.
        losses: mean nats per trained token, step by step.
        tokens_per_second: speed of this process; 0 if an earlier process had made all steps.
        resumed: number of steps that earlier processes made.
        held_out: (step, mean nats per trained token) on the held-out samples.
        passes: mean number of times that a sample was trained on.
        last: whether the last step's adapter is kept, even if an earlier one was better.
    """

    adapter: Adapter
    steps: int
    tokens: int
    losses: list[float]
    tokens_per_second: float
    resumed: int
    held_out: list[tuple[int, float]]
    passes: float = 0.0
    last: bool = False

    @property
    def loss_first(self) -> float:
        """Return the mean loss of the first tenth of the steps; one step says little."""
        return float(np.mean(self.losses[: self._tenth]))

    @property
    def loss_last(self) -> float:
        """Return the mean loss of the last tenth of the steps."""
        return float(np.mean(self.losses[-self._tenth :]))

    @property
    def _tenth(self) -> int:
        return max(1, len(self.losses) // 10)

    @property
    def best_step(self) -> int | None:
        """Return the step with the lowest held-out loss, None without held-out samples."""
        return min(self.held_out, key=lambda point: point[1])[0] if self.held_out else None

    @property
    def kept_step(self) -> int:
        """Return the step whose adapter is kept: the best, or else the last."""
        return self.steps if self.last else self.best_step or self.steps


def identity(config: Train, origin: Origin, samples: int, held_out: int) -> str:
    """Return the SHA-256 of everything that decides the bits of a run."""
    settings = as_json(config) | {"schedule": config.shape}
    # The times of held-out measurements decide which adapter is kept; without them, nothing.
    for name in _ELSEWHERE if held_out else (*_ELSEWHERE, *_HELD_OUT):
        del settings[name]
    if config.epochs:  # a step ends with the last epoch
        settings["epochs"] = config.epochs
    if settings["precision"] == "float32":  # older runs had only this one and no such setting
        del settings["precision"]
    made = {name: value for name, value in vars(origin).items() if value or name != "device"}
    parts = [SCHEMA, settings, made, samples, held_out]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()


def folder_mark(identity: str, config: Train, until: int, *, last: bool = False) -> str:
    """Return the SHA-256 that marks an adapter's folder: one `anytime` training makes several.

    Args:
        identity: of the training.
        config: its settings.
        until: its steps so far.
        last: whether the folder has the adapter of the last step, not of the best.
    """
    if config.shape != ANYTIME:
        return identity
    return hashlib.sha256(f"{identity} {'at' if last else 'until'} {until}".encode()).hexdigest()


def write_result(
    folder: Path, result: TrainResult, config: Train, origin: Origin, mark: str
) -> None:
    """Write the PEFT folder with the training's record; `mark` is its identity."""
    record = {
        "steps": result.steps,
        "kept_step": result.kept_step,
        "tokens": result.tokens,
        "losses": result.losses,
        "held_out": [list(point) for point in result.held_out],
    }
    extra: dict[str, Any] = {
        "identity": mark,
        "train": as_json(config),
        "dataset_fingerprint": origin.dataset_fingerprint,
        "passes": result.passes,
        **record,
        "sha256": digest_of(result.adapter, record),
    }
    save_adapter(folder, result.adapter, extra)


def digest_of(adapter: Adapter, record: dict[str, Any]) -> str:
    """Return the SHA-256 of an adapter's values and its record, to detect damage."""
    whole = hashlib.sha256(json.dumps(record, sort_keys=True).encode("utf-8"))
    for module, pair in sorted(adapter.pairs.items()):
        whole.update(f"{module} {pair.a.shape} {pair.b.shape} {pair.scale!r}\n".encode())
        whole.update(np.ascontiguousarray(pair.a).data)
        whole.update(np.ascontiguousarray(pair.b).data)
    return whole.hexdigest()


def finished(
    folder: Path,
    config: Train,
    origin: Origin,
    samples: int,
    held_out: int = 0,
    until: int | None = None,
    last: bool = False,
) -> TrainResult | None:
    """Return the result of an earlier run in `folder`, or None if that was another training.

    Args:
        folder: folder of the adapter.
        config, origin: the arguments of a `Trainer`.
        until, last: the arguments of its `run`.
        samples, held_out: number of rows.

    A damaged folder counts as missing: the training runs again and replaces it.
    """
    try:
        run = identity(config, origin, samples, held_out)
        mark = folder_mark(run, config, config.steps if until is None else until, last=last)
        if read_extra(folder).get("identity") != mark:
            return None
        return read_result(folder)
    except InputError:
        return None


def read_result(folder: Path) -> TrainResult:
    """Read a training's result from an adapter's folder; check that it belongs to the adapter.

    Raises:
        InputError: the folder is damaged, changed, or not made by m2m.
    """
    extra, path = read_extra(folder), folder / OWN
    adapter = load_adapter(folder)
    record = {name: extra.get(name) for name in _RECORD}
    if extra.get("sha256") != digest_of(adapter, record):
        raise InputError(
            f"{path}: its sha256 is not that of this adapter and this training record",
            "copy the folder again, or train the adapter again",
        )
    try:
        as_whole(record["kept_step"], "kept_step")
        as_text(extra.get("identity"), "identity")
        as_real(extra.get("passes", 0.0), "passes", 0.0)
        held_out = as_list(record["held_out"], "held_out", (list,))
        return TrainResult(
            adapter=adapter,
            steps=as_whole(record["steps"], "steps", 1),
            tokens=as_whole(record["tokens"], "tokens"),
            losses=as_reals(record["losses"], "losses", least=1),
            tokens_per_second=0.0,
            resumed=as_whole(record["steps"], "steps", 1),
            held_out=[measured(point) for point in held_out],
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}", "train the adapter again") from error


def measured(pair: Sequence[Any]) -> tuple[int, float]:
    """Return one held-out loss: (step, mean nats per trained token)."""
    step, loss = as_list(pair, "held_out", (int, float), 2)
    return as_whole(step, "held_out"), as_real(loss, "held_out")
