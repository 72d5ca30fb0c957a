from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.harness import load_harness
from m2m.evaluate.targets import load_target
from m2m.evaluate.task_groups import Aggregate, Group, Member, aggregated, aggregates_of, read_group
from m2m.recipe import Target
from tests.evaluate.test_harness import TASK, written

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "groups.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_numbers_of_a_group_are_lm_evals(case: dict[str, Any]) -> None:
    """Recorded by tests/peer/test_task_groups.py with lm-eval 0.4.13."""
    members = tuple(Member(name, Path("t.yaml")) for name in case["tasks"])
    aggregates = tuple(aggregates_of(Path("g.yaml"), case["list"]))
    ours = aggregated(Group("g", "G", members, aggregates), case["table"])
    assert ours.keys() == case["result"].keys()
    for key, value in case["result"].items():
        assert ours[key] == (pytest.approx(value) if isinstance(value, float) else value), key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tasks, one of them in a folder, and groups of them."""
    path = written(tmp_path)
    for name, keys in (("one", {}), ("two", {"tag": "tagged"}), ("three", {"tag": ["tagged"]})):
        place = tmp_path / f"{name}.yaml"
        place.write_text(json.dumps(TASK | {"task": name} | keys), encoding="utf-8")
    path.unlink()
    return tmp_path


def group(folder: Path, **keys: Any) -> Group:
    path = folder / "group.yaml"
    path.write_text(json.dumps({"group": "g"} | keys), encoding="utf-8")
    made = read_group(path)
    assert made
    return made


def test_members_are_names_tags_groups_and_tasks_of_the_group(folder: Path) -> None:
    (folder / "inner.yaml").write_text("group: inner\ntask: [one]\nnum_fewshot: 1\n", "utf-8")
    inline = {**TASK, "task": "own"}
    made = group(folder, task=["tagged", "inner", {"group": "new", "task": ["two"]}, inline])
    assert [task.name for task in made.tasks] == ["three", "two", "one", "two", "g::own"]
    assert [inner.name for inner in made.groups] == ["g", "inner", "g::new"]
    assert made.tasks[2].changes["num_fewshot"] == 1
    assert made.tasks[-1].alone
    task = load_harness(made.tasks[-1], "test")
    assert task.harness and task.harness.name == "g::own"


def test_keys_of_a_group_are_those_of_its_tasks(folder: Path) -> None:
    changes = {"description": "Group.\n", "num_fewshot": 1, "fewshot_split": "dev"}
    made = group(folder, task=["one", {"task": "two", "description": "Two.\n"}], **changes)
    contexts = [load_harness(task, "test").examples[0].contexts[0] for task in made.tasks]
    assert contexts[0].startswith("Group.\nQ: dev")
    assert contexts[1].startswith("Two.\nQ: dev")
    alone = load_harness(folder / "one.yaml", "test")
    assert alone.fingerprint != load_harness(made.tasks[0], "test").fingerprint


def test_a_task_file_is_no_group(folder: Path) -> None:
    assert read_group(folder / "one.yaml") is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"task": ["four"]}, "there is no task, group or tag called 'four'"),
        ({"task": [{"use_prompt": "x"}]}, "which names no task"),
        ({"task": [1]}, "has 1, which names no task"),
        ({"task": "one"}, "has no tasks"),
        ({"task": ["g"]}, "more than 16 deep"),
        ({"task": [{"group": "g", "task": ["one"]}]}, "is a group of .*, and `task` is set here"),
        ({"task": ["one"], "aggregate_metric_list": [1]}, "name a `metric`|has 1"),
        (
            {"task": ["one"], "aggregate_metric_list": {"metric": "acc", "aggregation": "max"}},
            "has aggregation: max",
        ),
        ({"task": ["one"], "aggregate_metric_list": {"metric": "acc", "by": 1}}, "list has by"),
    ],
)
def test_what_is_wrong_in_a_group_is_named(folder: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        group(folder, **keys)
    assert caught.value.hint


def test_names_are_looked_for_in_other_folders_if_the_user_allows(folder: Path) -> None:
    path = folder / "groups" / "g.yaml"
    path.parent.mkdir()
    path.write_text("group: g\ntask: [one]\n", encoding="utf-8")
    with pytest.raises(InputError, match="no task, group or tag called 'one'"):
        read_group(path)
    made = read_group(path, [folder])
    assert made and made.tasks[0].path == folder / "one.yaml"
    assert made.aggregates == () == tuple(aggregates_of(path, None))
    assert Aggregate("acc").by_size


def test_a_group_as_a_target_is_met_with_lines_that_can_be_pasted(
    folder: Path,
) -> None:
    changed = {"task": "two", "num_fewshot": 1}
    group(folder, task=["one", "three", changed], aggregate_metric_list=[{"metric": "acc"}])
    with pytest.raises(InputError, match="is the group 'g' of 3 tasks") as caught:
        load_target(
            Target("t", folder / "group.yaml", folder / "group.yaml", "accuracy", shots=1), "dev"
        )
    first, _, lines = (caught.value.hint or "").partition("\n")
    assert "each task counts by its examples" in first
    targets = tomllib.loads(lines)["targets"]
    rows = [load_target(Target(t["name"], Path(t["dev"])), "dev").examples for t in targets[:2]]
    assert [(t["name"], t["weight"]) for t in targets[:2]] == [("one", 2), ("three", 2)]
    assert [len(examples) for examples in rows] == [2, 2]
    assert all((t["test"], t["metric"], t["shots"]) == (t["dev"], "accuracy", 1) for t in targets)
    assert targets[2]["dev"] == "own-two.yaml"
    assert "more" not in lines
    assert "the keys of the group: num_fewshot, and `include: two.yaml`" in lines
