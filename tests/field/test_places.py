"""Odd machines: other locales, clocks and folders, and no network anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.field.places import REPOSITORY, assert_same, environment, m2m, outcome, run, told
from tests.field.test_disk import in_own_namespace, plain_user
from tests.tiny import pico_gguf

ODD = "häme 'wa' \N{ETHIOPIC SYLLABLE HA} $HOME & (1)"


def test_spaces_quotes_and_letters_of_any_script_in_every_path_without_a_utf8_locale(
    untouched: Path, tmp_path: Path, expected: dict[str, str | bytes]
) -> None:
    recipe = Path(shutil.copytree(untouched.parent, tmp_path / ODD)) / "recipe.toml"
    env = environment(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", LANG=None)
    done = m2m("run", recipe, "--json", env=env)
    assert done.returncode == 0, done.stderr
    # Python shows the bytes of a path that the locale cannot spell; JSON keeps them all the same.
    assert Path(os.fsdecode(os.fsencode(json.loads(done.stdout)["gguf"]))).exists()
    found = outcome(recipe)
    assert sorted(found) == sorted(expected)
    weights = [name for name in expected if name.endswith((".gguf", ".safetensors"))]
    assert all(found[name] == expected[name] for name in weights)


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


def test_without_home_user_temp_or_terminal(recipe: Path) -> None:
    gone = dict.fromkeys(("HOME", "USER", "LOGNAME", "TMPDIR", "TERM", "XDG_CACHE_HOME", "LANG"))
    done = m2m("search", recipe, "--json", env=environment(**gone))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mixtures"]


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


def test_windows_line_ends_and_byte_order_marks_change_no_number(
    recipe: Path, expected: dict[str, str | bytes]
) -> None:
    names = ("copy.jsonl", "reverse.jsonl", "upper.jsonl", "dev.jsonl", "test.jsonl", "recipe.toml")
    for path in (recipe.parent / name for name in names):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    done = m2m("search", recipe, "--quiet")
    assert done.returncode == 0, done.stderr
    ranking = outcome(recipe)["ranking.json"]
    assert ranking == expected["ranking.json"]


def commands(recipe: Path, folder: Path) -> list[list[object]]:
    """Every command of m2m on a finished run, each with something to do."""
    adapter = recipe.parent / "m2m-runs" / "recipe" / "adapters" / "copy"
    model, gguf = recipe.parent / "models" / "pico", pico_gguf(folder / "x.gguf")
    steps = [[step, recipe, "--quiet"] for step in ("train", "search", "confirm", "export", "run")]
    return [
        *steps,
        ["models", "add", gguf, "--models", folder / "models"],
        ["models", "list", "--models", folder / "models"],
        ["models", "remove", "x", "--yes", "--models", folder / "models"],
        ["merge", "--model", model, "--adapter", adapter, "--out", folder / "m.gguf"],
        ["quantize", gguf, folder / "q.gguf", "--type", "q8_0"],
        ["eval", gguf, recipe.parent / "dev.jsonl"],
        ["chat", gguf, "--tokens", "2"],
        ["--help"],
    ]


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_command_reaches_for_the_network(done: Path, tmp_path: Path) -> None:
    """The kernel's word: no socket beyond this machine is so much as made."""
    script = "\n".join(
        " ".join([sys.executable, "-m", "m2m", *(f"'{part}'" for part in command)])
        + " < /dev/null > /dev/null || exit 9"
        for command in commands(done, tmp_path)
    )
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,bind,sendto,sendmsg"
    traced = run(["strace", "-f", "-qq", "-e", calls, "-o", str(trace), "sh", "-c", script])
    if "ptrace" in traced.stderr.lower():
        pytest.skip("may not trace here")
    assert traced.returncode == 0, traced.stderr
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    outside = [line for line in lines if re.search(r"AF_(?!UNIX|UNSPEC)|PF_INET", line)]
    assert not outside


def test_every_command_is_in_the_list_above() -> None:
    from m2m.cli.main import cli

    known = {str(command[0]) for command in commands_named()}
    missing = {name for name in cli.commands if name not in known}
    assert missing <= NOT_TRACED


# Commands that others test, or that are these by another name; each with its reason.
NOT_TRACED: set[str] = set()


def commands_named() -> list[list[object]]:
    names = ("train", "search", "confirm", "export", "run", "models", "merge", "quantize", "eval")
    return [[name] for name in (*names, "chat")]


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


def test_a_broken_command_tells_it_in_plain_words_without_a_terminal(tmp_path: Path) -> None:
    message = told(m2m("run", tmp_path / ODD / "none.toml"))
    assert "none.toml" in message
    assert "\x1b" not in message
