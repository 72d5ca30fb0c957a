"""`loglikelihood_rolling` of texts longer than the model's context is lm-eval's own number.

Transformers reads the GGUF that m2m scores (`--model hf`), so both have the same weights.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
from lm_eval.tasks import TaskManager  # noqa: E402

from m2m.commands.eval import compare_models  # noqa: E402
from m2m.formats.gguf import GGUFValue  # noqa: E402
from m2m.recipe import Target  # noqa: E402
from tests.tiny import pico_config, write_pico_gguf  # noqa: E402

SENTENCES = Path(__file__).parent.parent / "golden" / "sentences.txt"
CONTEXT = 32
# Tokens are a few bytes: texts within one window, at its end, and of many windows.
LENGTHS = (1, 20, 57, 58, 59, 60, 61, 62, 63, 64, 65, 300, 2000)


COUNTS = """
import re

def counts(doc, results):
    (loglikelihood,) = results
    words, size = len(re.split(r"[aeiou]", doc["text"])), len(doc["text"]) + 1
    pairs = {"byte_perplexity": (loglikelihood, size), "bits_per_byte": (loglikelihood, size)}
    return {"word_perplexity": (loglikelihood, words), **pairs}
"""


def written(folder: Path, counted: bool) -> Path:
    """Write a task of whole texts; if `counted`, its own function counts words and bytes."""
    text = SENTENCES.read_text(encoding="utf-8")
    rows = [{"text": text[at : at + size]} for at, size in enumerate(LENGTHS)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    task = {
        "task": "rolled",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")
        ],
    }
    if counted:
        (folder / "utils.py").write_text(COUNTS, encoding="utf-8")
        task["process_results"] = "MARK"
    path = folder / "rolled.yaml"
    path.write_text(json.dumps(task).replace('"MARK"', "!function utils.counts"), "utf-8")
    return path


def theirs(folder: Path, arguments: str) -> dict[str, Any]:
    """The harness's results."""
    return lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={folder},gguf_file=pico.gguf,dtype=float32{arguments}",
        tasks=["rolled"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        device="cpu",
    )


@pytest.mark.parametrize("adds_bos", [False, True])
def test_windows_are_the_harnesss(adds_bos: bool, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the peers have PyTorch")
    metadata = {"tokenizer.ggml.add_bos_token": GGUFValue.boolean(adds_bos)}
    config = pico_config(max_position_embeddings=CONTEXT)
    path = write_pico_gguf(tmp_path / "pico.gguf", config, metadata=metadata)
    task = written(tmp_path, counted=adds_bos)
    # Transformers' tokenizer of a GGUF does not follow its `add_bos_token`.
    found = theirs(tmp_path, f",add_bos_token={adds_bos}")
    (ours,) = compare_models([str(path)], [task], Target("t", task)).results
    samples = sorted(found["samples"]["rolled"], key=lambda sample: sample["doc_id"])
    nats = [float(sample["filtered_resps"][0]) for sample in samples]
    for size, one, other in zip(LENGTHS, ours.scores.loglik[:, 0], nats, strict=True):
        assert one == pytest.approx(other, rel=1e-3), size
    for each in ours.reported:
        assert found["results"]["rolled"][each.key] == pytest.approx(each.score.value, rel=1e-3)
