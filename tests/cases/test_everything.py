"""What "trained on everything" means when datasets differ in size.

In equal proportions 190 + 10 rows are 100 rows of the large dataset and ten times each of the
small one.
Readers think of the files put together, which is another fine-tune: both are baselines, under names
that say which is which, and every fine-tune says how many rows it has seen.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from tests.pipeline.scenario import make_scenario
from tests.tiny import dataset_rows, write_jsonl


def m2m(*arguments: str | Path) -> str:
    found = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_scenario(tmp_path_factory.mktemp("everything"))
    write_jsonl(recipe.parent / "copy.jsonl", dataset_rows("copy", 190))
    write_jsonl(recipe.parent / "reverse.jsonl", dataset_rows("reverse", 10))
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("[search]", '[search]\nexcluded = ["upper"]').replace("12", "30")
    recipe.write_text(text, encoding="utf-8")
    return recipe


@pytest.mark.slow  # a real run
def test_both_ways_of_training_on_everything_are_confirmed(recipe: Path) -> None:
    planned = json.loads(m2m("plan", recipe, "--json"))
    assert "up to 4 fine-tunes" in next(
        each["what"] for each in planned["steps"] if each["name"] == "confirm"
    )
    found = json.loads(m2m("confirm", recipe, "--json", "--quiet"))
    tuned = {each["label"]: each for each in found["confirmed"] if each["how"] == "finetuned"}
    equal = next(each for label, each in tuned.items() if "all datasets equally" in label)
    union = tuned["all rows"]
    assert equal["weights"] == [0.5, 0.5]
    assert union["weights"] == [0.95, 0.05]
    assert {n: (s["rows"], s["of"]) for n, s in equal["seen"].items()} == {
        "copy": (100, 190),
        "reverse": (10, 10),
    }
    assert equal["seen"]["reverse"]["passes"] > 15 * equal["seen"]["copy"]["passes"]
    assert {n: (s["rows"], s["of"]) for n, s in union["seen"].items()} == {
        "copy": (190, 190),
        "reverse": (10, 10),
    }
    times = [each["passes"] for each in union["seen"].values()]
    assert times[0] == pytest.approx(times[1], abs=1)
    m2m("report", recipe.parent / "m2m-runs/recipe")
    table = recipe.parent / "m2m-runs/recipe/report/confirmed.csv"
    assert "110 of 200" in table.read_text(encoding="utf-8")
    assert "200 of 200" in table.read_text(encoding="utf-8")
    shown = m2m("confirm", recipe, "--quiet")
    assert "rows seen" in shown
    assert "right on test" in shown
    for each in found["confirmed"]:
        for part in ("dev", "test"):
            right, questions = each["right"][part]
            assert right / questions == pytest.approx(each[part]["accuracy"]["value"])


@pytest.mark.slow
def test_report_card_plan_and_validation_know_the_union(recipe: Path) -> None:
    planned = json.loads(m2m("plan", recipe, "--json"))
    (confirm,) = (each["what"] for each in planned["steps"] if each["name"] == "confirm")
    confirmed = json.loads(m2m("confirm", recipe, "--json", "--quiet"))["confirmed"]
    assert confirm == f"kept: {len(confirmed)} models with scores"
    m2m("export", recipe, "--quiet")
    folder = recipe.parent / "m2m-runs/recipe"
    card = (folder / "export/README.md").read_text(encoding="utf-8")
    assert re.search(r"It was trained for \d+ steps on ", card)
    assert "all rows, fine-tuned" in card
    m2m("report", folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "95 % copy + 5 % reverse" in page
    assert "110 of 200" in page
    found = json.loads(m2m("validate", recipe, "--mixtures", "2", "--json", "--quiet"))
    assert found["picks"]["union"] == {"datasets": ["copy", "reverse"], "weights": [0.95, 0.05]}
    assert found["picks"]["all"]["weights"] == [0.5, 0.5]
    assert found["regret"].keys() >= {"all", "union"}


@pytest.mark.slow
def test_the_union_can_be_left_out(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    two = recipe.with_name("two.toml")
    two.write_text(
        text.replace("[confirm]", '[confirm]\nbaselines = ["all", "best_single"]'),
        encoding="utf-8",
    )
    found = json.loads(m2m("confirm", two, "--json", "--quiet"))
    assert not any("all rows" in each["label"] for each in found["confirmed"])
