from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.evaluate.harness import load_harness
from m2m.evaluate.json_types import typed_rows
from tests.evaluate.test_harness import FOLDER, TASK
from tests.tiny import write_jsonl

CASES = json.loads((FOLDER / "json_types.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str([row["x"] for row in case["rows"]]))
def test_columns_have_the_types_that_datasets_gives_them(case: dict[str, Any]) -> None:
    made, _ = typed_rows(case["rows"])
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
