from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.demo import example_recipe
from m2m.cli.main import cli
from m2m.recipe import load_recipe
from tests.pipeline.scenario import copied


@pytest.mark.slow  # a real run
def test_the_story_is_told_to_its_end(finished_run: Path, tmp_path: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    found = CliRunner().invoke(cli, ["demo", str(recipe)], catch_exceptions=False)
    assert found.exit_code == 0
    places = [found.stdout.index(f"\n{number}. ") for number in (1, 2, 3, 4)]
    assert places == sorted(places)
    assert found.stdout.count("      before  ") == found.stdout.count("      right   ") == 3
    assert "Winner" in found.stdout


def test_the_example_is_found_from_anywhere() -> None:
    assert load_recipe(example_recipe()).datasets
