"""Folders of rows: those that `datasets` saves, those of the hub, and plain ones."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.formats.records import read_records, rows_text

ROWS = [{"text": f"mstari {number}"} for number in range(5)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def made(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [record.fields for record in read_records(path)]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    return f"{caught.value.message}\n{caught.value.hint}"


def test_shards_of_one_split_are_one_part(tmp_path: Path) -> None:
    folder = made(tmp_path / "hub", {
        "README.md": "# x",
        "data/train-00000-of-00002.jsonl": lines(ROWS[:2]),
        "data/train-00001-of-00002.jsonl": lines(ROWS[2:]),
    })  # fmt: skip
    assert read(folder) == read(folder / "train") == read(folder / "data") == ROWS
    assert [record.line for record in read_records(folder)] == [1, 2, 3, 4, 5]
    before = rows_text(folder).sha256
    made(folder, {"data/train-00001-of-00002.jsonl": lines(ROWS[:3])})
    assert rows_text(folder).sha256 != before


def test_several_parts_are_a_question_that_the_path_answers(tmp_path: Path) -> None:
    folder = made(tmp_path / "hub", {
        "README.md": "# x", "dataset_infos.json": "{}",
        "sw/train-00000-of-00001.jsonl": lines(ROWS),
        "sw/test-00000-of-00001.jsonl": lines(ROWS[:1]),
        "ha/train-00000-of-00001.jsonl": lines(ROWS[1:2]),
    })  # fmt: skip
    message = refused(folder)
    assert "several parts: ha/train, sw/test, sw/train" in message
    assert '/hub/ha/train"' in message
    assert read(folder / "sw" / "train") == ROWS and read(folder / "ha/train") == ROWS[1:2]
    assert read(folder / "ha") == ROWS[1:2], "a folder with one part"
    assert "has nothing called 'yo/train'" in refused(folder / "yo/train")
    with pytest.raises(InputError, match="cannot read"):
        read(folder / "sw" / "train.csv")


def test_one_file_is_meant_and_two_are_a_question(tmp_path: Path) -> None:
    folder = made(tmp_path / "d", {"rows.jsonl": lines(ROWS), "README.md": "x", "LICENSE": "MIT"})
    assert read(folder) == ROWS
    made(folder, {"more.csv": "text\na\n"})
    assert "more.csv, rows.jsonl" in refused(folder)
    other = made(tmp_path / "e", {"train.csv": "text\na\n", "train.jsonl": lines(ROWS)})
    assert "train.csv, train.jsonl" in refused(other), "the same rows in two kinds are no shards"


def test_a_packed_shard_is_read(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00001.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    assert read(tmp_path) == ROWS


def test_a_folder_without_rows_is_no_file(tmp_path: Path) -> None:
    assert "is a folder, expected a file" in refused(made(tmp_path / "d", {"README.md": "x"}))


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    made(tmp_path, {"secret.txt": "x", "d/train.csv": "text\na\n"})
    (tmp_path / "d" / "test.txt").symlink_to(tmp_path / "secret.txt")
    assert "links out of the folder" in refused(tmp_path / "d")


def saved(folder: Path, rows: list[dict[str, Any]], shards: int = 1) -> None:
    """Write rows as `datasets.Dataset.save_to_disk` does (version 3: Arrow streams)."""
    arrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    for number, name in enumerate(names):
        table = arrow.Table.from_pylist(rows[number::shards])
        with (
            arrow.OSFile(str(folder / name), "wb") as file,
            arrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "x"}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")


def test_datasets_that_were_saved_to_disk_are_read(tmp_path: Path) -> None:
    saved(tmp_path / "one", ROWS, shards=2)
    assert read(tmp_path / "one") == [*ROWS[0::2], *ROWS[1::2]]
    for split in ("train", "test"):
        saved(tmp_path / "all" / split, ROWS)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "several parts: test, train" in refused(tmp_path / "all")
    assert read(tmp_path / "all" / "test") == ROWS


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"_data_files": [{"filename": "../a.arrow"}]}, "outside the folder"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "outside the folder"),
        ({"_data_files": [{"filename": "a.arrow"}], "_indices_files": [{"filename": "i"}]},
         "flatten_indices"),
        ({}, "does not name its files"), ([], "does not name its files"),
    ],
)  # fmt: skip
def test_what_a_saved_folder_says_is_checked(tmp_path: Path, state: Any, words: str) -> None:
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert words in refused(tmp_path)
