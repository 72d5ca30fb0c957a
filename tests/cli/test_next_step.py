"""Each command ends with the line to type next, with the recipe and the options of the user."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from m2m.cli import console
from m2m.cli.console import make_table, print_table
from m2m.cli.main import cli
from m2m.cli.next_step import named
from m2m.cli.options import OVERRIDES, RECIPES
from tests.pipeline.scenario import copied
from tests.tiny import pico_dataset, pico_gguf, pico_model


def m2m(*words: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    return found.exit_code, found.output


@pytest.mark.slow
def test_every_step_names_the_next_one_until_the_end(finished_run: Path, tmp_path: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    for words, then in (
        (["data", "check"], "m2m run"), (["data", "preview"], "m2m data check"),
        (["train"], "m2m search"), (["search"], "m2m confirm"), (["confirm"], "m2m export"),
    ):  # fmt: skip
        status, output = m2m(*words, recipe)
        assert status == 0, output
        assert f"Next       {then} {recipe}" in output
    status, output = m2m("export", recipe)
    (line,) = re.findall(r"Next +m2m (chat .*)", output)
    assert Path(shlex.split(line)[1]).is_file()


def test_commands_without_a_recipe_name_the_next_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path / "models"))
    assert m2m("models", "list")[1].endswith("Next       m2m models known\n")
    pico_model(tmp_path / "models")
    assert m2m("models", "list")[1].endswith("Next       m2m init\n")
    pico_dataset(tmp_path / "a b.jsonl", "copy")
    found = m2m("data", "check", "a b.jsonl")[1]
    assert found.endswith('Next       m2m init --data "a b.jsonl"\n')
    found = m2m("data", "check", "a b.jsonl", "--model", "pico", "--prompt", "{prompt}",
                "--completion", "{completion}")[1]  # fmt: skip
    (line,) = re.findall(r"Next +(.*)", found)
    assert {"--model", "pico", "--prompt", "{prompt}"} <= {*shlex.split(line)}
    quantized = m2m("quantize", pico_gguf(tmp_path / "x.gguf"), "y.gguf", "--type", "f16")[1]
    assert quantized.endswith("Next       m2m chat y.gguf\n")


def test_the_options_of_the_user_are_repeated(finished_run: Path, tmp_path: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    options = ["--set", "search.budget=3", "--out", str(tmp_path / "my results")]
    status, output = m2m("train", recipe, *options, "--data-root", tmp_path)
    assert status == 0, output
    (line,) = re.findall(r"Next +(m2m search .*)", output)
    given = [*options, "--data-root", str(tmp_path)]
    assert shlex.split(line)[2:] == [str(recipe), *given]
    status, output = m2m(*shlex.split(line)[1:])
    assert status == 0, output
    (line,) = re.findall(r"Next +(m2m confirm .*)", output)
    assert shlex.split(line)[2:] == [str(recipe), *given]


def test_training_without_experts_says_so(finished_run: Path, tmp_path: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    status, output = m2m("train", recipe, "--set", "search.strategy=none")
    assert status == 0, output
    assert 'No adapters: [search] strategy = "none"' in output
    assert f"Next       m2m confirm {recipe} --set search.strategy=none" in output


def test_a_command_without_the_options_gets_the_folder(tmp_path: Path, finished_run: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    context = click.Context(cli)
    context.meta.update({RECIPES: (recipe,), OVERRIDES: {"search.budget": "3"}})
    with context:
        line = named("Type `m2m judge RECIPE --pairs 40`.")
    folder = recipe.parent / "m2m-runs" / "recipe+search.budget=3"
    assert line == f"Type `m2m judge {folder} --pairs 40`."


def test_after_a_failure_the_recipe_stands_in_the_hint(tmp_path: Path, finished_run: Path) -> None:
    recipe = copied(finished_run, tmp_path)
    folder = recipe.parent / "m2m-runs" / "recipe"
    (folder / "confirm.json").unlink()
    status, output = m2m("judge", recipe)
    assert status == 1
    assert f"run `m2m confirm {recipe}` first" in output
    (folder / "ranking.json").write_text('{"mixtures": 1}', encoding="utf-8")
    status, output = m2m("report", recipe)
    assert status == 1
    assert f"m2m run {recipe}`" in output
    # A folder of results is no recipe.
    status, output = m2m("report", folder)
    assert (status, "m2m run RECIPE`" in output) == (1, True)


@pytest.mark.parametrize("width", [90, 105, 120, 139, 140])
def test_the_last_column_is_never_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "stdout_console", lambda: Console(highlight=False, width=width))
    numbers = ("runs", "base", "score (95 %)", "ahead (95 %)", "wins (95 %)")
    table = make_table("run", *numbers, "winner", "verdict", right=numbers)
    scores = ("0.000 (0.000 to 0.056)", "0.008 (0.000 to 0.120)", "-", "-")
    table.add_row("seed-0 and 2 more seeds", "3", *scores, "copy", "nothing learned")
    print_table(table)
    assert {"nothing", "learned", "verdict", "seed-0"} <= {*capsys.readouterr().out.split()}


NAMES = ["Kalmomi_na_Hausa_makaranta_2025", "rediyo_kano_labarai_safiya", "sw"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_is_cut_and_no_word_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "stdout_console", lambda: Console(highlight=False, width=width))
    numbers = ("choice_bits", "95 % interval", "behind the best (95 %)", "questions")
    heads = ("rank", "=", "mixture", *numbers)
    for count in (1, 2, 3):
        table = make_table(*heads, right=("rank", *numbers))
        for rank, name in enumerate((" + ".join(NAMES[:count]), "sw"), 1):
            cells = ("0.423 ± 0.099", "0.259 to 0.635", "+0.036 (-0.108 to +0.187)", "130")
            table.add_row(str(rank), "=", name, *cells)
        print_table(table)
        shown = capsys.readouterr().out
        words = shown.split()
        assert all(name in words for name in NAMES[:count])
        assert all(word in words for cell in cells for word in cell.split())
        assert "…" not in shown
        if width >= 80:
            assert max(map(cell_len, shown.splitlines())) <= max(width, 26 + len(NAMES[0]) * count)
