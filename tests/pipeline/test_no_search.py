"""`[search] strategy = "none"`: all datasets are trained on at once, for as long as it pays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.mix.contenders import ALL, UNION
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.results.facts import read_facts
from tests.pipeline.scenario import make_scenario


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_scenario(tmp_path_factory.mktemp("none"))
    text = recipe.read_text(encoding="utf-8").replace("exhaustive", "none")
    text = text.replace('budget = "fixed"\n', 'baselines = ["union"]\nmax_passes = 4\n')
    recipe.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["run", str(recipe), "--anyway"])
    assert done.exit_code == 0, done.output
    assert "No mixtures were searched" in done.stdout
    return recipe


def test_nothing_but_one_training_is_made(finished: Path) -> None:
    run = Run(load_recipe(finished), Silent())
    found = run.confirm()
    assert [model.how for model in found.models] == ["base", "finetuned"]
    assert found.winner.label == UNION
    assert {*found.winner.seen} == {"copy", "reverse", "upper"}
    assert not (run.folder / "adapters").exists()
    assert not (run.folder / "study.jsonl").exists()
    assert found.courses is not None
    assert found.courses.steps > 12
    assert found.ahead is not None
    assert found.ahead[1].estimate == 0


def test_its_results_come_back_and_say_that_nothing_was_searched(finished: Path) -> None:
    folder = finished.parent / "m2m-runs" / "recipe"
    facts = read_facts(folder)
    assert facts.ranking is not None
    assert facts.ranking.best is None
    stored = json.loads((folder / "ranking.json").read_text("utf-8"))
    assert facts.ranking.as_json() == {k: v for k, v in stored.items() if k != "made_from"}
    for name in ("report.html", "export/README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "No mixtures were searched" in text
        assert "one LoRA expert per dataset" not in text


@pytest.mark.slow  # a real run
def test_a_recipe_without_baselines_still_trains_all_rows(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("exhaustive", "none")
    recipe.write_text(text.replace("top = 2", "baselines = []"), encoding="utf-8")
    run = Run(load_recipe(recipe), Silent())
    assert run.confirm().winner.label == UNION
    with pytest.raises(InputError, match="no ranking to validate"):
        run.validate()


@pytest.mark.slow  # a real run
def test_both_ways_to_train_on_everything_are_halved(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("exhaustive", "none")
    text = text.replace('budget = "fixed"', "max_passes = 4")
    recipe.write_text(text, encoding="utf-8")
    (tmp_path / "upper.jsonl").write_text(
        "".join((tmp_path / "upper.jsonl").read_text("utf-8").splitlines(keepends=True)[:20]),
        encoding="utf-8",
    )
    found = Run(load_recipe(recipe), Silent()).confirm()
    assert [model.label for model in found.models[1:]] == [ALL, UNION]
    assert found.courses is not None
    assert [course.checks[0].steps for course in found.courses.courses] == [12, 12]
