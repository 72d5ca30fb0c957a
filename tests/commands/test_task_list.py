from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from tests.evaluate.test_task_catalogue import folder
from tests.tiny import write_jsonl

__all__ = ["folder"]
MORE = {
    "d/asks.yaml": "include: ../a/_base_yaml\ntask: asks\ntest_split: test\ndoc_to_text: q\n"
    "doc_to_target: a\ndoc_to_choice: [x, y]\nmetric_list: [{metric: acc}]\n",
    "d/runs.yaml": "include: asks.yaml\ntask: runs\nprocess_docs: !function utils.read\n",
    "d/scores.yaml": "include: asks.yaml\ntask: scores\nprocess_results: !function utils.score\n",
    "d/scores2.yaml": "include: scores.yaml\ntask: scores2\n",
    "d/utils.py": "def read(docs):\n    while True:\n        docs = docs.map(str)\n",
}


@pytest.fixture
def tasks(folder: Path) -> Path:
    (folder / "d").mkdir()
    for name, text in MORE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["tasks", *map(str, arguments)])


def test_a_list_says_what_m2m_can_ask(tasks: Path) -> None:
    made = json.loads(run("list", tasks, "--json", "-q").stdout)
    rows = {row["name"]: row for row in made["tasks"]}
    assert made["names"] == {"task": 6, "group": 2, "tag": 2, "program": 1}
    assert len(made["unreadable"]) == 3
    assert rows["asks"]["loads"] and rows["asks"]["data"] == "missing"
    assert rows["asks"]["splits"] == {"test_split": "test"}
    assert rows["asks"]["metrics"] == ["acc"]
    assert "line 2: `while True:`" in rows["runs"]["reason"]
    assert "process_docs: null" in rows["runs"]["remedy"]
    assert "Python class" in rows["program"]["reason"]
    assert rows["g"]["members"] == ["one_swa", "inner", "t"]
    assert all(row["remedy"] for row in rows.values() if row.get("reason"))


def test_data_that_is_here(tasks: Path, tmp_path: Path) -> None:
    home = tmp_path / "sets" / "org" / "set"
    home.mkdir(parents=True)
    write_jsonl(home / "test.jsonl", [{"q": "?", "a": "x"}])
    root = tmp_path / "sets"
    found = run("list", tasks, "--name", "asks", "--data-root", root)
    assert found.exit_code == 0
    assert "yes" in next(line for line in found.stdout.splitlines() if "asks" in line)
    (tasks / "set").mkdir()  # tasks that are called as their set are no data
    (tasks / "set" / "x.yaml").write_text("task: x\n", encoding="utf-8")
    assert "missing" in run("list", tasks, "--name", "asks", "--json", "-q").stdout


def test_reasons_are_counted(tasks: Path) -> None:
    lines = run("list", tasks, "--name", "*s*", "--reasons", "-q").stdout.splitlines()
    assert any(line.split()[:2] == ["2", "`process_results`"] for line in lines)
    assert lines[-1] == "m2m can ask 1 of 5 tasks if their data is here"


def test_files_can_be_given_to_another_command(tasks: Path) -> None:
    assert run("list", tasks, "--tag", "t", "--files", "-q").stdout.splitlines() == [
        str(tasks / place)
        for place in ("d/asks.yaml", "a/one_swa.yaml", "d/runs.yaml", "d/scores.yaml")
        if place
    ] + [str(tasks / "d" / "scores2.yaml")]


def test_one_task_is_explained(tasks: Path) -> None:
    said = run("show", "scores", tasks, "-q").stdout
    assert "m2m cannot ask it: `process_results` is not supported" in said
    assert "m2m can ask it" in run("show", "asks", tasks, "-q").stdout
    assert "members: one_swa, inner, t" in run("show", "g", tasks, "-q").stdout
    missing = run("show", "SCORE", tasks, "-q")
    assert missing.exit_code == 1
    assert "near are scores, scores2" in missing.stderr
    assert "near are scores2, scores" in run("show", "scoers2", tasks, "-q").stderr


def test_it_says_how_to_get_data_that_is_missing(tasks: Path, tmp_path: Path) -> None:
    said = run("show", "asks", tasks, "-q").stdout
    assert "data: missing" in said
    (line,) = [line for line in said.splitlines() if line.startswith("fetch: ")]
    name = json.loads(run("show", "asks", tasks, "-q", "--json").stdout)["dataset_path"]
    assert f"`hf download {name} --repo-type dataset --local-dir {name}`" in line
    root = tmp_path / "sets"
    (root / name).mkdir(parents=True, exist_ok=True)
    assert "fetch" not in run("show", "asks", tasks, "--data-root", root, "-q").stdout
