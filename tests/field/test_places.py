"""Odd machines: other locales, clocks and folders, and no network anywhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from m2m.cli.main import cli
from m2m.evaluate.tasks import requests
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import load_recipe
from tests.field.places import REPOSITORY, assert_same, environment, m2m, outcome, run
from tests.field.test_disk import in_own_namespace, plain_user
from tests.tiny import pico_gguf

TASKS = REPOSITORY / "tests" / "golden" / "harness"
ODD = "häme 'wa' \N{ETHIOPIC SYLLABLE HA} $HOME & (1)"


@pytest.mark.slow
def test_spaces_quotes_and_letters_of_any_script_in_every_path_without_a_utf8_locale(
    untouched: Path, tmp_path: Path, expected: dict[str, str | bytes]
) -> None:
    recipe = Path(shutil.copytree(untouched.parent, tmp_path / ODD)) / "recipe.toml"
    """And without a home, a user's name, a folder for temporary files or a terminal."""
    gone = dict.fromkeys(("HOME", "USER", "LOGNAME", "TMPDIR", "TERM", "XDG_CACHE_HOME", "LANG"))
    env = environment(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", **gone)
    done = m2m("run", recipe, "--json", env=env)
    assert done.returncode == 0, done.stderr
    # Python shows the bytes of a path that the locale cannot spell; JSON keeps them all the same.
    assert Path(os.fsdecode(os.fsencode(json.loads(done.stdout)["gguf"]))).exists()
    found = outcome(recipe)
    assert sorted(found) == sorted(expected)
    weights = [name for name in expected if name.endswith((".gguf", ".safetensors"))]
    assert all(found[name] == expected[name] for name in weights)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux")
def test_a_folder_whose_name_is_no_text_at_all(untouched: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9"))
    recipe = Path(shutil.copytree(untouched.parent, folder)) / "recipe.toml"
    done = m2m("train", recipe, "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(
        (folder / "m2m-runs" / "recipe" / "recipe.json").read_text(encoding="utf-8")
    )
    assert Path(written["recipe"]) == recipe


@pytest.mark.soak
@pytest.mark.parametrize("now", [0.0, 1.0, 4_102_444_800.0], ids=["1970", "back", "2100"])
def test_a_wrong_clock_changes_nothing(
    done: Path, expected: dict[str, str | bytes], now: float
) -> None:
    """The first part ran by a right clock; files seem to come from the future, or from long ago."""
    for path in done.parent.rglob("*"):
        os.utime(path, (now, now))
    shutil.rmtree(done.parent / "m2m-runs" / "recipe" / "confirm")
    code = (
        "import time, itertools\n"
        f"ticks = itertools.count({now})\n"
        "time.time = lambda: float(next(ticks))\n"
        "time.time_ns = lambda: int(next(ticks) * 1e9)\n"
        "from m2m.cli.main import main; main()"
    )
    again = run([sys.executable, "-c", code, "run", str(done), "--quiet"])
    assert again.returncode == 0, again.stderr
    assert_same(outcome(done), expected)


@pytest.mark.soak
def test_without_a_ram_disk_the_scratch_model_lies_in_the_runs_own_folder(
    done: Path, expected: dict[str, str | bytes]
) -> None:
    """Also: with read-only code, and with a read-only models folder."""
    (done.parent / "m2m-runs" / "recipe" / "study.jsonl").unlink()
    script = (
        'mount -t tmpfs -o ro none /dev/shm && mount --bind "$1" "$1" && '
        'mount -o remount,bind,ro "$1" && mount --bind "$2" "$2" && '
        'mount -o remount,bind,ro "$2" && exec "$3" -m m2m run "$4" --quiet'
    )
    models = done.parent / "models"
    parts = [REPOSITORY / "m2m", models, sys.executable, done]
    again = run([*in_own_namespace(), "sh", "-c", script, "sh", *map(str, parts)])
    assert again.returncode == 0, again.stderr
    assert_same(outcome(done), expected)


@pytest.mark.soak
def test_a_user_who_may_not_write_the_models_folder_can_run_all_the_same(done: Path) -> None:
    models = done.parent / "models" / "pico"
    (done.parent / "m2m-runs" / "recipe" / "study.jsonl").unlink()
    stamp = models / "base.gguf"
    os.utime(stamp, (1, 1))  # so that the remembered fingerprint no longer holds
    models.chmod(0o555)
    try:
        start = [*plain_user(), sys.executable, "-m", "m2m"]
        again = run([*start, "search", str(done), "--quiet"])
    finally:
        models.chmod(0o755)
    assert again.returncode == 0, again.stderr


def read_all(recipe: Path) -> list[object]:
    """What a run would train on and score, as numbers."""
    inputs = read_inputs(load_recipe(recipe))
    samples = [s.ids.tolist() for corpus in inputs.corpora.values() for s in corpus.samples]
    tasks = [*inputs.dev.values(), *inputs.test.values()]
    return [samples, *(requests(task, inputs.formatter) for task in tasks)]


def test_windows_line_ends_and_byte_order_marks_change_no_number(recipe: Path) -> None:
    before = read_all(recipe)
    names = ("copy.jsonl", "reverse.jsonl", "upper.jsonl", "dev.jsonl", "test.jsonl", "recipe.toml")
    for path in (recipe.parent / name for name in names):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_all(recipe) == before


def commands(recipe: Path, folder: Path) -> dict[str, list[list[object]]]:
    """Every command on a finished run, each with something to do."""
    run_folder = recipe.parent / "m2m-runs" / "recipe"
    adapter, data = run_folder / "adapters" / "copy", recipe.parent / "copy.jsonl"
    model, gguf, dev = recipe.parent / "models/pico", folder / "x.gguf", recipe.parent / "dev.jsonl"
    models, copied = ["--models", folder / "models"], folder / "copied"
    steps = ("plan", "train", "search", "confirm", "validate", "export", "report", "run")
    return {
        **{step: [[step, recipe, "--quiet"]] for step in steps},
        "models": [
            ["models", "add", gguf, *models],
            ["models", "list", *models],
            ["models", "remove", "x", "--yes", *models],
        ],
        "merge": [["merge", "--model", model, "--adapter", adapter, "--out", folder / "m.gguf"]],
        "quantize": [["quantize", gguf, folder / "q.gguf", "--type", "q8_0"]],
        "eval": [["eval", gguf, dev]],
        "chat": [["chat", gguf, "--tokens", "2"]],
        "data": [["data", "check", data, "--model", model]],
        "init": [["init", "--model", model, "--data", data, "--target", dev]],
        "doctor": [["doctor"]],
        "completion": [["completion", "bash"]],
        "merge-runs": [["merge-runs", copied, "--into", run_folder]],
        "demo": [["demo", recipe, "--quiet"]],
        "judge": [["judge", recipe, "--quiet"]],
        "more-rows": [["more-rows", recipe, "--dataset", "copy", "--quiet"]],
        "compare": [["compare", run_folder, copied]],
        "explain": [["explain", "rank"]],
        "tasks": [["tasks", "list", TASKS], ["tasks", "show", "m2m_choices", TASKS, "--json"]],
    }


def test_every_command_is_known_to_the_trace_below(tmp_path: Path) -> None:
    assert cli.commands.keys() <= commands(tmp_path, tmp_path).keys()


@pytest.mark.soak
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_command_reaches_for_the_network(done: Path, tmp_path: Path) -> None:
    """The kernel's word: no socket beyond this machine is so much as made."""
    pico_gguf(tmp_path / "x.gguf")
    shutil.copytree(done.parent / "m2m-runs" / "recipe", tmp_path / "copied")
    lines = ["echo 'copy abc' > asked"]
    for name, calls in commands(done, tmp_path).items():
        for call in calls if name in cli.commands else []:
            words = shlex.join([sys.executable, "-m", "m2m", *map(str, call)])
            lines.append(f"{words} < asked > /dev/null || echo failed: {name}")
    trace = tmp_path / "trace"
    traced_calls = "trace=socket,connect,bind,sendto,sendmsg"
    command = ["strace", "-f", "-qq", "-e", traced_calls, "-o", str(trace), "sh", "-c"]
    env = environment(M2M_MODELS=str(done.parent / "models"))
    traced = run([*command, "\n".join(lines)], cwd=tmp_path, env=env, timeout=3600)
    if "ptrace" in traced.stderr.lower():
        pytest.skip("may not trace here")
    assert traced.stdout == "", traced.stderr
    calls_made = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    assert not [line for line in calls_made if re.search(r"AF_(?!UNIX|UNSPEC)|PF_INET", line)]
