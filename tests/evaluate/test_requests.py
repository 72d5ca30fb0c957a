"""Task files of lm-evaluation-harness are asked as lm-eval 0.4.13 itself recorded.

tests/golden/harness/requests.jsonl has a case of each of many folders of lm_eval/tasks: the task
files (MIT licence, EleutherAI), rows, and the contexts, continuations and golds of lm-eval's own
ConfigurableTask. tests/peer/lm_eval_cases.py and compare_cases.py made it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peer.compare_cases import compare

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "requests.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
def test_every_request_is_equal_to_the_letter(case: dict[str, Any], tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    for name, text in case["files"].items():
        place = tasks / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    assert compare(case, tasks, tmp_path / "data") == "equal"
