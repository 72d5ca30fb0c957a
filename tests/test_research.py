"""The campaign of fine-tunes can be killed anywhere, and its committed results hold together."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from tests.pipeline.scenario import make_scenario
from tests.tiny import dataset_rows, write_jsonl

RESEARCH = Path(__file__).parent.parent / "scripts" / "research"
PLANS = sorted((RESEARCH / "scenarios").glob("*/plan.toml"))
RESULTS = sorted((RESEARCH / "results").glob("*/*.json"))
PLAN = """\
[[finetunes]]
steps = 6
score_at = [2, 4]
mixtures = ["copy+upper"]

[[finetunes]]
steps = 3
score_at = []
seed = 1
mixtures = ["all"]
"""
MERGES = """\
[[finetunes]]
steps = 12
score_at = []
mixtures = ["copy", "reverse", "upper"]

[merges]
growth = [0.5]
"""


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


EVIDENCE = """\
[[finetunes]]
steps = 12
score_at = []
mixtures = ["copy", "reverse", "upper"]

[[finetunes]]
steps = 24
score_at = [12]
mixtures = ["copy", "reverse", "upper", "copy+reverse", "copy+upper", "reverse+upper", "all"]

[merges]
growth = [0.0, 0.5]
"""


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios")
    make_scenario(folder / "pico")
    (folder / "pico/plan.toml").write_text(PLAN, encoding="utf-8")
    (folder / "pico/SHA256SUMS").write_text("", encoding="utf-8")
    return folder


@pytest.fixture
def campaign(scenarios: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(RESEARCH)
    module = load(RESEARCH / "campaign.py")
    monkeypatch.setattr(module, "SCENARIOS", scenarios)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def arrays(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


def dies_at(campaign: ModuleType, name: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a function of the campaign raise when it is called for the `call`-th time."""
    module = campaign if hasattr(campaign, name) else sys.modules["training"]
    real, calls = getattr(module, name), iter(range(1000))

    def once(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, once)


@pytest.mark.slow
def test_a_killed_campaign_ends_with_the_same_scores(
    campaign: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.Campaign("pico", tmp_path / "whole").run()
    whole = arrays(tmp_path / "results/pico")
    names = ["all-3-seed1.npz", "base.npz", "copy+upper-6.npz", "questions.npz"]
    assert [*whole] == names
    assert {"2.dev.loglik", "4.test.loglik", "6.dev.loglik"} <= whole["copy+upper-6.npz"].keys()
    training = [("save_adapter", 0), ("save_adapter", 1), ("open_decoder", 2), ("made", 1)]
    for name, call in [*training, ("open_judge", 2), ("write_arrays", 2), ("write_json", 1)]:
        folder = tmp_path / f"{name}-{call}"
        with monkeypatch.context() as patch:
            patch.setattr(campaign, "RESULTS", folder / "results")
            with patch.context() as killed:
                dies_at(campaign, name, call, killed)
                with pytest.raises(KeyboardInterrupt):
                    campaign.Campaign("pico", folder / "work").run()
            for rates in folder.rglob("*.rates.jsonl"):
                rates.unlink()  # a process that is killed writes none
            left = campaign.Campaign("pico", folder / "work")
            assert len(left.left()) == 2
            left.run()
            assert not left.left()
        for stem, found in arrays(folder / "results/pico").items():
            for key, array in found.items():
                np.testing.assert_array_equal(array, whole[stem][key], f"{name} {call} {key}")


@pytest.mark.slow
def test_a_training_that_is_stopped_to_be_scored_ends_as_one_that_is_not(
    campaign: ModuleType, scenarios: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.Campaign("pico", tmp_path / "stopped").run()
    stopped = arrays(tmp_path / "results/pico")["copy+upper-6.npz"]
    monkeypatch.setattr(campaign, "RESULTS", tmp_path / "straight")
    straight = campaign.Campaign("pico", tmp_path / "work")
    plan = [campaign.dataclasses.replace(straight.plan[0], score_at=())]
    monkeypatch.setattr(straight, "plan", plan)
    straight.run()
    (found,) = (a for n, a in arrays(tmp_path / "straight/pico").items() if n.startswith("copy"))
    np.testing.assert_array_equal(found["6.test.loglik"], stopped["6.test.loglik"])
    assert not np.array_equal(stopped["2.test.loglik"], stopped["6.test.loglik"])


@pytest.mark.slow
def test_merges_of_the_experts_are_scored(
    campaign: ModuleType, scenarios: Path, tmp_path: Path
) -> None:
    plan = scenarios / "pico/plan.toml"
    plan.write_text(MERGES, encoding="utf-8")
    try:
        campaign.Campaign("pico", tmp_path / "work").run()
    finally:
        plan.write_text(PLAN, encoding="utf-8")
    found = arrays(tmp_path / "results/pico")
    merges = found["merges-0.5.npz"]
    assert merges["included"].sum(axis=1).tolist() == [1, 1, 1, 2, 2, 2, 3]
    for name, loglik in zip(merges["names"], merges["loglik"], strict=False):
        np.testing.assert_array_equal(loglik, found[f"{name}-12.npz"]["12.dev.loglik"])


@pytest.mark.slow
def test_evidence_says_what_the_results_say(
    campaign: ModuleType, scenarios: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, recipe = scenarios / "pico/plan.toml", scenarios / "pico/recipe.toml"
    settings = recipe.read_text(encoding="utf-8")
    metric = 'name = "copying"\nmetric = "choice_bits"'
    plan.write_text(EVIDENCE, encoding="utf-8")
    recipe.write_text(settings.replace('name = "copying"', metric), encoding="utf-8")
    try:
        campaign.Campaign("pico", tmp_path / "work").run()
        shutil.copytree(scenarios, tmp_path / "scenarios")
        load(RESEARCH / "recorded.py")
        load(RESEARCH / "table.py")
        program = load(RESEARCH / "evidence.py")
        scenario = program.Recorded.read("pico", tmp_path)
    finally:
        plan.write_text(PLAN, encoding="utf-8")
        recipe.write_text(settings, encoding="utf-8")
    results = tmp_path / "results/pico"
    tests = {
        path.stem.removesuffix("-24"): json.loads(path.read_text("utf-8"))["metrics"]["24"]["test"]
        for path in results.glob("*-24.json")
    }
    real = {stem: metrics["choice_bits"][0] for stem, metrics in tests.items()}
    case = program.Case.of(scenario)
    rows = {row.name: row for row in case.rows()}
    assert rows["all"].regret.point == pytest.approx(max(real.values()) - real["all"], abs=2e-3)
    average = np.mean([max(real.values()) - value for value in real.values()])
    assert rows["random"].regret.point == pytest.approx(average, abs=2e-3)
    merged = case.predicted["merge_to_mix"].points
    several = [i for i, mixture in enumerate(case.mixtures) if len(mixture.datasets) > 1]
    places = [np.argsort(np.argsort(values[several])) for values in (merged, case.real.points)]
    expected = np.corrcoef(*places)[0, 1]
    assert rows["merge_to_mix"].spearman.point == pytest.approx(expected)
    assert not program.missing_picks(scenario)
    (results / "copy+upper-24.json").unlink()
    assert len(program.Case.of(scenario).mixtures) == len(case.mixtures) - 1
    twice = {row.name: row for row in program.mean_rows([case.rows(), case.rows()])}
    assert twice["all"].regret.point == pytest.approx(rows["all"].regret.point)
    text = "".join(program.report([scenario]))
    assert "7 fine-tunes" not in text and "6 fine-tunes of 24 steps, choice_bits on test" in text


def test_other_data_than_the_frozen_one_is_refused(
    campaign: ModuleType, scenarios: Path, tmp_path: Path
) -> None:
    sums = scenarios / "pico/SHA256SUMS"
    sums.write_text(f"{'0' * 64}  copy.jsonl\n", encoding="utf-8")
    try:
        with pytest.raises(campaign.InputError, match="another file than the one that was frozen"):
            campaign.Campaign("pico", tmp_path / "work").run()
    finally:
        sums.write_text("", encoding="utf-8")


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_plans_name_datasets_of_their_recipe(path: Path) -> None:
    recipe = tomllib.loads((path.parent / "recipe.toml").read_text(encoding="utf-8"))
    names = [dataset["name"] for dataset in recipe["datasets"]]
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["finetunes"]
    made = [(mixture, group["steps"]) for group in groups for mixture in group["mixtures"]]
    assert len(set(made)) == len(made)
    for mixture, _ in made:
        assert mixture == "all" or set(mixture.split("+")) <= set(names), mixture
    assert all(step < group["steps"] for group in groups for step in group["score_at"])


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_results_say_what_their_log_likelihoods_say(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    questions = np.load(path.parent / "questions.npz")
    with np.load(path.with_suffix(".npz")) as found:
        assert len(found.files) == 2 * len(result["metrics"])
        for step, splits in result["metrics"].items():
            for split, metrics in splits.items():
                loglik = found[f"{step}.{split}.loglik"] / 1000
                sizes = questions[f"{split}.bytes"].astype(float)
                gold = questions[f"{split}.gold"].astype(np.int64)
                scores = Scores("choices", loglik, sizes, sizes, gold)
                bits = METRICS["choice_bits"].value(scores, None)[0]
                assert bits == pytest.approx(metrics["choice_bits"][0], abs=2e-4)
                # Two choices that differ by less than the rounding may change places.
                best = np.sort(loglik, axis=1)[:, -2:]
                close = np.mean(best[:, 1] - best[:, 0] < 0.0015)
                accuracy = METRICS["accuracy"].value(scores, None)[0]
                assert accuracy == pytest.approx(metrics["accuracy"][0], abs=2e-4 + close)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "spearman", "pearson", "regret"),
    [
        # A sceptic's own computation from the same files, made before m2m had rivals.
        (
            "fixed",
            {"merge_to_mix": 0.967, "first_order": 0.936, "mean_of_singles": 0.944,
             "probabilities": 0.849},
            {"merge_to_mix": 0.890, "first_order": 0.854, "mean_of_singles": 0.785},
            {"merge_to_mix": 0.0, "all": 0.396, "best_single": 0.0},
        ),
        (
            "proportional",
            {"merge_to_mix": 0.968, "first_order": 0.968, "probabilities": 0.968},
            {"merge_to_mix": 0.956, "first_order": 0.953, "mean_of_singles": 0.888},
            # School alone for as many steps as the pair: 0.645, not the 0.405 of half of them.
            {"merge_to_mix": 0.0, "first_order": 0.0, "best_single": 0.3, "nested_top_k": 0.0},
        ),
    ],
)  # fmt: skip
def test_recorded_fine_tunes_give_the_published_comparison(
    budget: str, spearman: dict[str, float], pearson: dict[str, float], regret: dict[str, float]
) -> None:
    program = load(RESEARCH / "rivals.py")
    found = program.rivals(budget, program.recorded_merges())
    rows = {row.name: row for row in found.rows}
    for name, expected in spearman.items():
        assert rows[name].foresight.spearman.estimate == pytest.approx(expected, abs=6e-4)
    for name, expected in pearson.items():
        assert rows[name].foresight.pearson.estimate == pytest.approx(expected, abs=1.1e-3)
    for name, expected in regret.items():
        assert rows[name].pick.regret.estimate == pytest.approx(expected, abs=6e-4)


@pytest.mark.slow  # four small runs of trainings
def test_forecasts_of_more_rows_are_those_of_the_command(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path / "scenario")
    write_jsonl(recipe.parent / "copy.jsonl", dataset_rows("copy", 64))
    found = load(RESEARCH / "more_rows.py").foretold(recipe, tmp_path / "out", ["copy"], 3)
    (gain,) = found
    rows = (recipe.parent / "copy.jsonl").read_text("utf-8").splitlines()
    half = (tmp_path / "out" / "copy-half.jsonl").read_text("utf-8").splitlines()
    assert (gain["rows"], len(half)) == (len(rows), len(rows) // 2)
    assert set(half) < set(rows)
    assert gain["measured"]["estimate"] == pytest.approx(gain["all"] - np.mean(gain["half"][1:]))
    assert gain["forecast"]["estimate"] == pytest.approx(gain["half"][0] - np.mean(gain["quarter"]))
