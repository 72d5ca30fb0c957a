from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.errors import Interrupted
from m2m.formats.journal import Journal
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Recipe, changed, load_recipe
from m2m.results.validation import Validation
from tests.pipeline.scenario import make_scenario
from tests.tiny import StopAfter


def of(recipe: Recipe, mixtures: int = 24) -> Validation:
    recipe = changed(recipe, {"validate": {"mixtures": mixtures}})
    return Run(recipe, Silent()).validate()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose ranking was validated on two mixtures."""
    recipe = load_recipe(make_scenario(tmp_path_factory.mktemp("validated")))
    of(recipe, 2)
    return recipe


def test_all_mixtures_are_really_fine_tuned_and_held_against_what_was_predicted(
    recipe: Recipe,
) -> None:
    found = of(recipe)
    assert sorted(each.rank or 0 for each in found.mixtures) == list(range(1, 8))
    assert {each.steps for each in found.mixtures} == {12}
    assert found.as_json()["singles"] == 3
    assert found.judged_on == "test"
    both = found.agreements["surrogate"]["test"]["with_singles"]
    assert both is not None
    assert both.mixtures == 7
    assert set(found.regret) == {"merge_to_mix", "all", "best_single", "similarity", "random"}
    assert all(lost.estimate >= 0 for lost in found.regret.values())
    # A single dataset's surrogate is its expert, and so is its fine-tune.
    ranked = {each.mixture: each.score for each in Run(recipe, Silent()).search().places}
    for each in found.mixtures:
        assert each.predicted["surrogate"] == pytest.approx(ranked[each.mixture])
        if len(each.mixture.datasets) == 1:
            assert each.real["dev"][0] == pytest.approx(each.predicted["surrogate"], abs=1e-6)
            mean = each.predicted["mean_of_singles"]
            assert mean == pytest.approx(each.predicted["surrogate"])
    written = json.loads((recipe.folder / "validate-fixed.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(found.as_json()))
    with (recipe.folder / "validate-fixed.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = sorted((each.real["test"].value for each in found.mixtures), reverse=True)
    assert [float(row["finetuned_test"]) for row in rows] == scores
    assert all(row["mean_of_singles"] for row in rows)


def test_what_is_fine_tuned_is_kept_for_a_longer_plan_and_for_the_confirmation(
    recipe: Recipe,
) -> None:
    folder = recipe.folder / "confirm"
    first = {path: path.stat().st_mtime_ns for path in folder.rglob("adapter_model.safetensors")}
    assert first
    of(recipe)
    before = len(Journal(recipe.folder / "confirm.jsonl").replay())
    assert of(recipe) == of(recipe)
    Run(recipe, Silent()).confirm()
    after = Journal(recipe.folder / "confirm.jsonl").replay()
    assert len(after) - before == 2  # base and merged
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())


def test_the_regime_decides_the_steps(recipe: Recipe) -> None:
    longer = changed(recipe, {"confirm": {"budget": "proportional"}})
    found = of(longer, 1)
    assert {len(each.mixture.datasets): each.steps for each in found.mixtures} == {
        size: 12 * size for size in {len(each.mixture.datasets) for each in found.mixtures}
    }
    assert max(each.steps for each in found.mixtures) > 12
    assert found.budget == "proportional"
    assert found.headline is None
    alone = of(changed(recipe, {"confirm": {"budget": 5}}), 1)
    assert {each.steps for each in alone.mixtures} == {5}


def test_without_a_test_set_dev_must_do(recipe: Recipe) -> None:
    untested = replace(recipe, targets=(replace(recipe.targets[0], test=None),))
    found = of(untested, 4)
    assert found.judged_on == "dev"
    assert found.repeatability is None
    assert found.as_json()["mixtures"][0]["finetuned"] == found.mixtures[0].real["dev"][0]


def test_an_interrupted_validation_goes_on_to_the_same_result(
    recipe: Recipe, tmp_path: Path
) -> None:
    stopped = load_recipe(make_scenario(tmp_path))
    stops = 0
    while True:
        try:
            found = Run(stopped, StopAfter(25)).validate()
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    assert found == of(recipe)
