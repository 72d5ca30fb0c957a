"""Adapters that processes train side by side are those that one process trains in turn."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel
from m2m.errors import Interrupted, ResourceError, TrainingError
from m2m.machine import resident_bytes
from m2m.mix.mixture import Mixture
from m2m.pipeline import workers
from m2m.pipeline.experts import expert_job
from m2m.pipeline.finetunes import FineTuner
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.trained_run import TrainedRun
from m2m.pipeline.workers import peak_together, train_all
from m2m.progress import Silent
from m2m.recipe import Recipe, changed, load_recipe
from m2m.results.training import Trained
from m2m.tuner.saving import GIB, Saving
from tests.pipeline.scenario import make_scenario

NAMES = ("copy", "reverse", "upper", "first")
STEPS = 24


class Watch(Silent):
    """Remembers what was shown, and does something when a step is told."""

    def __init__(self, stop_at: int = 0, kill_at: int = 0) -> None:
        self.titles: list[str] = []
        self.moves: list[tuple[float, str]] = []
        self._stop_at, self._kill_at = stop_at, kill_at

    def start(self, title: str, total: float, unit: str) -> None:
        self.titles.append(f"{title}: {total:g} {unit}")

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        self.moves.append((amount, detail))
        if len(self.moves) == self._kill_at:
            multiprocessing.active_children()[0].kill()

    def stop_requested(self) -> bool:
        return 0 < self._stop_at <= len(self.moves)


def scenario(folder: Path) -> Recipe:
    path = make_scenario(folder, "first")
    text = path.read_text(encoding="utf-8")
    text = text.replace("threads = 1", "threads = 2\nworkers = 2").replace(
        "steps = 12", f"steps = {STEPS}"
    )
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return scenario(tmp_path / "study")


def experts(recipe: Recipe, progress: Silent | None = None) -> dict[str, Trained]:
    inputs = read_inputs(recipe)
    jobs = [expert_job(inputs, name) for name in NAMES]
    return {each.dataset: each for each in train_all(inputs, jobs, progress or Silent())}


def adapters(recipe: Recipe) -> dict[str, bytes]:
    found = sorted((recipe.folder / "adapters").rglob("adapter_model.safetensors"))
    return {path.parent.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes, with as many threads for an adapter."""
    limits = {"limits": {"threads": 1, "workers": 1}}
    alone = changed(scenario(tmp_path_factory.mktemp("alone")), limits)
    experts(alone)
    return adapters(alone)


def test_they_are_the_same_and_are_shown_in_one_bar(
    recipe: Recipe, expected: dict[str, bytes]
) -> None:
    watch = Watch()
    found = experts(recipe, watch)
    assert adapters(recipe) == expected
    assert tuple(found) == NAMES
    assert not any(each.resumed for each in found.values())
    assert watch.titles == [f"training 4 adapters, 2 at a time: {4 * STEPS} steps"]
    assert sum(amount for amount, _ in watch.moves) == 4 * STEPS
    told = [detail.split(":")[0] for _, detail in watch.moves]
    assert {*told} == {*NAMES}
    assert len({*told[: 2 * STEPS]}) > 1  # not one after the other
    watch = Watch()
    assert all(each.resumed for each in experts(recipe, watch).values())
    assert (watch.titles, watch.moves) == ([], [])


@pytest.mark.slow
def test_all_stop_when_asked_and_go_on_bit_for_bit(
    recipe: Recipe, expected: dict[str, bytes]
) -> None:
    with pytest.raises(Interrupted) as caught:
        experts(recipe, Watch(stop_at=20))
    assert caught.value.message.count("its state is saved") == 2
    assert len([*(recipe.folder / "adapters").glob("*.checkpoint.safetensors")]) == 2
    assert not multiprocessing.active_children()
    again = experts(recipe)
    assert sum(each.resumed for each in again.values()) == 2
    assert adapters(recipe) == expected


def test_workers_that_a_signal_to_the_group_ends_at_their_start_are_no_failure(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Silent):
        def stop_requested(self) -> bool:
            return True

    monkeypatch.setattr(workers, "_work", print)  # ends at once, without a word
    with pytest.raises(Interrupted, match="stopped before copy was trained"):
        experts(recipe, Stopping())


@pytest.mark.slow
def test_a_killed_process_is_told_of_and_nothing_is_lost(
    recipe: Recipe, expected: dict[str, bytes]
) -> None:
    with pytest.raises(TrainingError, match="ended by itself, with code") as caught:
        experts(recipe, Watch(kill_at=30))
    assert "smaller workers" in (caught.value.hint or "")
    assert [*(recipe.folder / "adapters").glob("*.checkpoint.safetensors")]
    experts(recipe)
    assert adapters(recipe) == expected


@pytest.mark.slow
def test_what_goes_wrong_in_one_ends_all_with_its_own_words(recipe: Recipe) -> None:
    wild = changed(recipe, {"train": {"learning_rate": 1e30}})
    with pytest.raises(TrainingError, match="diverged at step") as caught:
        experts(wild)
    assert caught.value.hint
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_worker_whose_parent_is_gone_saves_and_ends(recipe: Recipe) -> None:
    inputs = read_inputs(changed(recipe, {"train": {"steps": 100_000}}))
    job = expert_job(inputs, "copy")
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    arguments = (inputs.base.path, inputs.recipe, {}, theirs)
    process = context.Process(target=workers._work, args=arguments)
    process.start()
    theirs.close()
    ours.send(job)
    assert isinstance(ours.recv(), workers._Advance)
    if os.name == "posix":
        for each in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid or 0, each)  # as a whole group gets them
        time.sleep(0.1)
        assert process.is_alive()
    ours.close()
    process.join(60)
    assert process.exitcode == 0
    assert [*(recipe.folder / "adapters").glob("copy.checkpoint.safetensors")]


@pytest.mark.parametrize(
    ("asked", "threads", "jobs", "count"),
    [(1, 8, 8, 1), (2, 8, 8, 2), (2, 8, 3, 1), (4, 8, 8, 4), (4, 2, 8, 2), (4, 1, 8, 1)],
)
def test_how_many_there_are(
    recipe: Recipe, asked: int, threads: int, jobs: int, count: int
) -> None:
    limits = {"workers": asked, "threads": threads}
    assert workers.workers(changed(recipe, {"limits": limits}), jobs) == count


@pytest.mark.parametrize(("gib", "at_once"), [(9.0, 3), (2.5, 2), (1.4, 1)])
def test_memory_lets_fewer_run_at_once_with_the_same_threads(
    recipe: Recipe, gib: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(base: object, shared: Recipe, held: int) -> Saving:
        assert held
        if float(shared.limits.memory) < 1.0:
            raise ResourceError("too little")
        return Saving(recompute=0, half=False, bytes=1)

    monkeypatch.setattr(workers, "choose", choose)
    inputs = read_inputs(changed(recipe, {"limits": {"memory": gib, "threads": 6, "workers": 3}}))
    found = workers.divide(inputs, 3, 8)
    shared = found.recipe
    assert found.at_once == at_once
    assert (shared.limits.threads, shared.limits.workers) == (2, 1)
    assert shared.limits.memory == pytest.approx(gib / at_once)
    with pytest.raises(ResourceError, match="too little"):
        workers.divide(_with(inputs, 0.9), 3, 8)


def _with(inputs: Inputs, gib: float) -> Inputs:
    recipe = changed(inputs.recipe, {"limits": {"memory": gib}})
    return dataclasses.replace(inputs, recipe=recipe)


@pytest.mark.slow
def test_what_this_process_has_come_to_hold_is_not_a_workers(recipe: Recipe) -> None:
    inputs = read_inputs(changed(recipe, {"limits": {"threads": 2, "workers": 2}}))
    one = workers.divide(inputs, 2, 4).saving.bytes
    inputs = _with(inputs, 2.2 * one / GIB)
    grown = np.ones(3 * one, np.uint8)
    assert resident_bytes() > 3 * one
    assert workers.divide(inputs, 2, 4).at_once == 2
    assert grown.all()


@pytest.mark.slow
def test_fine_tunes_of_many_mixtures_go_side_by_side_too(recipe: Recipe, tmp_path: Path) -> None:
    inputs = read_inputs(recipe)
    pairs = [Mixture.uniform(["copy", name]) for name in NAMES[1:]]
    pairs.append(Mixture.uniform(["reverse", "upper"]))
    found: dict[int, list[bytes]] = {}
    for count in (2, 1):
        limits = dataclasses.replace(inputs.recipe.limits, workers=count, threads=count)
        place = tmp_path / str(count) / "recipe.toml"
        own = dataclasses.replace(inputs.recipe, limits=limits, path=place)
        watch = Watch()
        run = TrainedRun(dataclasses.replace(inputs, recipe=own), {}, watch)
        paths = FineTuner(run).adapters(pairs)
        assert [*paths] == pairs
        assert len(watch.titles) == (1 if count == 2 else 4)
        found[count] = [
            (path / "adapter_model.safetensors").read_bytes() for path in paths.values()
        ]
    assert found[1] == found[2]


@pytest.mark.slow
def test_the_step_of_a_run_takes_the_memory_of_all(recipe: Recipe) -> None:
    run = Run(recipe, Silent())
    trained = run.train()
    peaks = sorted(each.peak_rss_bytes for each in trained)
    assert peak_together(trained, 2) == sum(peaks[2:])
    assert run._stages[0].peak_rss_bytes >= sum(peaks[2:])
    assert peak_together(Run(recipe, Silent()).train(), 2) == 0


def _fresh(line: object, folder: Path) -> None:
    BaseModel.open(folder)
    job = line.recv()  # type: ignore[attr-defined]
    assert job
    line.send(resident_bytes())  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="where the system says what is held")
def test_what_a_worker_is_expected_to_hold_it_holds(recipe: Recipe) -> None:
    inputs = read_inputs(recipe)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_fresh, args=(theirs, inputs.base.path))
    process.start()
    ours.send(expert_job(inputs, "copy"))
    held = ours.recv()
    process.join()
    # This one has imported pytest too.
    assert 0.3 * held < workers._held_by_one(inputs) < held
