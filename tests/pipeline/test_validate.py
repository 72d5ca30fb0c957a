from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import Interrupted
from m2m.formats.journal import Journal
from m2m.mix.rival_predictors import RIVALS
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Recipe, changed, load_recipe
from m2m.results.confirmation import confirmed_table
from m2m.results.validation import Validation
from tests.pipeline.scenario import copied, make_scenario
from tests.tiny import StopAfter


def textbook_spearman(one: list[float], other: list[float]) -> float:
    """Spearman's correlation from the ranks, as textbooks have it, without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    gaps = ranks[0] - ranks[1]
    return float(1 - 6 * (gaps @ gaps) / (len(gaps) * (len(gaps) ** 2 - 1)))


def of(recipe: Recipe, mixtures: int = 24) -> Validation:
    recipe = changed(recipe, {"validate": {"mixtures": mixtures}})
    return Run(recipe, Silent()).validate()


@pytest.fixture(scope="module")
def recipe(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose ranking was validated on two mixtures."""
    recipe = load_recipe(copied(trained_run, tmp_path_factory.mktemp("validated")))
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
    early = {name for name, rival in RIVALS.items() if rival.predict or rival.offers}
    picked = {"merge_to_mix", *early} - {"union", "nested_top_k"}  # datasets of one size
    assert set(found.regret) == {*picked, "random"}
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


@pytest.mark.slow
def test_rivals_are_compared_on_the_same_fine_tunes(recipe: Recipe) -> None:
    found = of(recipe)
    picked = {*found.regret} - {"random"}
    rivals = found.rivals
    assert rivals
    rows = {row.name: row for row in rivals.rows}
    assert [*rows] == ["merge_to_mix", *(name for name in RIVALS if name != "union")]
    assert (rivals.steps, rivals.pool, rivals.lengths) == (12, 7, (12, 12))
    real = {each.mixture: each.real["test"].value for each in found.mixtures}
    for row in rivals.rows:
        if row.name in picked:
            assert row.pick
            assert row.pick.mixture == found.picks[row.name]
            assert row.pick.score.value == pytest.approx(real[found.picks[row.name]])
            assert row.pick.regret.estimate == pytest.approx(max(real.values()) - row.pick.score[0])
    assert rows["random"].pick
    assert rows["random"].pick.score.value == pytest.approx(np.mean([*real.values()]))
    assert "m2m validate RECIPE --budget" in rows["successive_halving"].note
    predicted = {name for name, rival in RIVALS.items() if rival.predict}
    assert {row.name for row in rivals.rows if row.foresight} == {"merge_to_mix", *predicted}
    spearman = textbook_spearman(
        [
            each.predicted["first_order"]
            for each in found.mixtures
            if len(each.mixture.datasets) > 1
        ],
        [real[each.mixture] for each in found.mixtures if len(each.mixture.datasets) > 1],
    )
    first = rows["first_order"].foresight
    assert first
    assert first.spearman.estimate == pytest.approx(spearman)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_regime_decides_the_steps(recipe: Recipe) -> None:
    longer = changed(recipe, {"confirm": {"budget": "proportional"}})
    found = of(longer, 1)
    assert {len(each.mixture.datasets): each.steps for each in found.mixtures} == {
        size: 12 * size for size in {len(each.mixture.datasets) for each in found.mixtures}
    }
    assert max(each.steps for each in found.mixtures) > 12
    # Picks of other sizes are fine-tuned once more, for as many steps as the merge's.
    rivals = found.rivals
    assert rivals
    steps = 12 * len(found.picks["merge_to_mix"].datasets)
    assert rivals.steps == steps
    folder = longer.folder / "confirm" / str(steps)
    for row in rivals.rows:
        if row.pick and row.pick.mixture and (len(row.pick.mixture.datasets) > 1 or steps > 12):
            assert (folder / "+".join(row.pick.mixture.datasets)).is_dir()
    assert found.budget == "proportional"
    assert found.headline is None
    alone = of(changed(recipe, {"confirm": {"budget": 5}}), 4)
    assert {each.steps for each in alone.mixtures} == {5}


@pytest.mark.slow
def test_halving_uses_what_shorter_validations_fine_tuned(recipe: Recipe) -> None:
    of(changed(recipe, {"confirm": {"budget": 5}}), 4)
    rivals = of(changed(recipe, {"confirm": {"budget": 9}}), 4).rivals
    assert rivals
    halved = rivals.rows[-1]
    assert halved.name == "successive_halving"
    assert halved.pick
    assert "rungs of 5, 9 steps" in halved.note


@pytest.mark.slow
def test_without_a_test_set_dev_must_do(recipe: Recipe) -> None:
    untested = replace(recipe, targets=(replace(recipe.targets[0], test=None),))
    found = of(untested, 4)
    assert found.judged_on == "dev"
    assert found.repeatability is None
    assert found.as_json()["mixtures"][0]["finetuned"] == found.mixtures[0].real["dev"][0]


@pytest.mark.slow
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
    whole = of(recipe)
    assert found.rivals
    assert whole.rivals
    # Successive halving also uses the shorter fine-tunes that other tests made in that folder.
    assert found.rivals.rows[:-1] == whole.rivals.rows[:-1]
    assert replace(found, rivals=None) == replace(whole, rivals=None)


@pytest.mark.slow
def test_a_confirmation_names_the_steps_if_they_differ(recipe: Recipe) -> None:
    proportional = changed(recipe, {"confirm": {"budget": "proportional"}})
    found = Run(proportional, Silent()).confirm()
    steps = {model.mixture: model.steps for model in found.models if model.how == "finetuned"}
    assert steps == {mixture: 12 * len(mixture.datasets) for mixture in steps}
    assert len({*steps.values()}) > 1
    assert "after 12 steps" in " ".join(found.verdict.lines)
    assert "different steps" in confirmed_table(found, 3).caption
    fixed = Run(recipe, Silent()).confirm()
    assert " steps" not in " ".join(fixed.verdict.lines)
    assert "different steps" not in confirmed_table(fixed, 3).caption
    for table in (confirmed_table(found, 3), confirmed_table(fixed, 3)):
        assert "steps (passes)" in table.heads
