"""Files without a recipe: `m2m data preview` and `m2m data check` read them as `m2m init` does."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.commands.data_preview import preview_dataset
from m2m.errors import RecipeError
from m2m.recipe import load_recipe
from tests.cases.test_mappings import DATA, KINDS
from tests.tiny import pico_model, write_jsonl

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lines are split as Bash does it")
LABELS = [{"text": f"leo {i}", "label": i % 2} for i in range(4)]
FIELDS = ("prompt", "completion", "text", "messages", "choices", "labels", "answers", "where")
INIT = ["init", "--model", "pico", "--target", "zz.jsonl", "--template", "plain", "--data"]
NATIVE = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": ""}]
FILES: dict[str, bytes] = {
    "words.csv": b"kitabu,book\nmti,tree\nmaji,water\n",
    "cp1252.csv": "prompt,completion\n\xe9t\xe9,saison\n".encode("cp1252"),
    "ragged.csv": b"prompt,completion\na,b\nc,d,e\n",
    "marks.tsv": b'prompt\tcompletion\nmaji\t"water\nmoto\tfire\njua\tsun"\n',
    "lists.json": json.dumps([["kitabu", "book"], ["nchi", "land"]]).encode(),
    "stars.jsonl": b"".join(
        json.dumps({"prompt": f"p {i}", "response": f"r {i}", "rating": i % 3}).encode() + b"\n"
        for i in range(9)
    ),
    "empty.jsonl": b"",
    "bare.jsonl": b"{}\n{}\n",
    "page.html": b"<!DOCTYPE html><html></html>",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a target."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path / "models"))
    pico_model(tmp_path / "models")
    write_jsonl(tmp_path / "zz.jsonl", [{"prompt": f"Ni {a}?", "answer": a} for a in "abcd"])
    return tmp_path


def m2m(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words], catch_exceptions=False)


def lines_of(output: str, start: str) -> list[str]:
    """Return the options of the commands in an output, without the files that they name."""
    lines = [line.strip() for line in output.splitlines()]
    found = [line.removeprefix(start).split(" --", 1) for line in lines if line.startswith(start)]
    return [options for _, *options in found for options in options]


@pytest.mark.parametrize("name", [*KINDS, *FILES])
def test_all_three_commands_read_a_file_alike(folder: Path, name: str) -> None:
    for one in name.split():
        if one in FILES:
            (folder / one).write_bytes(FILES[one])
        else:
            shutil.copy(DATA / one, folder / one)
    options = ["--target", "zz.jsonl", "--template", "plain", "--out", "r.toml"]
    init = m2m("init", "--model", "pico", "--data", *name.split(), *options)
    preview = m2m("data", "preview", *name.split())
    check = m2m("data", "check", *name.split())
    assert preview.exit_code == init.exit_code, preview.output
    asks = "Question: " in init.output
    assert ("Question: " in preview.output) == asks, preview.output
    assert (check.exit_code == 1) == (init.exit_code == 1 or asks), check.output
    if init.exit_code == 1:
        rest = "--target zz.jsonl --template plain --out r.toml "
        offered = lines_of(init.output.replace(rest, ""), "m2m init --model pico --data")
        assert lines_of(preview.output, "m2m data preview") == offered
        assert lines_of(check.output, "m2m data check") == offered
        return
    (shown,) = json.loads(m2m("data", "preview", *name.split(), "--json").stdout)
    (checked,) = json.loads(m2m("data", "check", *name.split(), "--json").stdout)
    text = Path("r.toml").read_text(encoding="utf-8").split("[[targets]]")[0]
    fields = [line for line in text.splitlines() if line.split(" = ")[0] in FIELDS]
    assert ", ".join(fields) in shown["mapping"]
    assert bool(fields) == bool(shown["mapping"])
    assert checked["reading"].startswith(shown["mapping"])
    assert (checked["rows"], checked["format"]) == (shown["rows"], shown["format"])
    if asks:
        with pytest.raises(RecipeError, match=r"\?"):
            load_recipe(Path("r.toml"))
        return
    of_recipe = preview_dataset(load_recipe(Path("r.toml")).datasets[0], None)
    assert shown["shown"] == json.loads(json.dumps(of_recipe.as_json()["shown"]))


def test_the_line_with_the_mapping_can_be_typed(folder: Path) -> None:
    """What is shown as options reads the file as m2m reads it alone."""
    shutil.copy(DATA / "m02_abcd.csv", folder)
    alone = m2m("data", "preview", "m02_abcd.csv")
    line = next(line for line in alone.output.splitlines() if "(options: " in line)
    options = shlex.split(line.partition("(options: ")[2].removesuffix(")"))
    given = m2m("data", "preview", "m02_abcd.csv", *options)
    assert (given.exit_code, alone.exit_code) == (0, 0)
    assert alone.output.split("line 2")[1] == given.output.split("line 2")[1]


def test_a_question_is_answered_by_the_line_that_is_offered(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", LABELS)
    for command in ("preview", "check"):
        asked = m2m("data", command, "a.jsonl")
        (line,) = [x.strip() for x in asked.output.splitlines() if x.strip().startswith("m2m data")]
        words = shlex.split(line)[1:]
        assert words[3:] == ["--labels", "0=?0", "--labels", "1=?1"]
        assert m2m(*words).exit_code == 2  # the words are still missing
        filled = [word.replace("?0", "hasi").replace("?1", "chanya") for word in words]
        answered = m2m(*filled)
        assert answered.exit_code == 0, answered.output
        assert "Question" not in answered.output
    assert ">>>hasi<<<" in m2m("data", "preview", "a.jsonl", *filled[3:]).output


def test_a_target_is_read_as_init_reads_it(folder: Path) -> None:
    rows = [{"premise": f"p {i}", "hypothesis": "h", "label": "ab"[i % 2]} for i in range(4)]
    write_jsonl(folder / "a.jsonl", rows)
    write_jsonl(folder / "b.jsonl", [{"prompt": "x", "completion": "y"}])
    shown = m2m("data", "preview", "--target", "a.jsonl")
    assert 'prompt = "{premise}\\n{hypothesis}", answer = "{label}"' in shown.output
    assert "other: b" in shown.output
    checked = m2m("data", "check", "b.jsonl", "--target", "a.jsonl")
    assert checked.exit_code == 0, checked.output
    assert 'answer = "{label}"' in " ".join(checked.output.split())


def test_bad_rows_are_shown_and_refused(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", NATIVE)
    shown = m2m("data", "preview", "a.jsonl")
    assert ">>>b<<<" in shown.output
    assert shown.output.count('line 2: "completion" is empty') == 2  # at its row, in the error
    (line,) = [x.strip() for x in shown.output.splitlines() if "--bad-rows skip" in x]
    assert shown.exit_code == 1
    left = m2m(*shlex.split(line)[1:])
    assert (left.exit_code, "1 bad row is left out" in left.output) == (0, True), left.output


def test_two_files_with_questions_get_one_line_that_answers_both(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", [{"text": "a", "topic": "x", "tone": "y"}] * 3)
    write_jsonl(folder / "b.jsonl", [{"text": "b", "topic": "x", "tone": "y"}] * 3)
    for command in ("preview", "check"):
        asked = m2m("data", command, "a.jsonl", "b.jsonl")
        first = next(x.strip() for x in asked.output.splitlines() if "--prompt" in x)
        assert first.startswith(f"m2m data {command} a.jsonl b.jsonl --prompt")
        assert m2m(*shlex.split(first)[1:]).exit_code == 0
    assert m2m("data", "preview", "a.jsonl", "zz.jsonl", "--prompt", "{none}").exit_code == 1


def test_a_file_with_several_parts_gets_a_line_for_each_that_can_be_read(folder: Path) -> None:
    rows = [{"instruction": f"swali {i}", "response": f"jibu {i}"} for i in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("data/train.jsonl", lines)
        archive.writestr("data/test set.jsonl", lines)
        archive.writestr("bad.jsonl", "{broken\n")
        archive.writestr("splits.json", json.dumps({"train": rows, "test": rows}))
    columns = {"instruction": ["a"], "response": ["b"]}
    texts: dict[str, tuple[Any, list[str]]] = {
        "splits.json": ({"train": rows, "test": rows}, ["train", "test"]),
        "columns.json": ({"train": columns, "test": columns}, ["train", "test"]),
        "inside.json": ({"data": {"train": rows, "dev": rows}}, ["data/train", "data/dev"]),
        "languages.json": ({"sw": rows, "ha": rows}, ["sw", "ha"]),
        "rows.json": ({"my_rows": rows, "version": "1"}, ["my_rows"]),
    }
    for name, (value, parts) in texts.items():
        (folder / name).write_text(json.dumps(value))
        for command in (["data", "preview"], ["data", "check"], INIT):
            output = m2m(*command, name).output
            found = [shlex.split(line) for line in output.splitlines() if "  m2m " in line]
            assert [f"{name}/{part}" in line for line, part in zip(found, parts, strict=True)]
            assert all(f'path = "{name}/{part}"' in output for part in parts)
            done = m2m(*found[-1][1:])
            assert done.exit_code == 0, done.output
        Path("recipe.toml").unlink()
    output = m2m("data", "preview", "a.zip").output
    found = [shlex.split(line) for line in output.splitlines() if "  m2m " in line]
    assert [line[-1] for line in found] == [
        f"a.zip/{name}"
        for name in (
            "data/train.jsonl",
            "data/test set.jsonl",
            "splits.json/train",
            "splits.json/test",
        )
    ]
    assert all(m2m(*line[1:]).exit_code == 0 for line in found)


def test_tool_calls_are_shown_as_json(folder: Path) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ségou"}}}
    turns = [{"role": "user", "content": "Hali?"}, {"role": "assistant", "tool_calls": [call]}]
    write_jsonl(folder / "a.jsonl", [{"messages": turns}])
    output = m2m("data", "preview", "a.jsonl").output
    assert '"arguments":{"city":"Ségou"}' in output
    assert "{'" not in output
