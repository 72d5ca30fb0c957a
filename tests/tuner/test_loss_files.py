"""The losses of a training while it runs: every step once, also after a kill."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset import Sample
from m2m.errors import Interrupted, ResourceError
from m2m.nn.decoder import Decoder
from m2m.recipe import Train
from m2m.tuner.callbacks import Callback, Step
from m2m.tuner.loss_files import EventFile, LossFile, check_tensorboard
from m2m.tuner.result import TrainResult
from m2m.tuner.trainer import Origin, Trainer
from tests.tuner.conftest import pico_samples

CONFIG = Train(steps=6, rank=2, batch_tokens=128, checkpoint_every=2, learning_rate=1e-3)


class StopAt:
    """Asks to stop after a step, as a user would."""

    def __init__(self, last: int) -> None:
        self._last, self._step = last, 0

    def on_start(self, total_steps: int, done_steps: int) -> None: ...

    def on_step(self, step: Step) -> None:
        self._step = step.number

    def on_end(self, result: TrainResult) -> None: ...

    def stop_requested(self) -> bool:
        return self._step == self._last


def trained(decoder: Decoder, samples: list[Sample], folder: Path, *more: Callback) -> TrainResult:
    origin = Origin("reverse", "pico", "base", "data")
    held_out = pico_samples("reverse", 2, seed=9)
    made = Trainer(decoder, samples, CONFIG, folder=folder, origin=origin, held_out=held_out,
                   callbacks=more)  # fmt: skip
    return made.run()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_step_is_a_line_and_stays_one_after_a_stop(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    path, folder = tmp_path / "losses" / "reverse.jsonl", tmp_path / "reverse"
    with pytest.raises(Interrupted):
        trained(decoder, samples, folder, LossFile(path), StopAt(3))
    assert [line["step"] for line in lines(path)] == [1, 2, 3]
    # As a process leaves it that was killed two steps after its checkpoint, within a line.
    extra = "".join(f'{{"step":{step},"loss":9.0}}\n' for step in (4, 5))
    path.write_text(path.read_text(encoding="utf-8") + extra + '{"step":6,"lo', encoding="utf-8")
    result = trained(decoder, samples, folder, LossFile(path))
    found = lines(path)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in found] == result.losses
    assert [(n["step"], n["held_out"]) for n in found if "held_out" in n] == result.held_out
    assert all(line["tokens"] > 0 and line["gradient_norm"] > 0 for line in found)


def test_a_new_training_begins_a_new_file(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    path = tmp_path / "reverse.jsonl"
    path.write_text('{"step":1,"loss":9.0}\n', encoding="utf-8")
    result = trained(decoder, samples, tmp_path / "reverse", LossFile(path))
    assert [line["loss"] for line in lines(path)] == result.losses


def test_a_training_that_goes_on_from_a_shorter_one_begins_at_its_next_step(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, schedule="anytime", warmup=0.0)
    found = []
    for steps in (2, 4, 6):
        path = tmp_path / "losses" / str(steps) / "reverse.jsonl"
        Trainer(decoder, samples, config, folder=tmp_path / str(steps),
                origin=Origin("reverse", "pico", "base", "data"),
                callbacks=[LossFile(path)]).run(steps, tmp_path / "state")  # fmt: skip
        found.append([line["step"] for line in lines(path)])
    assert found == [[1, 2], [3, 4], [5, 6]]


def test_a_training_does_not_fail_because_its_losses_cannot_be_written(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    blocked = LossFile(tmp_path / "file" / "reverse.jsonl")
    assert trained(decoder, samples, tmp_path / "reverse", blocked).steps == 6


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_event_files_without_the_package_are_refused_in_words() -> None:
    check_tensorboard(False)
    with pytest.raises(ResourceError, match="package tensorboard is not installed") as refused:
        check_tensorboard(True)
    assert "losses/*.jsonl" in str(refused.value.hint)


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own packages
def test_tensorboard_reads_the_same_numbers(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, adapter = tmp_path / "events", tmp_path / "reverse"
    with pytest.raises(Interrupted):
        trained(decoder, samples, adapter, EventFile(folder), StopAt(3))
    result = trained(decoder, samples, adapter, EventFile(folder))
    read = EventAccumulator(str(folder))
    read.Reload()
    losses = read.Scalars("loss")
    assert [point.step for point in losses] == [1, 2, 3, 4, 5, 6]
    assert [point.value for point in losses] == pytest.approx(result.losses, rel=1e-6)
    held_out = [(point.step, point.value) for point in read.Scalars("held_out")]
    assert held_out == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in result.held_out]
