from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from tests.pipeline.scenario import make_scenario


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def test_a_recipe_and_its_files_are_checked_alike(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    whole = json.loads(m2m("data", "check", recipe, "--json").stdout)
    files = [tmp_path / f"{name}.jsonl" for name in ("copy", "reverse", "upper")]
    targets = [a for name in ("dev", "test") for a in ("--target", tmp_path / f"{name}.jsonl")]
    model = ("--model", tmp_path / "models" / "pico")
    named = json.loads(m2m("data", "check", *files, *targets, *model, "--json").stdout)
    assert [{**each, "file": ""} for each in whole] == [{**each, "file": ""} for each in named]
    assert [each["format"] for each in whole[3:]] == ["target: choices"] * 2
    fields = {"file", "format", "rows", "tokens", "tokens_per_word", "bytes_per_token",
              "duplicates", "overlap_with_targets", "problems"}  # fmt: skip
    assert all(fields <= each.keys() for each in whole)


def test_the_table_names_problems_and_a_refused_file_exits_with_1(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,completion\na,b\nc,\n", encoding="utf-8")
    found = m2m("data", "check", bad)
    assert found.exit_code == 1
    assert '! line 3: "completion" is empty' in found.stdout
    assert "bad.csv" in found.stderr
    good = tmp_path / "good.csv"
    good.write_text("prompt,completion\na,b\nc,d\n", encoding="utf-8")
    assert m2m("data", "check", good).exit_code == 0
    assert m2m("data", "check", tmp_path / "recipe.toml").exit_code == 1
    assert m2m("data", "check", tmp_path / "recipe.toml", good).exit_code == 2
    missing = m2m("data", "check", tmp_path / "gone.csv")
    assert missing.exit_code == 1
    assert "gone.csv" in missing.stdout


def test_files_outside_the_recipes_folder_need_the_users_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option, the variable and the line that the error says, for every command."""
    private, folder = tmp_path / "private", tmp_path / "recipe"
    for each in (private, folder):
        each.mkdir()
        (each / "rows.jsonl").write_text('{"question": "a", "choices": ["x", "y"], "answer": 0}\n')
    recipe = folder / "recipe.toml"
    recipe.write_text(
        "[base]\nmodel = 'none'\n[[datasets]]\nname = 'd'\npath = '../private/rows.jsonl'\n"
        "[[targets]]\nname = 't'\ndev = 'rows.jsonl'\n"
    )
    allowed = ["--data-root", str(private)]
    for command in (
        *(["run"], ["train"], ["search"], ["confirm"], ["export"], ["validate"], ["plan"]),
        *(["demo"], ["data", "check"]),
    ):
        refused = CliRunner().invoke(cli, [*command, str(recipe)])
        assert refused.exit_code == 1
        assert f"is outside {folder}" in refused.stderr
        assert shlex.join(allowed) in refused.stderr
        found = CliRunner().invoke(cli, [*command, str(recipe), *allowed])
        assert "is outside" not in found.stderr
    monkeypatch.setenv("M2M_DATA_ROOT", str(private))
    assert "is outside" not in CliRunner().invoke(cli, ["plan", str(recipe)]).stderr
