"""A GGUF of m2m in lm-evaluation-harness has the numbers that `m2m eval` prints (docs/targets.md).

Transformers reads the file (`--model hf`). The harness's `gguf` model asks the server of
llama-cpp-python, which gives each token the likelihood of the one before it if the model begins
texts without a BOS.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
pytest.importorskip("llama_cpp", reason="run this in an environment that has m2m and lm-eval")
from lm_eval.tasks import TaskManager  # noqa: E402

from m2m.commands.eval import compare_models  # noqa: E402
from m2m.recipe import Target  # noqa: E402
from tests.tiny import pico_gguf  # noqa: E402

FOLDER = Path(__file__).parent.parent / "golden" / "harness"
TASKS = ("choices", "labels")


def theirs(arguments: str) -> dict[str, Any]:
    """The harness's results."""
    before = Path.cwd()
    os.chdir(FOLDER)  # the task files name their data from there
    try:
        return lm_eval.simple_evaluate(
            model="hf",
            model_args=arguments,
            tasks=[f"m2m_{name}" for name in TASKS],
            task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
            device="cpu",
        )
    finally:
        os.chdir(before)


def assert_same(found: dict[str, Any], path: Path) -> None:
    tasks = [FOLDER / f"{name}.yaml" for name in TASKS]
    for result in compare_models([str(path)], tasks, Target("t", tasks[0])).results:
        name = f"m2m_{result.task.path.stem}"
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        nats = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]
        # The cache of `m2m eval` has F16 numbers.
        np.testing.assert_allclose(result.scores.loglik, nats, rtol=0, atol=5e-3)
        for each in result.reported:
            assert found["results"][name][each.key] == pytest.approx(each.score.value, abs=1e-3)


def test_transformers_reads_the_file(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the peers have PyTorch")
    pytest.importorskip("gguf", reason="pip install gguf")
    path = pico_gguf(tmp_path / "pico.gguf")
    found = theirs(f"pretrained={tmp_path},gguf_file=pico.gguf,dtype=float32")
    assert_same(found, path)
