"""Groups of lm-eval have its members and its numbers.

Run as a program, this file records tests/golden/harness/groups.json by lm-eval's own `Group`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("lm_eval", reason="pip install lm-eval")
import lm_eval.tasks._factory as lm_eval_factory  # noqa: E402
from lm_eval.api.group import Group as Theirs  # noqa: E402
from lm_eval.api.task import Task  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from lm_eval.tasks._index import Kind  # noqa: E402

from m2m.errors import InputError  # noqa: E402
from m2m.evaluate.task_catalogue import Catalogue  # noqa: E402
from m2m.evaluate.task_groups import Group, read_group  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "groups.json"
LISTS: list[Any] = [
    [{"metric": "acc", "weight_by_size": True}],
    [{"metric": "acc", "weight_by_size": False, "aggregation": "mean"}],
    [{"metric": "acc", "filter_list": "none"}, {"metric": "f1", "filter_list": ["none", "b"]}],
    {"metric": "f1"},
    [{"metric": "missing"}],
    None,
]


class Stub(Task):  # type: ignore[misc, valid-type]
    """A task with its name and keys, and without data."""

    def __init__(self, config: Any = None) -> None:
        self.keys = config

    @property
    def task_name(self) -> str:
        return str(self.keys["task"])


Stub.__abstractmethods__ = frozenset()


def theirs(case: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's numbers of a group."""
    group = Theirs.from_config(
        {"group": "g", "group_alias": "G", "aggregate_metric_list": case["list"]}
    )
    for name in case["tasks"]:
        group.add(Stub({"task": name}))
    return json.loads(json.dumps(group.aggregate(case["table"]), default=float))


def cases() -> list[dict[str, Any]]:
    rng = random.Random(1)
    made = []
    for number, given in enumerate(LISTS * 3):
        tasks = [f"t{i}" for i in range(rng.randint(1, 4))]
        table = {}
        for name in tasks:
            row: dict[str, Any] = {"alias": name, "sample_len": rng.randint(2, 300)}
            for key in ("acc,none", "f1,none", "f1,b"):
                if rng.random() < 0.9 or key == "acc,none":
                    row[key] = round(rng.random(), 4)
                    error: Any = round(rng.random() / 9, 4)
                    row[key.replace(",", "_stderr,")] = "N/A" if rng.random() < 0.2 else error
            table[name] = row
        if number % 4 == 3:
            tasks.append("not scored")
        made.append({"list": given, "tasks": tasks, "table": table})
    return made


def test_the_recorded_numbers_are_lm_evals() -> None:
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        assert theirs(case) == case["result"]


def test_members_of_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group that lm-eval ships has the same tasks.

    If an item with keys of its own (`- task: mmlu`) names a group or tag, lm-eval gives that name
    to all tasks in it, so that only the last one stays in the group; m2m keeps them all.
    """
    monkeypatch.setattr(lm_eval_factory, "ConfigurableTask", Stub)
    # `!function` becomes a text, so that no module of a task is needed.
    loaded = lm_eval_factory.load_yaml
    monkeypatch.setattr(
        lm_eval_factory, "load_yaml", lambda path, **_: loaded(path, resolve_func=False)
    )
    manager = TaskManager()
    folder = Path(lm_eval_factory.__file__).parent
    known, compared = [Catalogue(folder)], 0
    refused, merged = list[str](), list[str]()
    for name in manager.all_groups:
        try:
            other = manager._factory.build(manager._index[name], registry=dict(manager._index))
        except (ValueError, TypeError):  # lm-eval itself cannot read it
            continue
        path = manager._index[name].yaml_path
        try:
            ours = read_group(path, [folder], known)
        except InputError as error:
            refused.append(f"{name}: {error.message[:150]}")
            continue
        assert ours
        if any(
            manager._index[item].kind in (Kind.GROUP, Kind.TAG) for item in renamed(ours, manager)
        ):
            merged.append(name)
            continue
        assert [task.name for task in ours.tasks] == [t.task_name for t in other.get_all_tasks()]
        assert [group.name for group in ours.groups[1:]] == [
            group.name for group in other.get_all_groups()
        ]
        compared += 1
    assert compared >= 840, (len(manager.all_groups), compared, refused, merged)
    assert len(merged) <= 3, merged


def renamed(group: Group, manager: Any) -> list[str]:
    """The names in the items with keys of their own, of a group and the groups in it."""
    listed = [manager._index[g.name].cfg or {} for g in group.groups if g.name in manager._index]
    items = [item for keys in listed for item in keys.get("task") or [] if isinstance(item, dict)]
    named = [item["task"] for item in items if isinstance(item.get("task"), str)]
    return [name for name in named if name in manager._index]


def record() -> None:
    made = [case | {"result": theirs(case)} for case in cases()]
    text = json.dumps(made, ensure_ascii=False).replace('}, {"list"', '},\n{"list"')
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
