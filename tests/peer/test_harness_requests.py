"""Task files of lm-evaluation-harness are asked as lm-eval's own ConfigurableTask asks them.

Every 250th task that lm-eval ships gets rows that it accepts (lm_eval_cases.py); all requests and
right answers must then be equal to the letter. compare_cases.py takes more of them.
"""

from __future__ import annotations

import collections
import os
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
from tests.peer.compare_cases import compare  # noqa: E402
from tests.peer.lm_eval_cases import TASKS, case_of, only_requests  # noqa: E402

EVERY, FIRST = 250, 11
# Needs chance or more than m2m has; each message says how to go on.
REFUSED = re.compile(r"process_results|process_docs|custom|filter_list|doc_to_\w+ is !function")


def test_every_request_and_right_answer_is_equal(tmp_path: Path) -> None:
    known: dict[str, list[dict[str, object]]] = collections.defaultdict(list)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for number, path in enumerate(sorted(TASKS.glob("**/*.yaml"))[FIRST::EVERY]):
        with only_requests():
            case = case_of(path, known)  # type: ignore[arg-type]
        if case is None or "lm_eval" in case:
            continue
        reason = compare(case, TASKS, tmp_path / str(number))
        found[reason.partition(":")[0]].append(f"{case['file']}: {reason}")
    assert len(found["equal"]) >= 30, found
    assert found.keys() <= {"equal", "refused"}, {k: v for k, v in found.items() if k != "equal"}
    assert all(REFUSED.search(reason) for reason in found["refused"]), found["refused"]
