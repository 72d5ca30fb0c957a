from __future__ import annotations

import json
from pathlib import Path

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
