from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.eval import Reading, compare_models
from m2m.errors import InputError, Interrupted
from m2m.formats.journal import Journal
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Target, load_recipe
from tests.pipeline.scenario import copied, make_scenario
from tests.tiers import sampled
from tests.tiny import StopAfter


def evaluated(model: Path, task: Path) -> dict[str, Any]:
    """What `m2m eval` says of a model."""
    return compare_models([str(model)], [task], Target("t", task)).results[0].as_json()


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run is complete."""
    return copied(finished_run, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def recipe(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished scenario, free to be changed."""
    return copied(finished, tmp_path)


def trials(recipe: Path) -> list[dict[str, Any]]:
    return Journal(load_recipe(recipe).folder / "study.jsonl").replay()


def outcome(recipe: Path) -> dict[str, Any]:
    """Everything that a run found, without times and places."""
    run = Run(load_recipe(recipe), Silent())
    searched = run.search().as_json()
    del searched["seconds"]
    confirmed = [{**c.as_json(), "adapter": None} for c in run.confirm().models]
    gguf = run.export().gguf.read_bytes()
    adapters = [(a.path / "adapter_model.safetensors").read_bytes() for a in run.train()]
    return {"searched": searched, "confirmed": confirmed, "gguf": gguf, "adapters": adapters}


@pytest.mark.slow
def test_eval_scores_the_base_as_the_run_does(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same questions to the same model have the same scores, whichever command asks."""
    monkeypatch.chdir(finished.parent)
    base = Run(load_recipe(finished), Silent()).confirm().models[0].as_json()
    test = finished.parent / "test.jsonl"
    auto = Reading(type="auto")
    found = compare_models(["pico"], [test], Target("t", test), reading=auto).results[0]
    assert found.type == "q8_0"
    scores = found.as_json()["metrics"]
    assert scores.items() >= base["test"].items()
    stored = compare_models(["pico"], [test], Target("t", test)).results[0]
    assert stored.type == "f16"
    assert stored.as_json()["metrics"]["choice_bits"] != base["test"]["choice_bits"]


def test_the_run_ranks_all_mixtures_confirms_and_exports(finished: Path) -> None:
    run = Run(load_recipe(finished), Silent())
    searched, confirmation, exported = run.search(), run.confirm(), run.export()
    assert searched.candidates == len(searched.places) == 7
    assert [each.rank for each in searched.places] == list(range(1, 8))
    assert searched.places[0].tied_with_best
    assert set(searched.worth) == {"copy", "reverse", "upper"}
    hows = [each.how for each in confirmation.models]
    assert hows[:2] == ["base", "merged"]
    assert set(hows[2:]) == {"finetuned"}
    assert confirmation.winner in confirmation.models
    written = json.loads((run.folder / "ranking.json").read_text(encoding="utf-8"))
    del written["made_from"]
    assert written == json.loads(json.dumps(searched.as_json()))
    assert exported.gguf.is_file()
    assert exported.modelfile.read_text(encoding="utf-8").startswith(f"FROM ./{exported.gguf.name}")


def test_the_exported_file_scores_as_the_confirmed_winner(finished: Path) -> None:
    run = Run(load_recipe(finished), Silent())
    winner = run.confirm().winner
    found = evaluated(run.export().gguf, finished.parent / "test.jsonl")
    for name, measured in winner.test.items():
        assert found["metrics"][name]["value"] == pytest.approx(measured.value, abs=1e-6)


def test_a_finished_run_does_nothing_again(recipe: Path) -> None:
    before = len(trials(recipe))
    stamps = {p: p.stat().st_mtime_ns for p in recipe.parent.rglob("adapter_model.safetensors")}
    Run(load_recipe(recipe), Silent()).run()
    assert len(trials(recipe)) == before
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}


def test_a_changed_dataset_is_trained_again_and_only_its_mixtures_are_scored(recipe: Path) -> None:
    before = trials(recipe)
    upper = recipe.parent / "upper.jsonl"
    upper.write_text(upper.read_text(encoding="utf-8").replace("upper", "Upper"), encoding="utf-8")
    Run(load_recipe(recipe), Silent()).search()
    added = trials(recipe)[len(before) :]
    assert len(added) == 4
    assert all("upper" in line["mixture"]["datasets"] for line in added)


def test_removing_a_dataset_costs_nothing(recipe: Path) -> None:
    before = trials(recipe)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(
        text.replace('[[datasets]]\nname = "upper"\npath = "upper.jsonl"\n', ""), "utf-8"
    )
    searched = Run(load_recipe(recipe), Silent()).search()
    assert len(searched.places) == 3
    assert trials(recipe) == before


@pytest.mark.parametrize(
    ("before", "after", "rescored"),
    sampled(
        [
            ('dev = "dev.jsonl"\ntest = "test.jsonl"', 'dev = "test.jsonl"', 8),
            ("[confirm]", '[quantize]\ntype = "f16"\n[confirm]', 8),
            ("[confirm]", "[merge]\nscale = 0.5\n[confirm]", 8),
            ("[confirm]", '[merge]\nmethod = "dare_ties"\n[confirm]', 8),
            ("[confirm]", "[merge]\nseed = 1\n[confirm]", 8),
            ('model = "pico"', 'model = "pico"\ntemplate = "plain"', 8),
            ("top = 2", "top = 1", 0),
        ],
        every=3,
    ),
)
def test_a_changed_setting_is_never_answered_from_old_lines(
    recipe: Path, before: str, after: str, rescored: int
) -> None:
    old = trials(recipe)
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    Run(load_recipe(recipe), Silent()).search()
    assert len(trials(recipe)) - len(old) == rescored


@pytest.mark.slow
def test_the_merge_options_change_no_fine_tune(recipe: Path) -> None:
    before = Run(load_recipe(recipe), Silent()).confirm().models
    options = '[merge]\nmethod = "ties"\nscale = 0.5\n[confirm]'
    text = recipe.read_text(encoding="utf-8").replace("[confirm]", options)
    recipe.write_text(text, encoding="utf-8")
    run = Run(load_recipe(recipe), Silent())
    known = {each.mixture: each.test for each in before if each.how == "finetuned"}
    again = [each for each in run.confirm().models if each.how == "finetuned"]
    assert any(each.mixture in known for each in again)
    assert all(each.test == known.get(each.mixture, each.test) for each in again)
    found = evaluated(run.export().gguf, recipe.parent / "test.jsonl")
    for name, measured in run.confirm().winner.test.items():
        assert found["metrics"][name]["value"] == pytest.approx(measured.value, abs=1e-6)


@pytest.mark.slow
def test_stops_anywhere_lead_to_the_same_result(finished: Path, tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path / "stopped")
    stops = 0
    while True:
        try:
            Run(load_recipe(recipe), StopAfter(9)).run()
            break
        except Interrupted:
            stops += 1
    assert stops >= 4
    assert len(trials(recipe)) == len(trials(finished))
    assert outcome(recipe) == outcome(finished)


@pytest.mark.slow
def test_kills_anywhere_lead_to_the_same_result(finished: Path, tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path / "killed")
    chance = random.Random(0)
    command = [sys.executable, "-m", "m2m", "run", str(recipe), "--json"]
    for _ in range(12):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ}
        ) as process:
            time.sleep(chance.uniform(0.5, 2.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["winner"]["how"] == "finetuned"
    keys = [line["key"] for line in trials(recipe)]
    assert len(keys) == len(set(keys)) == 8
    assert outcome(recipe) == outcome(finished)


def test_all_that_is_wrong_with_the_inputs_is_told_at_once(recipe: Path) -> None:
    folder = recipe.parent
    (folder / "copy.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-8")
    (folder / "dev.jsonl").write_text('{"question": "a", "choices": ["b"]}\n', encoding="utf-8")
    text = recipe.read_text(encoding="utf-8").replace('model = "pico"', 'model = "other"')
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Run(load_recipe(recipe), Silent())
    for part in ("'other'", "copy.jsonl", "dev.jsonl", "line 1"):
        assert part in caught.value.message
