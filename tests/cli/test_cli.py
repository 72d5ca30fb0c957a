from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.formats.gguf import GGUFValue
from m2m.store import run_lock
from tests.pipeline.scenario import copied, make_scenario
from tests.tiny import pico_gguf, pico_model


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def scenario(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(finished_run, tmp_path_factory.mktemp("cli"))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...], flag: str) -> None:
    found = m2m(*path, flag)
    assert found.exit_code == 0
    assert "Example:" in found.stdout or "Commands:" in found.stdout


@pytest.mark.parametrize("path", [(), ("models",), ("data",)])
def test_summaries_are_whole_at_80_columns(path: tuple[str, ...]) -> None:
    text = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).stdout
    summaries = text.partition("Commands:\n")[2].splitlines()
    assert summaries
    assert not [line for line in summaries if line.endswith("...") or len(line) > 80]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from m2m.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('numpy', 'rich', 'llama_cpp', 'gguf', 'jinja2') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_run_prints_json_on_stdout_and_the_rest_on_stderr(scenario: Path) -> None:
    found = m2m("run", scenario, "--json", "--quiet")
    assert found.exit_code == 0
    printed = json.loads(found.stdout)
    assert Path(printed["gguf"]).is_file()
    assert {"winner", "confirmed", "seconds"} <= printed.keys()


@pytest.mark.slow
def test_run_prints_tables(scenario: Path) -> None:
    table = m2m("run", scenario)
    assert "Winner" in table.stdout
    assert "choice_bits" in table.stdout


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("train", {"adapters"}),
        ("search", {"target", "metric", "mixtures", "dataset_worth", "scored_tokens"}),
        pytest.param("confirm", {"confirmed", "winner"}, marks=pytest.mark.slow),
        pytest.param("export", {"gguf", "modelfile"}, marks=pytest.mark.slow),
    ],
)
def test_each_step_prints_its_fields(scenario: Path, command: str, fields: set[str]) -> None:
    found = m2m(command, scenario, "--json", "--quiet")
    assert found.exit_code == 0
    assert fields <= json.loads(found.stdout).keys()
    assert m2m(command, scenario, "--quiet").stdout


def test_an_error_is_a_message_and_a_hint_and_no_traceback(tmp_path: Path) -> None:
    found = m2m("run", tmp_path / "none.toml")
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith("Error: cannot read")
    assert "\n\nhint: " in found.stderr
    assert "Traceback" not in found.stderr


def test_wrong_usage_exits_with_2() -> None:
    assert m2m("run").exit_code == 2
    assert m2m("merge", "--type", "q3").exit_code == 2


def test_models_are_added_listed_and_removed(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "My Pico.gguf")
    root = tmp_path / "models"
    added = m2m("models", "add", source, "--models", root, "--json")
    assert [each["name"] for each in json.loads(added.stdout)] == ["my-pico"]
    assert m2m("models", "add", source, "--models", root, "--if-missing").stdout == ""
    listed = json.loads(m2m("models", "list", "--models", root, "--json").stdout)
    assert listed[0]["architecture"] == "llama"
    assert listed[0]["parameters"] > 0
    assert m2m("models", "remove", "my-pico", "--yes", "--models", root).exit_code == 0
    assert m2m("models", "list", "--models", root, "--json").stdout.strip() == "[]"


@pytest.mark.slow
def test_a_model_whose_licence_looks_like_markup_is_added_and_listed(tmp_path: Path) -> None:
    odd = {"general.license": GGUFValue.string("MIT [/x]")}
    source, root = pico_gguf(tmp_path / "x.gguf", metadata=odd), tmp_path / "models"
    assert "MIT [/x]" in m2m("models", "add", source, "--models", root).stdout
    assert "MIT [/x]" in m2m("models", "list", "--models", root).stdout


def test_a_starter_file_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "starter.toml").write_text(
        'name = "s"\nfile = "s.gguf"\nsha256 = "00"\nlicence = "Apache-2.0"\n', encoding="utf-8"
    )
    missing = m2m("models", "add", "starter", "--models", tmp_path)
    assert missing.exit_code == 1
    assert "scripts/fetch-starter" in missing.stderr
    pico_gguf(tmp_path / "s.gguf")
    found = m2m("models", "add", "starter", "--models", tmp_path)
    assert found.exit_code == 1
    assert "expected 00" in found.stderr


@pytest.mark.slow
def test_merge_quantize_eval_and_chat(scenario: Path, tmp_path: Path) -> None:
    m2m("train", scenario, "--quiet")
    adapters = scenario.parent / "m2m-runs" / "recipe" / "adapters"
    base = ("--model", scenario.parent / "models" / "pico")
    both = ("--adapter", adapters / "copy", "--adapter", f"{adapters / 'upper'}=0.5")
    out = tmp_path / "merged.gguf"
    merged = m2m("merge", *base, *both, "--type", "f16", "--out", out, "--json")
    assert json.loads(merged.stdout)["delta_survival"]["cosine"] > 0.9
    assert m2m("merge", *base, *both, "--type", "f16", "--out", tmp_path / "hf").exit_code == 0
    assert (tmp_path / "hf" / "model.safetensors").is_file()
    whole = json.loads(m2m("merge", *base, *both, "--out", tmp_path / "hf2", "--json").stdout)
    assert whole["type"] == "f16", "a folder has the base's own type"
    assert m2m("merge", *base, *both, "--type", "q8_0", "--out", tmp_path / "hf3").exit_code == 1
    small = tmp_path / "small.gguf"
    assert "q8_0" in m2m("quantize", out, small, "--type", "q8_0").stdout
    task = scenario.parent / "dev.jsonl"
    (scored,) = json.loads(m2m("eval", small, task, "--json").stdout)["results"]
    assert scored["examples"] == 16
    assert 0 <= scored["metrics"]["accuracy"]["value"] <= 1
    log = tmp_path / "log.jsonl"
    several = m2m("eval", out, small, task, "--metric", "accuracy", "--log-samples", log)
    assert "Difference to merged.gguf, on the same examples" in several.stdout
    assert "no clear difference" in several.stdout
    assert len(log.read_text(encoding="utf-8").splitlines()) == 32
    assert m2m("eval", small).exit_code == m2m("eval", task).exit_code == 2
    drawn = ["chat", str(small), "--tokens", "5", "--temperature", "5"]
    talk = CliRunner().invoke(cli, drawn, input="copy abc\n\nupper cd\n")
    assert talk.exit_code == 0
    assert talk.stdout.strip()


def test_an_interrupted_run_exits_with_130_and_names_the_line_that_resumes(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path / "a folder")
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 2000")
    recipe.write_text(text, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "m2m", "train", str(recipe)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        checkpoint = recipe.parent / "m2m-runs" / "recipe" / "adapters"
        while process.poll() is None and not list(checkpoint.glob("*.checkpoint.safetensors")):
            time.sleep(0.02)
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"go on with `m2m train '{recipe}'`" in said
    assert "Traceback" not in said


def test_ctrl_c_in_any_command_exits_with_130_and_names_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(roots: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("m2m.checkpoint.list_models", stopped)
    monkeypatch.setattr(sys, "argv", ["m2m", "models", "list"])
    found = m2m("models", "list", "--models", "a")
    assert found.exit_code == 130
    assert found.stderr == "stopped\n\nhint: go on with `m2m models list`\n"


def broken_recipe(folder: Path, **changes: str) -> Path:
    """A working scenario's recipe with texts replaced."""
    recipe = make_scenario(folder)
    text = recipe.read_text(encoding="utf-8")
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after, 1)
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_bad_inputs_are_told_before_any_long_work(tmp_path: Path) -> None:
    recipe = broken_recipe(tmp_path, **{'"copy.jsonl"': '"gone.jsonl"', "rank = 4": "rank = 0"})
    found = m2m("run", recipe)
    assert found.exit_code == 1
    assert "gone.jsonl" in found.stderr
    assert "rank must be" in found.stderr
    assert not (tmp_path / "m2m-runs").exists()


def test_a_metric_that_does_not_fit_is_told(tmp_path: Path) -> None:
    change = {'dev = "dev.jsonl"': 'dev = "dev.jsonl"\nmetric = "contrast_bits"'}
    found = m2m("search", broken_recipe(tmp_path, **change))
    assert found.exit_code == 1
    assert "contrast_bits" in found.stderr
    assert "choose auto or one of choice_bits" in found.stderr


def test_a_truncated_gguf_is_told(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "whole.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(source.read_bytes()[:-1000])
    for command in (("models", "add", cut, "--models", tmp_path / "models"), ("chat", cut)):
        found = m2m(*command)
        assert found.exit_code == 1
        assert "cut.gguf" in found.stderr
    assert not list((tmp_path / "models").glob("*/"))


def test_an_adapter_of_another_base_is_told(trained_run: Path, tmp_path: Path) -> None:
    other = pico_model(tmp_path / "models", seed=9, name="other")
    adapter = trained_run.parent / "m2m-runs" / "recipe" / "adapters" / "copy"
    out = tmp_path / "m.gguf"
    found = m2m("merge", "--model", other, "--adapter", adapter, "--out", out)
    assert found.exit_code == 1
    assert "base" in found.stderr
    assert not out.exists()


def test_a_second_run_on_the_same_folder_is_refused(scenario: Path) -> None:
    with run_lock(scenario.parent / "m2m-runs" / "recipe"):
        found = m2m("train", scenario)
    assert found.exit_code == 1
    assert f"pid {os.getpid()}" in found.stderr
