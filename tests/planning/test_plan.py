"""`m2m plan`: what it foresees is what the run then does."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import DeviceError, InputError, Interrupted
from m2m.evaluate.evaluator import Evaluator
from m2m.ggml.devices import list_devices
from m2m.llamacpp.model import LlamaModel
from m2m.machine import peak_rss_bytes, resident_bytes
from m2m.mix.mixture import BASE
from m2m.mix.strategy import Cost
from m2m.pipeline import device, experts, workers
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.workers import divide
from m2m.planning import calibration
from m2m.planning import plan as plan_module
from m2m.planning.calibration import Aside, Rates, calibrate, count_tokens
from m2m.planning.cost import Work
from m2m.planning.plan import make_plan, plan_with
from m2m.progress import Silent
from m2m.recipe import Confirm, Quantize, Search, load_recipe
from m2m.results.training import passes_text
from m2m.tuner.saving import GIB
from tests.pipeline.scenario import copied, make_scenario
from tests.pipeline.test_until import Stopping

RATES = Rates(
    decoder=1.0,
    token=0.01,
    tokens={"copy": 100.0, "reverse": 200.0, "upper": 300.0},
    pause=0.5,
    surrogate=2.0,
    load_one=1.0,
    load_all=3.0,
    scored=0.001,
    judged=0.1,
    training_bytes=1 << 20,
    scoring_bytes=2 << 20,
    adapter_bytes=1000,
)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return read_inputs(load_recipe(make_scenario(tmp_path)))


def test_a_finished_run_trains_and_scores_nothing(finished_run: Path, tmp_path: Path) -> None:
    done = read_inputs(load_recipe(copied(finished_run, tmp_path)))
    confirmed = json.loads((done.recipe.folder / "confirm.json").read_text(encoding="utf-8"))
    stages = {stage.name: stage for stage in plan_with(done, RATES).stages}
    count = len(confirmed["confirmed"])
    assert stages["confirm"].what == f"kept: {count} models with scores"
    assert stages["confirm"].seconds < RATES.surrogate + 2.0
    other = with_recipe(done, train=dataclasses.replace(done.recipe.train, seed=7))
    assert not plan_with(other, RATES).stages[2].what.startswith("kept")


def test_very_many_passes_are_doubted(inputs: Inputs) -> None:
    assert [passes_text(passes) for passes in (2.934, 20.0, 24.21)] == [
        "2.93",
        "20",
        "24.2 (too many?)",
    ]
    many = with_recipe(inputs, train=dataclasses.replace(inputs.recipe.train, steps=2000))
    assert plan_with(many, RATES).stages[0].what.endswith("(too many?)")


def with_recipe(inputs: Inputs, **sections: object) -> Inputs:
    return dataclasses.replace(inputs, recipe=dataclasses.replace(inputs.recipe, **sections))


def test_the_arithmetic_of_each_step(inputs: Inputs) -> None:
    train, search, confirm, export = plan_with(inputs, RATES).stages
    # 12 steps of 1, 2 and 3 seconds, each with 4 checkpoints, and the base read once.
    assert train.seconds == pytest.approx(12 * 6 + 3 * 4 * 0.5 + 1)
    dev, test = (
        0.001 * sum(sum(count_tokens(task, inputs.formatter)) for task in tasks.values())
        for tasks in (inputs.dev, inputs.test)
    )
    loads = 1.0 + 3 * 1.0 + 3 * 2.0 + 3.0
    # Seven mixtures and the base, all whole, so each is looked at twice.
    assert search.seconds == pytest.approx(2 + loads + 8 * dev + 15 * 0.1)
    # Two from the top, of which 3 in 7 are single and so trained already, and all datasets.
    tuned = 12 * 2.0 + 4 * 0.5
    models = 2 + 2 + 1 + (4 / 7) ** 2  # the best single may be one of the two
    scored = models * (dev + test + 1.0 + 0.2)
    assert confirm.seconds == pytest.approx((2 * 4 / 7 + 1) * tuned + 1 + 2 + scored)
    assert export.seconds == pytest.approx(3.0)
    assert [step.peak_rss_bytes for step in (train, search)] == [1 << 20, 2 << 20]


def test_an_expert_that_was_stopped_needs_the_rest_of_its_steps(inputs: Inputs) -> None:
    with pytest.raises(Interrupted, match="stopped copy after step 7 of 12"):
        Run(inputs.recipe, Stopping(7)).train()
    train = plan_with(inputs, RATES).stages[0]
    assert train.seconds == pytest.approx(12 * 6 - 7 * 1 + (2 + 4 + 4) * 0.5 + 1)


def test_settings_change_what_is_planned(inputs: Inputs) -> None:
    plain = plan_with(inputs, RATES)
    small = with_recipe(inputs, search=Search(max_datasets=1))
    few = plan_with(small, RATES)
    assert (few.strategy, few.candidates) == ("racing", 3)
    assert few.stages[1].seconds < plain.stages[1].seconds
    longer = with_recipe(inputs, confirm=Confirm(budget="proportional"))
    assert plan_with(longer, RATES).stages[2].seconds > plain.stages[2].seconds + 12 * 2
    auto = with_recipe(inputs, quantize=Quantize(type="auto"))
    assert plan_with(auto, RATES).fits
    slow = dataclasses.replace(RATES, token=0.02)
    assert plan_with(inputs, slow).total_seconds > 1.5 * plain.total_seconds


def test_a_race_is_planned_with_its_blocks_and_within_its_budget(inputs: Inputs) -> None:
    race = with_recipe(inputs, search=Search())
    planned = plan_with(race, RATES)
    # Three experts in full; four mixtures on 6 of 16 examples, and most likely three on the rest.
    shared, own = (0.001 * each for each in count_tokens(inputs.dev["copying"], inputs.formatter))
    size = (3 * 1 + 3 * 2 + 3) / 7
    blocks = 10 * (RATES.load(size, 3) + shared) + (3 + 4 * 6 / 16 + 3 * 10 / 16) * own
    assert planned.stages[1].seconds == pytest.approx(
        2 + 1 + shared + own + blocks + (7 + 6.375 + 1) * 0.1
    )
    assert planned.stages[1].what == "racing: 7 mixtures, about 6 evaluations of dev"
    simplex = with_recipe(inputs, search=Search(weights="simplex"))
    short = with_recipe(inputs, search=Search(weights="simplex", budget=60))
    assert plan_with(simplex, RATES).strategy == "guided"
    taken = [Work(each, RATES).strategy.cost().evaluations for each in (simplex, short)]
    assert taken == pytest.approx([150, 60], rel=0.1)
    gguf = with_recipe(inputs, quantize=Quantize(export="q4_0"))
    finalists = (
        plan_with(gguf, RATES).stages[1].seconds - plan_with(inputs, RATES).stages[1].seconds
    )
    assert finalists == pytest.approx(2 + 2 * (RATES.load(size, 3) + shared + own))


def test_constraints_are_planned_for(inputs: Inputs) -> None:
    search = Search(strategy="exhaustive", excluded=("reverse",))
    plan = plan_with(with_recipe(inputs, search=search), RATES)
    assert plan.candidates == 3
    assert plan.stages[0].what == "2 adapters of 12 steps, passes over their rows: 4.81"
    required = Search(strategy="exhaustive", required=("copy",), max_datasets=2)
    assert plan_with(with_recipe(inputs, search=required), RATES).candidates == 3
    none = Search(required=("copy", "upper"), max_datasets=1)
    with pytest.raises(InputError, match="allows no mixture"):
        make_plan(with_recipe(inputs, search=none), Silent())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["exhaustive", pytest.param("racing", marks=pytest.mark.slow)])
def test_what_is_scored_already_is_not_planned_again(inputs: Inputs, strategy: str) -> None:
    inputs = with_recipe(inputs, search=Search(strategy=strategy))
    fresh = calibrate(inputs, Silent())
    assert fresh.known == {}
    Run(inputs.recipe, Silent()).search()
    rates = calibrate(inputs, Silent())
    assert rates.known[BASE] == Cost(1.0, 1.0, 1.0)
    assert len(rates.known) == 8
    work = Work(inputs, dataclasses.replace(RATES, known=rates.known))
    left = work.strategy.cost().less(work.done())
    assert left.evaluations < 0.2
    if strategy == "exhaustive":
        # What is left is to quantise the base and to look at what the journal has.
        assert work.search().seconds == pytest.approx(2 + 15 * 0.1)
    other = with_recipe(inputs, merge=dataclasses.replace(inputs.recipe.merge, scale=0.9))
    assert calibrate(other, Silent()).known.keys() <= {BASE}


@pytest.mark.slow
def test_a_device_is_calibrated_and_named(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """ggml's processor stands for the GPU."""
    monkeypatch.setattr(device, "gpu", lambda: list_devices()[-1])
    limits = dataclasses.replace(inputs.recipe.limits, device="gpu")
    notes: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "note", notes.append)
    rates = calibrate(with_recipe(inputs, limits=limits), progress)
    assert rates.step() > 0
    assert notes[0].startswith("training on CPU")
    assert re.fullmatch(r"training takes [\d.]+ GiB of CPU: [\d.]+ for .* for a batch", notes[1])


@pytest.mark.slow
def test_a_gpu_that_fails_leaves_the_calibration_to_the_processor(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise DeviceError("the GPU is lost")

    monkeypatch.setattr(device, "gpu", lambda: list_devices()[-1])
    monkeypatch.setattr(experts, "open_on", refused)
    limits = dataclasses.replace(inputs.recipe.limits, device="auto")
    assert calibrate(with_recipe(inputs, limits=limits), Silent()).step() > 0
    inputs.files.lost_device.unlink()


def test_what_does_not_fit_names_what_to_change(inputs: Inputs) -> None:
    late = plan_with(inputs, RATES, hours=0.01)
    assert not late.fits
    assert "[train] steps" in late.advice[0]
    big = plan_with(inputs, dataclasses.replace(RATES, training_bytes=1 << 50))
    assert "[limits] memory" in big.advice[0]
    full = plan_with(inputs, dataclasses.replace(RATES, adapter_bytes=1 << 55))
    assert full.advice[0].startswith("disk")
    assert plan_with(inputs, RATES, hours=10).fits


@pytest.mark.parametrize(("gain", "said"), [(2.0, "1.4 times"), (1.1, ""), (0.0, "")])
def test_a_faster_precision_is_told_of_where_training_takes_long(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, gain: float, said: str
) -> None:
    monkeypatch.setattr(plan_module, "bf16_gain", lambda: gain)
    slow = dataclasses.replace(RATES, token=RATES.token * 1e4)
    found = plan_with(inputs, slow)
    assert found.fits
    assert len(found.advice) == bool(said)
    assert all(said in each for each in found.advice)
    assert not plan_with(inputs, dataclasses.replace(RATES, token=0.0)).advice
    train = dataclasses.replace(inputs.recipe.train, precision="bf16")
    assert not plan_with(with_recipe(inputs, train=train), slow).advice


def test_workers_are_planned_and_told_of_where_they_would_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "bf16_gain", lambda: 0.0)
    inputs = read_inputs(load_recipe(make_scenario(tmp_path, "first")))
    slow = dataclasses.replace(RATES, token=1.0, tokens={**RATES.tokens, "first": 100.0})
    limits = dataclasses.replace(inputs.recipe.limits, threads=8)
    alone = with_recipe(inputs, limits=limits)
    found = plan_with(alone, slow)
    assert ["workers = 2" in each for each in found.advice] == [True]
    assert not plan_with(alone, dataclasses.replace(slow, token=0.0)).advice
    large = dataclasses.replace(slow, training_bytes=int(0.6 * plan_module.free_memory_bytes()))
    assert not plan_with(alone, large).advice
    little = with_recipe(inputs, limits=dataclasses.replace(limits, memory=1.5 / 1024))
    assert not plan_with(little, slow).advice

    two = with_recipe(inputs, limits=dataclasses.replace(limits, workers=2))
    alone_seconds = found.stages[0].seconds
    for at_once, slower, least, most in ((2, 1.0, 0.8, 1.0), (2, 1.3, 1.1, 1.2), (1, 1.0, 1.6, 2)):
        rates = dataclasses.replace(slow, aside=Aside(2, at_once, slower, 5 << 20))
        both = plan_with(two, rates)
        assert both.stages[0].what.endswith(f"{at_once} at a time")
        assert both.stages[0].peak_rss_bytes == 5 << 20
        assert least < both.stages[0].seconds / alone_seconds < most
        assert ["[limits] workers = 1" in each for each in both.advice] == [True] * (most > 1)


@pytest.mark.slow
def test_workers_are_calibrated_with_their_part_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = read_inputs(load_recipe(make_scenario(tmp_path, "first")))
    limits = dataclasses.replace(inputs.recipe.limits, threads=2, workers=2)
    assert calibrate(inputs, Silent()).aside is None
    two = with_recipe(inputs, limits=limits)
    # As if workers held as much from the beginning as this process does.
    monkeypatch.setattr(workers, "_FRESH", resident_bytes())
    own = divide(two, 2, 4)
    for room, at_once in ((3.0, 2), (1.4, 1)):
        gib = room * own.saving.bytes / GIB
        found = calibrate(
            with_recipe(inputs, limits=dataclasses.replace(limits, memory=gib)), Silent()
        ).aside
        assert found is not None
        assert (found.count, found.at_once, found.slower) == (2, at_once, 1.0)
        assert found.bytes <= gib * GIB
    saving = dataclasses.replace(own.saving, recompute=1)
    monkeypatch.setattr(calibration, "divide", lambda *_: dataclasses.replace(own, saving=saving))
    found = calibrate(two, Silent()).aside
    assert found is not None
    assert found.slower not in (0.0, 1.0)  # measured


def test_a_training_beyond_its_limit_is_told(inputs: Inputs) -> None:
    limits = dataclasses.replace(inputs.recipe.limits, memory=0.1)
    found = make_plan(with_recipe(inputs, limits=limits), Silent())
    assert not found.fits
    assert "training needs" in found.advice[0]


def test_scored_tokens_are_counted_as_the_scorer_decodes_them(inputs: Inputs) -> None:
    task = inputs.dev["copying"]
    with LlamaModel(inputs.base.gguf.path, threads=1) as model:
        decoded = Evaluator(task, inputs.formatter).evaluate(model).decoded_tokens
    assert sum(count_tokens(task, inputs.formatter)) == pytest.approx(decoded, rel=0.05)


@pytest.mark.slow  # a real run
def test_the_plan_comes_near_the_run(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CPU seconds, which other programs hardly change; a pico run is mostly small change."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    plan = make_plan(inputs, Silent())
    assert [path.name for path in inputs.recipe.folder.iterdir()] == ["leaks.json"]
    run = Run(inputs.recipe, Silent())
    taken = sum(step.seconds for step in run.run().stages)
    assert 0.5 < plan.total_seconds / taken < 2
    assert max(step.peak_rss_bytes for step in plan.stages) < peak_rss_bytes() + GIB
    written = sum(f.stat().st_size for f in run.folder.rglob("*") if f.is_file())
    assert 0.5 * written < sum(step.disk_bytes for step in plan.stages) < 5 * written
    again = make_plan(inputs, Silent())
    assert again.stages[0].seconds == 0
    assert again.stages[0].what.startswith("0 adapters")


def test_rates_are_measured(inputs: Inputs) -> None:
    rates = calibrate(inputs, Silent())
    assert set(rates.tokens) == set(inputs.corpora)
    assert all(0 < tokens <= inputs.recipe.train.batch_tokens for tokens in rates.tokens.values())
    assert min(rates.token, rates.surrogate, rates.load_one, rates.scored) > 0
    assert rates.load(2, 3) == pytest.approx((rates.load_one + rates.load_all) / 2)


def test_the_command_prints_the_fields_and_exits_by_what_fits(tmp_path: Path) -> None:
    recipe = str(make_scenario(tmp_path))
    found = CliRunner().invoke(cli, ["plan", recipe, "--json", "--quiet"])
    assert found.exit_code == 0
    printed = json.loads(found.stdout)
    assert printed["fits"]
    assert printed["strategy"] == "exhaustive"
    assert {"name", "seconds", "peak_rss_bytes", "disk_bytes"} <= printed["steps"][0].keys()
    assert printed["total_seconds"] == pytest.approx(
        sum(step["seconds"] for step in printed["steps"]), abs=0.3
    )
    late = CliRunner().invoke(cli, ["plan", recipe, "--hours", "0.000001"])
    assert late.exit_code == 1
    assert "time:" in late.stderr
