from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.task_data import TaskData
from m2m.evaluate.task_files import TaskFiles
from tests.tiny import write_jsonl

CARD = """---
dataset_info:
- config_name: other
  features:
  - name: label
    dtype: string
- config_name: sw
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
  - name: several
    sequence:
      class_label:
        names: [neg, pos]
  - name: text
    dtype: string
  - name: number
    dtype: float32
  - name: whole
    dtype: int64
  - name: texts
    sequence: string
  - name: object
    struct:
    - name: a
      dtype: string
  - name: lists
    sequence:
    - name: a
      dtype: string
configs:
- config_name: sw
  data_files: sw/test.jsonl
- config_name: other
  data_files: other/test.jsonl
---
"""
LISTS: dict[str, Any] = {"several": ["pos", "neg"], "texts": [1, 2.5], "object": {"a": True}}
ROWS: list[dict[str, Any]] = [
    {"label": "pos", "text": 1.5, "number": 0.1, "whole": 1.0, "lists": {"a": [1]}, **LISTS},
    {"label": "1", "text": 1e-07, "number": 2, "whole": 3, "lists": {"a": []}, **LISTS},
    {"label": None, "text": 2, "number": None, "whole": None, "lists": {"a": []}, **LISTS},
]
CAST: dict[str, Any] = {"several": [1, 0], "texts": ["1", "2.5"], "object": {"a": "true"}}


def rows_of(root: Path, config: str) -> list[dict[str, Any]]:
    (root / "org/set/README.md").write_text(CARD, encoding="utf-8")
    keys = {"dataset_path": "org/set", "dataset_name": config}
    return [*TaskData(TaskFiles(root / "t.yaml", []), keys, [root]).split("train").fields]


def put(root: Path) -> None:
    for config in ("sw", "other"):
        (root / "org/set" / config).mkdir(parents=True)
        write_jsonl(
            root / "org/set" / config / "test.jsonl", ROWS[:2] if config == "other" else ROWS
        )


def test_rows_have_the_types_that_the_card_gives(tmp_path: Path) -> None:
    """tests/peer/test_task_sets.py compares them with those of `datasets`."""
    put(tmp_path)
    assert rows_of(tmp_path, "sw") == [
        {"label": 1, "text": "1.5", "number": 0.10000000149011612, "whole": 1, **CAST}
        | {"lists": {"a": ["1"]}},
        {"label": 1, "text": "1e-7", "number": 2.0, "whole": 3, **CAST, "lists": {"a": []}},
        {"label": None, "text": "2", "number": None, "whole": None, **CAST, "lists": {"a": []}},
    ]
    assert rows_of(tmp_path, "other")[0]["several"] == ["pos", "neg"]


def test_a_text_that_is_no_label_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    write_jsonl(tmp_path / "org/set/sw/test.jsonl", [{"label": "neutral"}])
    with pytest.raises(
        InputError, match="label has 'neutral', and the card has the labels neg, pos"
    ):
        rows_of(tmp_path, "sw")
