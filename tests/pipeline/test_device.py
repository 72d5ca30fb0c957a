"""`[limits] device`: which device trains, and what is kept when another one did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m2m.errors import DeviceError, ResourceError
from m2m.ggml.devices import Device, gpu, list_devices
from m2m.mix.mixture import Mixture
from m2m.nn.config import DecoderConfig
from m2m.pipeline import device as module
from m2m.pipeline import ladder as ladder_module
from m2m.pipeline.device import give_up, open_on, say, training_device
from m2m.pipeline.experts import Job, Tuning, expert_job, open_reader
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.ladder import Ladder
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import train_all
from m2m.progress import Silent
from m2m.recipe import Recipe, load_recipe
from m2m.results.folder import RunFolder
from m2m.results.training import Trained
from tests.nn.reference import make_config
from tests.pipeline.scenario import copied

CARD = Device("Vulkan0", "Some card", "gpu", 1 << 30, 1 << 30)


@pytest.fixture
def recipe(trained_run: Path, tmp_path: Path) -> Path:
    return copied(trained_run, tmp_path)


class Notes(Silent):
    """Keeps the lines for the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    warn = note


def asking(recipe: Path, device: str, **train: Any) -> Recipe:
    read = load_recipe(recipe)
    limits = dataclasses.replace(read.limits, device=device)
    return dataclasses.replace(read, limits=limits, train=dataclasses.replace(read.train, **train))


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_a_gpu_is_refused_before_any_work_where_there_is_none(recipe: Path) -> None:
    with pytest.raises(ResourceError, match=r'device = "gpu", and this llama\.cpp finds no GPU'):
        read_inputs(asking(recipe, "gpu"))
    assert training_device(asking(recipe, "auto"), make_config()) is None


@pytest.mark.parametrize(
    ("traits", "train", "reason"),
    [
        ({"norm": "layer"}, {}, "GPUs do not compute norm of llama"),
        ({}, {"precision": "bf16"}, 'GPUs train in float32, and .* precision = "bf16"'),
    ],
)
def test_a_training_that_gpus_lack_is_the_processors_and_says_so(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, traits: Any, train: Any, reason: str
) -> None:
    """The GPU is a description: no test machine has one."""
    monkeypatch.setattr(module, "gpu", lambda: CARD)
    config, notes = make_config(**traits), Notes()
    with pytest.raises(ResourceError, match=reason):
        training_device(asking(recipe, "gpu", **train), config)
    assert training_device(asking(recipe, "auto", **train), config) is None
    say(asking(recipe, "auto", **train), config, notes)
    assert notes.lines[0].startswith("training on the processor: GPUs")


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_a_gpu_that_can_is_taken_and_named(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(module, "gpu", lambda: CARD)
    notes = Notes()
    assert training_device(asking(recipe, asked), make_config()) == CARD
    assert training_device(asking(recipe, "cpu"), make_config()) is None
    say(asking(recipe, asked), make_config(), notes)
    assert notes.lines == ["training on Vulkan0, Some card"]


def test_an_adapter_of_a_device_is_another_training(recipe: Path) -> None:
    """Devices round in their own ways; without one, the identity is that of older runs."""
    inputs = read_inputs(load_recipe(recipe))
    job = expert_job(inputs, inputs.expert_names[0])
    marks = {dataclasses.replace(job, device=name).mark(inputs.base) for name in ("", "Vulkan0")}
    assert job.device == ""
    assert job.mark(inputs.base) in marks
    assert len(marks) == 2


def test_a_run_trains_on_a_device_and_goes_on_from_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ggml's processor stands for the GPU: the same graph, in this process."""
    processor = list_devices()[-1]
    inputs = read_inputs(load_recipe(recipe))
    name = inputs.expert_names[0]
    numpy = Tuning(inputs.base, inputs.recipe, Silent()).train(expert_job(inputs, name))
    monkeypatch.setattr(module, "gpu", lambda: processor)
    own = dataclasses.replace(inputs, recipe=asking(recipe, "gpu"))
    job = expert_job(own, name)
    assert job.device == "CPU"
    trained = Tuning(own.base, own.recipe, Silent()).train(job)
    assert not trained.resumed
    assert trained.loss_last == pytest.approx(numpy.loss_last, rel=1e-3)
    assert Tuning(own.base, own.recipe, Silent()).train(job).resumed
    monkeypatch.setattr(module, "gpu", lambda: None)
    left = dataclasses.replace(inputs, recipe=asking(recipe, "auto"))
    with pytest.raises(ResourceError, match="Vulkan0 was to train"):
        Tuning(left.base, left.recipe, Silent()).train(dataclasses.replace(job, device="Vulkan0"))
    assert open_reader(own).config == own.base.config


@pytest.mark.slow  # starts a process
def test_a_gpu_that_is_gone_ends_in_words(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's training has a process of its own, which finds none here."""
    monkeypatch.setattr(module, "gpu", lambda: CARD)
    inputs = read_inputs(asking(recipe, "gpu"))
    jobs = [expert_job(inputs, name) for name in inputs.expert_names]
    with pytest.raises(ResourceError, match="finds no GPU"):
        train_all(inputs, jobs, Silent())


@pytest.mark.slow  # starts a process
def test_after_a_gpu_that_failed_the_processor_goes_on(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of the training finds no GPU here; its adapters are those of the processor."""
    inputs = read_inputs(asking(recipe, "auto"))
    numpy = [expert_job(inputs, name) for name in inputs.expert_names]
    trained = [one.path for one in train_all(inputs, numpy, Silent())]
    before = [(path / "adapter_model.safetensors").read_bytes() for path in trained]
    monkeypatch.setattr(module, "gpu", lambda: CARD)
    notes = Notes()
    jobs = [expert_job(inputs, name) for name in inputs.expert_names]
    assert {job.device for job in jobs} == {"Vulkan0"}
    again = [one.path for one in train_all(inputs, jobs, notes)]
    assert [(path / "adapter_model.safetensors").read_bytes() for path in again] == before
    assert any("the processor trains all adapters of this run" in line for line in notes.lines)
    assert {expert_job(inputs, name).device for name in inputs.expert_names} == {""}


@pytest.mark.slow  # seven trainings
def test_a_training_without_a_dataset_begins_again_on_the_processor(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU fails after a dataset was left out: what came before is trained again, too."""
    pair = Mixture.uniform(["copy", "upper"])
    failing = False

    def trained(inputs: Inputs, jobs: Sequence[Job], progress: Silent) -> list[Trained]:
        if failing and any(job.device for job in jobs):
            raise DeviceError("the GPU is lost")
        tuning = Tuning(inputs.base, inputs.recipe, progress)
        return [tuning.train(job) for job in jobs]

    monkeypatch.setattr(ladder_module, "train_jobs", trained)
    adapters = []
    for name in ("cpu", "auto"):
        if name == "auto":  # ggml's processor stands for the GPU
            monkeypatch.setattr(module, "gpu", lambda: list_devices()[-1])
        own = asking(copied(recipe, tmp_path / name), name, schedule="anytime")
        inputs = read_inputs(own)
        experts = {each: inputs.files.adapters / each for each in inputs.expert_names}
        ladder = Ladder(TrainedRun(inputs, experts, Silent()))
        ladder.climb([pair], 3)
        ladder.drop(pair, 3, "upper")
        failing = name == "auto"
        ladder.climb([pair], 6)
        assert ladder.knows([pair], 6)
        adapters.append((ladder.adapter(pair, 6) / "adapter_model.safetensors").read_bytes())
        RunFolder(own.folder).lost_device.unlink(missing_ok=True)
        assert ladder.knows([pair], 6) == (name == "cpu"), "no scores of the GPU's adapter"
    assert adapters[0] == adapters[1]


def test_a_gpu_that_failed_stays_out_of_a_run_until_its_file_is_deleted(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "gpu", lambda: CARD)
    error, notes, auto = DeviceError("Vulkan0 is lost"), Notes(), asking(recipe, "auto")
    with pytest.raises(DeviceError, match="is lost"):
        give_up(asking(recipe, "gpu"), error, notes)
    assert training_device(auto, make_config()) == CARD
    give_up(auto, error, notes)
    assert training_device(auto, make_config()) is None
    say(auto, make_config(), notes)
    lost = auto.folder / "device.json"
    assert f"the GPU failed before: Vulkan0 is lost (see {lost})" in notes.lines[-1]
    assert training_device(asking(recipe, "gpu"), make_config()) == CARD
    lost.unlink()
    assert training_device(auto, make_config()) == CARD


def test_float16_weights_stay_narrow_on_vulkan_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []

    def opened(config: DecoderConfig, weights: Any, name: str, *, threads: int, kind: str) -> None:
        kinds.append((name, kind))

    weights = {"model.embed_tokens.weight": np.zeros(1, np.float16)}
    base: Any = SimpleNamespace(config=make_config(), compact_weights=weights)
    monkeypatch.setattr(module, "DeviceDecoder", opened)
    for name in ("Vulkan0", "CUDA0"):
        open_on(dataclasses.replace(CARD, name=name), base, 1)
    assert kinds == [("Vulkan0", "f16"), ("CUDA0", "f32")]
