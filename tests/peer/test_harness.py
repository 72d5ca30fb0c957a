"""lm-evaluation-harness still gives the numbers that were recorded, which m2m is held to.

Run as a program, this file records tests/golden/harness/results.json with the harness's own hf
model. It needs `pip install lm-eval` beside the other peers.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
from lm_eval.tasks import TaskManager  # noqa: E402

from tests.tiny_folder import pico_folder  # noqa: E402

FOLDER = Path(__file__).parent.parent / "golden" / "harness"
GOLDEN = FOLDER / "results.json"
TASKS = ("choices", "labels", "written")


def theirs(name: str, folder: Path) -> dict[str, Any]:
    """The harness's metrics and each example's own numbers, by its hf model on the CPU."""
    model = f"pretrained={folder},dtype=float32"
    before = Path.cwd()
    os.chdir(FOLDER)  # where the task files' data lies
    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=model,
            tasks=[f"m2m_{name}"],
            task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
            device="cpu",
            batch_size=4,
            log_samples=True,
            bootstrap_iters=0,
        )
    finally:
        os.chdir(before)
    values = {
        key.removesuffix(",none"): value
        for key, value in found["results"][f"m2m_{name}"].items()
        if key.endswith(",none") and "stderr" not in key
    }
    samples = sorted(found["samples"][f"m2m_{name}"], key=lambda sample: sample["doc_id"])
    if name == "written":
        said = [sample["resps"][0][0] for sample in samples]
        return {"metrics": values, "said": said}
    loglik = [[float(r[0][0]) for r in sample["resps"]] for sample in samples]
    return {"metrics": values, "loglik": loglik}


@pytest.mark.parametrize("name", TASKS)
def test_the_harness_says_the_same(name: str, tmp_path: Path) -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))["results"][name]
    found = theirs(name, pico_folder(tmp_path / "hf"))
    assert found["metrics"] == pytest.approx(recorded["metrics"])
    assert found.get("said") == recorded.get("said")
    for one, other in zip(found.get("loglik", []), recorded.get("loglik", []), strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = pico_folder(Path(folder) / "hf")
        results = {name: theirs(name, made) for name in TASKS}
    about = f"lm-eval {lm_eval.__version__}, hf model, pico weights; by tests/peer/test_harness.py"
    text = json.dumps({"about": about, "results": results}, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
