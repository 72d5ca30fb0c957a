from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from m2m.evaluate.harness import load_harness
from m2m.evaluate.json_types import nulled, typed_rows
from m2m.evaluate.task_data import TaskData
from m2m.evaluate.task_files import TaskFiles
from tests.evaluate.test_harness import FOLDER, TASK
from tests.tiny import write_jsonl

CASES = json.loads((FOLDER / "json_types.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str([row["x"] for row in case["rows"]]))
def test_columns_have_the_types_that_datasets_gives_them(case: dict[str, Any]) -> None:
    made, _ = typed_rows(nulled(case["rows"], one_value=False))
    assert json.dumps(made) == json.dumps(case["theirs"])  # the order of fields counts, and 1.0


def test_choices_in_objects_are_in_the_order_of_the_first_row(tmp_path: Path) -> None:
    options = [{"A": "right", "B": "wrong"}, {"B": "wrong", "A": "right"}]
    rows = [{"question": f"q{i}", "o": o, "day": "2020-01-31"} for i, o in enumerate(options)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    asked = {**TASK, "validation_split": None, "doc_to_target": 0}
    asked |= {"doc_to_choice": "{{o.values()|list}}", "doc_to_text": "{{day}}"}
    (tmp_path / "t.yaml").write_text(json.dumps(asked), encoding="utf-8")
    task = load_harness(tmp_path / "t.yaml", "test")
    assert [example.choices for example in task.examples] == [("right", "wrong")] * 2
    assert task.examples[0].prompt == "2020-01-31 00:00:00"
    assert task.harness and "the texts of day are all dates" in task.harness.notes[0]
    asked["doc_to_text"] = "{{question}}"
    (tmp_path / "t.yaml").write_text(json.dumps(asked), encoding="utf-8")
    task = load_harness(tmp_path / "t.yaml", "test")
    assert task.harness and not task.harness.notes  # no template asks the day


def test_nan_reaches_a_template_as_in_lm_eval(tmp_path: Path) -> None:
    """Of lines lm-eval keeps NaN among numbers, of an array it does not, of Parquet all."""
    asked = {**TASK, "validation_split": None, "doc_to_choice": ["a", "b"], "doc_to_target": 0}
    asked["doc_to_text"] = "{{n}} {{t}}"
    (tmp_path / "t.yaml").write_text(json.dumps(asked), encoding="utf-8")
    prompts = []
    for text in ('{"n": 1, "t": "x"}\n{"n": NaN, "t": "y"}', '[{"n": 1, "t": "x"}, {"n": NaN}]'):
        (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
        prompts += [
            example.prompt for example in load_harness(tmp_path / "t.yaml", "test").examples
        ]
    assert prompts == ["1.0 x", "nan y", "1 x", "None None"]
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"n": [1.0, math.nan, None, math.inf], "t": [b"x", b"y", None, b"z"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    asked |= {"dataset_path": "parquet", "dataset_kwargs": {"data_files": {"test": "rows.parquet"}}}
    (tmp_path / "t.yaml").write_text(json.dumps(asked), encoding="utf-8")
    prompts = [example.prompt for example in load_harness(tmp_path / "t.yaml", "test").examples]
    assert prompts == ["1.0 b'x'", "nan b'y'", "None None", "inf b'z'"]


def test_fields_have_the_order_of_the_first_row(tmp_path: Path) -> None:
    """A task's function may go through them; tests/peer/test_data_files.py has more cases."""
    write_jsonl(tmp_path / "rows.jsonl", [{"b": 1, "a": 2}, {"a": 3, "b": 4}])
    data = TaskData(TaskFiles(tmp_path / "t.yaml", []), TASK, [])
    assert [[*row.items()] for row in data.split("test").fields] == [
        [("b", 1), ("a", 2)],
        [("b", 4), ("a", 3)],
    ]
