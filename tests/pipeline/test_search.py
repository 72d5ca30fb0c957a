"""Racing with real models: blocks of examples add up, stops change nothing, constraints hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import InputError, Interrupted
from m2m.formats.journal import Journal
from m2m.mix.tables import propose_from
from m2m.mix.trial import Trial, joined
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from tests.pipeline.scenario import copied, make_scenario
from tests.tiny import PLACE_NATS, StopAfter


def with_search(recipe: Path, *lines: str) -> Path:
    text = recipe.read_text(encoding="utf-8")
    section = "[search]\n" + "\n".join(lines)
    recipe.write_text(text.replace('[search]\nstrategy = "exhaustive"', section), encoding="utf-8")
    return recipe


@pytest.fixture(scope="module")
def raced(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose search is a finished race."""
    recipe = copied(trained_run, tmp_path_factory.mktemp("raced"))
    with_search(recipe, 'strategy = "racing"')
    Run(load_recipe(recipe), Silent()).search()
    return recipe


@pytest.fixture
def recipe(raced: Path, tmp_path: Path) -> Path:
    return copied(raced, tmp_path)


def lines(recipe: Path) -> list[dict[str, Any]]:
    return Journal(load_recipe(recipe).folder / "study.jsonl").replay()


def found(recipe: Path, progress: Silent | None = None) -> dict[str, Any]:
    result = Run(load_recipe(recipe), progress or Silent()).search().as_json()
    del result["seconds"]
    return result


@pytest.mark.slow
def test_blocks_of_examples_score_as_the_whole_set(
    recipe: Path, finished_run: Path, tmp_path: Path
) -> None:
    raced_lines = lines(recipe)
    text = recipe.read_text(encoding="utf-8").replace("racing", "exhaustive")
    fresh = copied(finished_run, tmp_path / "fresh")
    whole = {line["key"]: Trial.from_json(line) for line in lines(fresh)}
    parts: dict[str, list[Trial]] = {}
    for line in raced_lines:
        parts.setdefault(line["key"], []).append(Trial.from_json(line))
    assert any(len(blocks) > 1 for blocks in parts.values())
    for key, blocks in parts.items():
        trial = joined(blocks, {"copying": 16})
        other = whole[key].take(trial.places) if trial.places else whole[key]
        ours, theirs = trial.scores["copying"].loglik, other.scores["copying"].loglik
        np.testing.assert_allclose(ours, theirs, atol=PLACE_NATS["q8_0"])
        assert np.abs(ours - np.roll(theirs, 1, axis=0)).max() > 10 * PLACE_NATS["q8_0"]
    recipe.write_text(text, encoding="utf-8")
    again = found(recipe)
    assert {each["examples"] for each in again["mixtures"]} == {16}
    assert again["mixtures"][0]["datasets"] == found(fresh)["mixtures"][0]["datasets"]


@pytest.mark.slow
def test_a_finished_race_does_nothing_again_and_stops_change_nothing(
    raced: Path, recipe: Path
) -> None:
    before = lines(raced)
    expected = found(raced)
    assert lines(raced) == before
    (load_recipe(recipe).folder / "study.jsonl").unlink()
    stops = 0
    while True:
        try:
            result = found(recipe, StopAfter(3 * (stops + 1)))
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    assert result == expected
    assert [line["key"] for line in lines(recipe)] == [line["key"] for line in before]


def test_the_ranking_says_on_how_many_examples_each_was_scored(raced: Path) -> None:
    result = found(raced)
    assert result["strategy"] == "racing"
    assert result["evaluated"] == result["candidates"] == 7
    assert result["mixtures"][0]["examples"] == 16
    assert all(each["examples"] in (6, 12, 16) for each in result["mixtures"])
    assert result["worst"] == result["mixtures"][-1]
    assert {each["verdict"] for each in result["dataset_worth"].values()} <= {
        "helpful",
        "neutral",
        "harmful",
    }
    assert all(each["words"] for each in result["interactions"])


def test_a_race_writes_the_tables_that_proposals_are_made_from(raced: Path) -> None:
    proposed = propose_from(load_recipe(raced).folder)
    assert proposed.runs == 7
    assert proposed.metric == "copying choice_bits"
    assert proposed.proposals[0].scored is not None


def test_excluded_and_forbidden_datasets_are_not_trained(tmp_path: Path) -> None:
    recipe = with_search(make_scenario(tmp_path / "new"), 'licences = ["cc0-1.0"]')
    result = found(recipe)
    assert [each["datasets"] for each in result["mixtures"]] == [["copy"]]
    assert {path.name for path in (load_recipe(recipe).folder / "adapters").iterdir()} == {"copy"}


def test_required_datasets_are_in_every_ranked_mixture(recipe: Path) -> None:
    before = lines(recipe)
    result = found(with_search_again(recipe, 'required = ["copy"]'))
    assert all("copy" in each["datasets"] for each in result["mixtures"])
    assert len(result["mixtures"]) == 4
    assert len(lines(recipe)) - len(before) <= 4


def test_constraints_that_leave_nothing_are_refused(recipe: Path) -> None:
    constrained = load_recipe(with_search_again(recipe, "max_tokens = 1"))
    with pytest.raises(InputError, match="allows no mixture"):
        Run(constrained, Silent())  # before anything is trained


def with_search_again(recipe: Path, line: str) -> Path:
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[search]\n", f"[search]\n{line}\n"), encoding="utf-8")
    return recipe


def test_a_single_mixture_is_singular(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    text = text.replace('strategy = "racing"', 'excluded = ["reverse", "upper"]')
    recipe.write_text(text, encoding="utf-8")
    shown = CliRunner().invoke(cli, ["search", str(recipe), "--quiet"])
    assert shown.exit_code == 0
    assert "1 of 1 mixture on" in shown.stdout
    assert "Lowest score" not in shown.stdout
    assert "-0.000" not in shown.stdout
