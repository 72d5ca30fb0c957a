"""Sets of the Hugging Face hub on this machine resolve as `datasets.load_dataset` does.

The expected splits of the cards and names below are those of datasets 4.4 (`load_dataset` of the
same folder); tests/peer/test_task_sets.py compares them where `datasets` is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.task_data import TaskData
from m2m.evaluate.task_files import TaskFiles
from tests.tiny import write_jsonl

CARD = """---
license: mit
configs:
- config_name: en
  data_files:
  - split: test
    path: files/en-*.jsonl
- config_name: sw
  default: true
  data_files:
  - split: train
    path: ["**/sw/a.jsonl", files/b.jsonl]
  - split: my_test
    path: deep/?/sw/[cd].jsonl
- config_name: tables
  data_dir: tables
  sep: ;
dataset_info:
- config_name: en
---
# A set
"""


def put(place: Path, *texts: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(place, [{"q": text} for text in texts])


def data(folder: Path, **keys: Any) -> TaskData:
    task = folder / "tasks" / "t.yaml"
    task.parent.mkdir(exist_ok=True)
    return TaskData(TaskFiles(task, [folder]), {"dataset_path": "org/set"} | keys, [folder])


def asked(folder: Path, split: str, **keys: Any) -> list[str]:
    return [row["q"] for row in data(folder, **keys).split(split).fields]


@pytest.fixture
def with_card(tmp_path: Path) -> Path:
    home = tmp_path / "org" / "set"
    put(home / "files" / "en-2.jsonl", "e2")
    put(home / "files" / "en-1.jsonl", "e1")
    put(home / "files" / "b.jsonl", "b")
    put(home / "deep" / "x" / "sw" / "a.jsonl", "a")
    put(home / "deep" / "x" / "sw" / "c.jsonl", "c")
    put(home / "deep" / "x" / "sw" / "e.jsonl", "e")
    (home / "tables").mkdir()
    (home / "tables" / "test.csv").write_text("q;n\nx;1\n", encoding="utf-8")
    (home / "README.md").write_text(CARD, encoding="utf-8")
    return tmp_path


def test_the_card_names_the_files_of_each_configuration(with_card: Path) -> None:
    assert asked(with_card, "test", dataset_name="en") == ["e1", "e2"]
    assert asked(with_card, "train") == ["a", "b"]
    assert asked(with_card, "my_test", dataset_name="sw") == ["c"]
    rows = data(with_card, dataset_name="tables").split("test")
    assert rows.fields == [{"q": "x", "n": 1}]


@pytest.mark.parametrize(
    ("split", "keys", "words"),
    [
        ("test", {}, "names no files of the split 'test'; it names train, my_test"),
        ("test", {"dataset_name": "fr"}, "has no configuration 'fr'; it has en, sw, tables"),
        ("train[:10%]", {}, "names no files of the split 'train[:10%]'"),
    ],
)
def test_what_the_card_does_not_have_is_named(
    with_card: Path, split: str, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        data(with_card, **keys).split(split)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_card_without_default_asks_for_a_name(with_card: Path) -> None:
    card = with_card / "org" / "set" / "README.md"
    card.write_text(CARD.replace("  default: true\n", ""), encoding="utf-8")
    with pytest.raises(InputError, match="has 3 configurations: en, sw, tables"):
        data(with_card).split("train")
    card.write_text("---\nconfigs: 3\n---\n", encoding="utf-8")
    with pytest.raises(InputError, match="`configs` is not a list"):
        data(with_card).split("train")


def test_a_snapshot_is_that_of_the_reference(tmp_path: Path) -> None:
    home = tmp_path / "hub" / "datasets--org--set"
    put(home / "snapshots" / ("f" * 40) / "test.jsonl", "old")
    assert asked(tmp_path, "test") == ["old"]
    put(home / "snapshots" / ("0" * 40) / "test.jsonl", "new")
    with pytest.raises(InputError, match="no snapshot of the revision 'main'; it has 0000"):
        data(tmp_path).split("test")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    assert asked(tmp_path, "test") == ["new"]
    assert asked(tmp_path, "test", dataset_kwargs={"revision": "f" * 40}) == ["old"]
    with pytest.raises(InputError, match="no snapshot of the revision 'v2'"):
        data(tmp_path, dataset_kwargs={"revision": "v2"}).split("test")
    (home / "refs" / "main").write_text("../../../../x", encoding="utf-8")
    with pytest.raises(InputError, match="no snapshot"):
        data(tmp_path).split("test")


def save(folder: Path, split: str, *texts: str) -> None:
    """What `datasets.save_to_disk` writes, with its Arrow file."""
    pa = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    table = pa.table({"q": list(texts)})
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as sink:
        sink.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def test_a_set_that_datasets_saved(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    for config in ("", "sw"):
        for split in ("test", "validation"):
            save(home / config / split, split, f"{config} {split}")
        (home / config / "dataset_dict.json").write_text("{}", encoding="utf-8")
    assert asked(tmp_path, "test") == [" test"]
    assert asked(tmp_path, "validation", dataset_name="sw") == ["sw validation"]
    with pytest.raises(InputError, match="no split 'train'; it has test, validation"):
        data(tmp_path).split("train")


def test_one_split_that_datasets_saved(tmp_path: Path) -> None:
    save(tmp_path / "org--set", "test", "x")
    assert asked(tmp_path, "test") == ["x"]
    with pytest.raises(InputError, match="is the split 'test', and 'train' is needed"):
        data(tmp_path).split("train")


def test_the_cache_of_load_dataset(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    for part in (0, 1):
        home = tmp_path / "org___my_set" / "sw" / "0.0.0" / "abc"
        home.mkdir(parents=True, exist_ok=True)
        table = pa.table({"q": [f"part {part}"]})
        place = home / f"my_set-test-0000{part}-of-00002.arrow"
        with pa.ipc.new_stream(place, table.schema) as sink:
            sink.write_table(table)
    keys = {"dataset_path": "org/MySet", "dataset_name": "sw"}
    assert asked(tmp_path, "test", **keys) == ["part 0", "part 1"]
    with pytest.raises(InputError, match="no file of the split 'train'"):
        data(tmp_path, **keys).split("train")
    other = tmp_path / "org___my_set" / "sw" / "1.0.0" / "abc"
    home.parent.rename(other.parent)
    home.mkdir(parents=True)
    (home / "my_set-test.arrow").write_bytes(b"")
    with pytest.raises(InputError, match="the cache has 2 versions"):
        data(tmp_path, **keys).split("test")


def test_two_kinds_of_one_split_are_not_read_together(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    put(home / "test.jsonl", "x")
    (home / "test.csv").write_text("q\nx\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"as \.csv and as \.jsonl") as caught:
        data(tmp_path).split("test")
    assert "one kind" in str(caught.value.hint)


def test_a_set_that_is_a_program_says_how_to_get_its_rows(tmp_path: Path) -> None:
    home = tmp_path / "org" / "set"
    home.mkdir(parents=True)
    (home / "set.py").write_text("", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        data(tmp_path).split("test")
    assert "refs/convert/parquet" in str(caught.value.hint)


def test_patterns_and_a_field_in_data_files(tmp_path: Path) -> None:
    put(tmp_path / "org" / "set" / "data" / "x-test.jsonl", "1")
    put(tmp_path / "org" / "set" / "data" / "y-test.jsonl", "2")
    files = {"data_files": {"test": "data/*-test.jsonl"}}
    assert asked(tmp_path, "test", dataset_kwargs=files) == ["1", "2"]
    files = {"data_files": {"test": "data/*.csv"}}
    with pytest.raises(InputError, match=r"no file like data/\*\.csv"):
        data(tmp_path, dataset_kwargs=files).split("test")
    (tmp_path / "tasks").mkdir(exist_ok=True)
    inner = {"version": 1, "data": [{"q": "in the field"}]}
    (tmp_path / "tasks" / "rows.json").write_text(json.dumps(inner), encoding="utf-8")
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": "rows.json", "field": "data"}}
    assert asked(tmp_path, "train", **keys) == ["in the field"]


def test_a_large_card_is_read_quickly(tmp_path: Path) -> None:
    """The keys that describe columns are not read: they can be hundreds of kilobytes."""
    home = tmp_path / "org" / "set"
    put(home / "sw.jsonl", "x")
    more = "".join(f"- config_name: c{i}\n  features: [{{name: q}}]\n" for i in range(9000))
    card = f"---\ndataset_info:\n{more}configs:\n- data_files: sw.jsonl\n  config_name: sw\n---\n"
    (home / "README.md").write_text(card, encoding="utf-8")
    assert asked(tmp_path, "train") == ["x"]
