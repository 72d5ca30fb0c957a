"""Rows of JSON Lines have the values that `datasets` gives them.

Run as a program, this file records tests/golden/harness/json_types.json.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
datasets = pytest.importorskip("datasets", reason="pip install lm-eval")

NAN = math.nan
GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "json_types.json"


def theirs(rows: list[dict[str, Any]]) -> str:
    """The text of their rows: str() keeps the order of fields, and moments are texts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "rows.jsonl"
        place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        made = datasets.load_dataset(
            "json", data_files={"test": str(place)}, cache_dir=folder, split="test"
        )
        return json.dumps([dict(row) for row in made], default=str)


def test_they_are_those_that_were_recorded() -> None:
    for case in json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]:
        assert theirs(case["rows"]) == json.dumps(case["theirs"]), case["rows"]


def record() -> None:
    columns: list[list[Any]] = [
        [{"A": "x", "B": "y"}, {"B": "z", "A": "w"}],
        [{"A": "x", "B": "y"}, {"B": "z"}],
        [{"A": {"p": 1, "q": 2}}, None, {"A": {"q": 2.5, "p": 3}}],
        [[{"A": 1, "B": "y"}], [{"B": "z", "A": 0.5}, {"A": 2, "B": "q"}], []],
        [1, 2.5],
        [1, None, 2],
        [[1, 2], [0.5]],
        [1, "two"],
        [True, False],
        ["2020-01-01", "2021-05-05"],
        ["2020-01-01", "spring"],
        ["2020-01-01", None],
        ["2020-01-01T03:00:00Z", "2020-01-01 03:00:00+02:00", "2020-01-01 03:00-0230"],
        ["2020-01-01T03:00:00.5"],
        ["2020-01-01 03"],
        ["2020-02-30"],
        ["2020-01-01Z"],
        ["2020-01-01 24:00:00"],
        ["2020-01-01t03:00:00"],
        ["03:00:00"],
        ["2020"],
        ["20200101"],
        [["2020-01-01"], ["2020-01-02", "2021-01-01"], []],
        [{"d": "2020-01-01", "n": 1}, {"n": 2, "d": "2020-01-02"}],
        [{"d": "2020-01-01"}, {"e": "2020-01-02"}],
        [1, NAN],
        [NAN, NAN],
        ["text", NAN],
        [True, NAN, None],
        [[1.5, NAN], []],
        [[["text"], NAN], []],
        [{"k": NAN}, {"k": 2}],
        [{"k": NAN}, {"n": 2}],
        [math.inf, 1],
    ]
    cases = []
    for column in columns:
        rows = [{"q": f"question {i}", "x": value} for i, value in enumerate(column)]
        cases.append({"rows": rows, "theirs": json.loads(theirs(rows))})
    about = f"datasets {datasets.__version__}; by tests/peer/test_json_types.py"
    text = json.dumps({"about": about, "cases": cases}, indent=1) + "\n"
    GOLDEN.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    record()
