"""A group of tasks is scored task by task, and its numbers are those of all examples together.

The values of the tasks are those that lm-eval 0.4.13 recorded (tests/golden/harness/results.json).
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path

import pytest

from m2m.cli import show
from m2m.commands.eval import Comparison, compare_models
from m2m.commands.eval_files import write_results
from m2m.commands.eval_groups import load_with_groups
from m2m.errors import InputError
from m2m.evaluate.harness import load_harness
from m2m.recipe import Target
from tests.evaluate.test_harness import written
from tests.tiny import pico_gguf

FOLDER = Path(__file__).parent.parent / "golden" / "harness"
GROUP = FOLDER / "group.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(pico_gguf(tmp_path_factory.mktemp("model") / "pico.gguf"))


@pytest.fixture(scope="module")
def compared(model: str) -> Comparison:
    return compare_models([model], [GROUP], Target("t", GROUP))


def test_a_group_has_the_accuracy_of_all_its_examples(compared: Comparison) -> None:
    recorded = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))["results"]
    tasks = [recorded["choices"], recorded["labels"]]
    sizes = [len(task["loglik"]) for task in tasks]
    parts = [(n, task["metrics"]["acc"]) for task, n in zip(tasks, sizes, strict=True)]
    (group, inner) = compared.groups
    assert (group.group.name, inner.group.name) == ("m2m_group", "m2m_group::words")
    acc, count = group.metrics["acc,none"], sum(sizes)
    assert acc.value == pytest.approx(sum(n * p for n, p in parts) / count)
    pooled = sum(n * p * (1 - p) for n, p in parts) / (count - len(parts))
    assert acc.stderr == pytest.approx(math.sqrt(pooled / count), rel=0.02)
    assert inner.metrics == {}
    data = compared.as_json()
    assert [result["examples"] for result in data["results"]] == sizes
    assert data["groups"][0]["tasks"] == ["m2m_choices", "m2m_labels"]
    assert data["groups"][0]["examples"] == count


def test_the_files_have_the_group_as_lm_eval_writes_it(
    compared: Comparison, tmp_path: Path
) -> None:
    files = write_results(compared, tmp_path, datetime.datetime.now())
    made = json.loads(files[-1].read_text(encoding="utf-8"))
    assert made["group_subtasks"] == {
        "m2m_group": ["m2m_choices", "m2m_group::words"],
        "m2m_group::words": ["m2m_labels"],
    }
    group = made["groups"]["m2m_group"]
    assert group == made["results"]["m2m_group"]
    assert group["acc,none"] == compared.groups[0].metrics["acc,none"].value
    assert group["sample_count"] == {"acc,none": group["sample_len"]}
    assert made["higher_is_better"]["m2m_group"]["acc"] is True


def test_the_terminal_shows_tasks_and_group(
    compared: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    show.comparison(compared)
    said = capsys.readouterr().out
    assert "the group m2m_group: 2 tasks, " in said
    assert "acc,none" in said


def test_all_tasks_that_cannot_be_asked_are_named(model: str, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\ndoc_to_text: x\n", "utf-8")
    path = tmp_path / "group.yaml"
    path.write_text("group: g\ntask: [a, b]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"the group g: 2 problems") as caught:
        compare_models([model], [path], Target("t", path))
    assert "- a: " in caught.value.message
    assert "- b: " in caught.value.message


def test_a_task_of_two_groups_is_scored_once(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path, task=f"own_{name}").rename(tmp_path / f"{name}.yaml")
    whole = {"group": "g", "task": [{"group": "x", "task": ["own_a"]}, "own_a", "own_b"]}
    path = tmp_path / "group.yaml"
    path.write_text(json.dumps(whole), encoding="utf-8")
    tasks, (outer, inner) = load_with_groups([path], [], lambda at: load_harness(at, "test"))
    assert [task.name for task in tasks] == ["own_a", "own_b"]
    assert [len(group.tasks) for group in (outer, inner)] == [3, 1]
    whole["task"] = [{"group": "x", "task": ["own_a"], "description": "Other. "}, "own_a"]
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(InputError, match="two of the tasks are called 'own_a'"):
        load_with_groups([path], [], lambda at: load_harness(at, "test"))
