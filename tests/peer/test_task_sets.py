"""Folders of the hub give the rows that `datasets.load_dataset` reads in them.

Needs `pip install datasets` besides the other peers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
datasets = pytest.importorskip("datasets", reason="pip install datasets")

from m2m.evaluate.task_data import TaskData  # noqa: E402
from m2m.evaluate.task_files import TaskFiles  # noqa: E402
from tests.evaluate import test_set_features  # noqa: E402
from tests.evaluate.test_task_sets import CARD, put  # noqa: E402

FILES = [
    "files/en-1.jsonl",
    "files/en-2.jsonl",
    "files/b.jsonl",
    "deep/x/sw/a.jsonl",
    "deep/x/sw/c.jsonl",
    "deep/x/sw/e.jsonl",
    ".hidden/sw/a.jsonl",
]
# `load_dataset` reads all configurations of a set as files of one kind.
TABLES = "- config_name: tables\n  data_dir: tables\n  sep: ;\n"
NAMED = {
    "by folder": ["train/a.jsonl", "test/b.jsonl", "test/c.jsonl"],
    "by file": ["train.jsonl", "test.jsonl", "valid.jsonl"],
    "in parts": [
        "data/train-00000-of-00002.jsonl",
        "data/train-00001-of-00002.jsonl",
        "data/test-00000-of-00001.jsonl",
    ],
    "with words": ["my_train_1.jsonl", "my_test.jsonl"],
    "one file": ["rows.jsonl"],
}


def make(home: Path, names: list[str]) -> None:
    for name in names:
        place = home / name
        if place.suffix == ".jsonl":
            put(place, f"{name} 1", f"{name} 2")
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"q;n\n{name};1\n", encoding="utf-8")


def ours(root: Path, split: str, config: str | None) -> list[str]:
    task = root / "t.yaml"
    keys = {"dataset_path": "org/set", "dataset_name": config}
    return [row["q"] for row in TaskData(TaskFiles(task, []), keys, [root]).split(split).fields]


def same(root: Path, config: str | None) -> int:
    """Compare all splits of a configuration; return their number."""
    theirs = datasets.load_dataset(str(root / "org" / "set"), config, cache_dir=str(root / "cache"))
    for split, rows in theirs.items():
        assert ours(root, split, config) == rows["q"][:], (config, split)
    return len(theirs)


def test_configurations_of_a_card(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    make(home, FILES)
    assert TABLES in CARD
    card = CARD.replace(TABLES, "").replace("[cd]", "[ce]")
    (home / "README.md").write_text(card, encoding="utf-8")
    assert [same(tmp_path, config) for config in (None, "en", "sw")] == [2, 1, 2]


def test_the_form_of_tables(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    make(home, ["tables/test.csv", "tables/dev.csv", "other/test.csv"])
    (home / "README.md").write_text(f"---\nconfigs:\n{TABLES}---\n", encoding="utf-8")
    assert same(tmp_path, None) == 2


@pytest.mark.parametrize("layout", NAMED)
def test_names_of_files(layout: str, tmp_path: Path) -> None:
    make(tmp_path / "org" / "set", NAMED[layout])
    assert same(tmp_path, None)


def test_a_saved_set(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    rows = {name: datasets.Dataset.from_dict({"q": [f"{name} {i}" for i in "ab"]}) for name in "xy"}
    datasets.DatasetDict(rows).save_to_disk(str(home))
    for name in rows:
        assert ours(tmp_path, name, None) == rows[name]["q"][:]
    rows["x"].save_to_disk(str(tmp_path / "one" / "org" / "set"))
    assert ours(tmp_path / "one", "x", None) == rows["x"]["q"][:]


def test_types_that_a_card_gives(tmp_path: Path) -> None:
    test_set_features.put(tmp_path)
    rows = test_set_features.rows_of(tmp_path, "sw")
    made = datasets.load_dataset(
        str(tmp_path / "org/set"), "sw", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [*made] == rows
