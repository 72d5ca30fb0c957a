from __future__ import annotations

from pathlib import Path

import pytest

from m2m.errors import InputError
from m2m.evaluate.task_catalogue import Catalogue, Filter, folder_of_tasks

FILES = {
    "a/_base_yaml": "dataset_path: org/set\noutput_type: multiple_choice\ntag: [t, u]\n",
    "a/one_swa.yaml": "include: _base_yaml\ntask: one_swa\ndataset_name: swa\n",
    "a/two.yaml": "include: [_base_yaml, ../b/more_yaml]\ntask: two\ntag: u\n",
    "a/zz.yaml": "include: _base_yaml\ntask: one_swa\n",  # the first file has the name
    "b/more_yaml": "dataset_name: hau_Latn\ntask_list: [x]\n",
    "b/group.yaml": "group: g\ntask: [one_swa, {group: inner, task: [two]}, t]\ntag: u\n",
    "b/class.yaml": "task: program\nclass: !function task.Program\n",
    "b/__pycache__/x.yaml": "task: never\n",
    "c/broken.yaml": "task: [\n",
    "c/circle.yaml": "include: circle.yaml\ntask: c\n",
    "c/out.yaml": "include: ../../private.yaml\ntask: o\n",
    "c/t.yaml": "group: t2\ntask: a\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        place = tmp_path / "tasks" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    (tmp_path / "private.yaml").write_text("secret: 1\n", encoding="utf-8")
    return tmp_path / "tasks"


def test_names_kinds_and_tags(folder: Path) -> None:
    catalogue = Catalogue(folder)
    kinds = {entry.name: entry.kind for entry in catalogue}
    assert kinds == {
        **dict.fromkeys(("one_swa", "two"), "task"),
        **dict.fromkeys(("g", "t2"), "group"),
        **dict.fromkeys(("t", "u"), "tag"),
        "program": "program",
    }
    members = {entry.name: entry.members for entry in catalogue if entry.kind == "tag"}
    assert members == {"t": ("one_swa",), "u": ("one_swa", "two")}
    two = catalogue.get("two")
    assert two and two.keys["dataset_name"] == "hau_Latn" and two.keys["dataset_path"] == "org/set"
    assert "task_list" not in two.keys
    one = catalogue.get("one_swa")
    assert one and one.path == folder / "a" / "one_swa.yaml" and one.tags == ("t", "u")


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    catalogue = Catalogue(folder)
    reasons = {path.name: error.message for path, error in catalogue.unreadable.items()}
    assert set(reasons) == {"broken.yaml", "circle.yaml", "out.yaml"}
    assert "includes itself" in reasons["circle.yaml"]
    assert "is outside" in reasons["out.yaml"]
    (folder / "a" / "linked.yaml").symlink_to(folder.parent / "private.yaml")
    assert "is outside" in Catalogue(folder).unreadable[folder / "a" / "linked.yaml"].message


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Filter(patterns=["one*", "g"]), ["g", "one_swa"]),
        (Filter(tags=["t"]), ["one_swa", "t"]),
        (Filter(languages=["swa"]), ["one_swa"]),
        (Filter(languages=["HAU"]), ["two"]),
        (Filter(languages=["sw"]), []),
        (Filter(tags=["u"], kinds=["task"]), ["one_swa", "two"]),
    ],
)
def test_filters(folder: Path, asked: Filter, expected: list[str]) -> None:
    assert [entry.name for entry in Catalogue(folder) if asked.fits(entry)] == expected


def test_an_installed_harness_is_found_in_its_folder(tmp_path: Path) -> None:
    tasks = tmp_path / "site-packages" / "lm_eval" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "__init__.py").touch()
    for given in (tmp_path / "site-packages", tmp_path / "site-packages" / "lm_eval", tasks):
        assert folder_of_tasks(given) == tasks
    with pytest.raises(InputError, match="is no folder"):
        folder_of_tasks(tmp_path / "none")
    with pytest.raises(InputError, match="has no task files"):
        Catalogue(tasks)
