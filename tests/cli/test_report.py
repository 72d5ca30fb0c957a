from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from tests.pipeline.scenario import copied

EVIL = "[red]<b>\\u001b[31m=1+1"


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def recipe(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose first dataset has a hostile source and a licence that forbids much."""
    recipe = copied(finished_run, tmp_path_factory.mktemp("report"))
    text = recipe.read_text(encoding="utf-8")
    free = 'licence = "CC0-1.0"'
    assert free in text
    text = text.replace(
        free, f'licence = "CC-BY-NC-4.0"\nsource = "{EVIL}"\nlanguages = ["sw", "en"]'
    )
    recipe.write_text(text + "\n[report]\nwatts = 12\n", encoding="utf-8")
    found = m2m("run", recipe, "--json", "--quiet")
    assert Path(json.loads(found.stdout)["report"]).is_file()
    return recipe


def test_the_report_of_a_recipe_and_of_its_folder_are_the_same(recipe: Path) -> None:
    folder = recipe.parent / "m2m-runs" / "recipe"
    before = (folder / "report.html").read_bytes()
    by_recipe, by_folder = m2m("report", recipe, "--json"), m2m("report", folder, "--json")
    assert by_recipe.exit_code == by_folder.exit_code == 0
    data = json.loads(by_recipe.stdout)
    assert data == json.loads(by_folder.stdout)
    assert Path(data.pop("report")["html"]) == folder / "report.html"
    assert data == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert data["watts"] == 12
    assert (folder / "report.html").read_bytes() == before


def test_the_terminal_shows_the_same_facts_and_no_strangers_markup(recipe: Path) -> None:
    found = m2m("report", recipe)
    assert "Fine-tune on" in found.stdout
    for part in ("choice_bits", "behind the best", "it is",
                 "CC-BY-NC-4.0", "peak memory", "report.html"):  # fmt: skip
        assert part in found.stdout
    assert "[red]<b>" in found.stdout
    assert "\x1b" not in found.stdout
    assert m2m("report", recipe, "--quiet").stdout == ""


def test_the_card_carries_languages_and_what_the_licence_forbids(recipe: Path) -> None:
    shown = m2m("export", recipe)
    folder = recipe.parent / "m2m-runs" / "recipe"
    exported = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    card = Path(exported["card"]).read_text(encoding="utf-8")
    used = "`copy`" in card.split("## Before")[0]
    assert any("forbids commercial use" in remark for remark in exported["remarks"]) == used
    assert ("forbids commercial use" in card) == used
    assert ('language: ["sw", "en"]' in card) == used
    assert ("Licence: copy: CC-BY-NC-4.0 forbids commercial use" in shown.stderr) == used


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    found = m2m("report", tmp_path / "none.toml")
    assert found.exit_code == 1
    assert "is not the folder of a run" in found.stderr
    assert "\n\nhint: " in found.stderr
