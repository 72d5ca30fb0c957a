"""Files of `m2m eval --out` are those that lm-evaluation-harness itself writes.

The harness evaluates the same tasks with a model that repeats m2m's numbers, so every field of both
is compared. Run as a program, this file records tests/golden/harness/files.json: the names of the
fields, and what does not depend on a model. It needs `pip install lm-eval`, without PyTorch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.loggers import EvaluationTracker  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from lm_eval.utils import (  # noqa: E402
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)

from tests.commands.test_eval_files import FOLDER, GOLDEN, TASKS, written  # noqa: E402
from tests.tiny import pico_gguf  # noqa: E402

ENVIRONMENT = {"pretty_env_info", "transformers_version", "lm_eval_version", "upper_git_hash"}


class Repeats(LM):  # type: ignore[misc]
    """A model that says what m2m's model said."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        super().__init__()
        self._said: dict[str, Any] = {}
        for sample in samples:
            asked = zip(sample["arguments"].values(), sample["resps"], strict=True)
            for arguments, responses in asked:
                self._said[json.dumps([*arguments.values()])] = responses[0]

    def _answers(self, requests: list[Any]) -> list[Any]:
        return [self._said[json.dumps([*request.args])] for request in requests]

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        return [(float(nats), best == "True") for nats, best in self._answers(requests)]

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        return list(map(float, self._answers(requests)))

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        return self._answers(requests)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The results and the samples of each task, found as lm-eval's own tools find them."""
    names = [path.as_posix() for path in folder.rglob("*.json*")]
    results = json.loads(Path(get_latest_filename(get_results_filenames(names))).read_text("utf-8"))
    samples = {}
    for name in get_sample_results_filenames(names):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        samples[get_file_task_name(Path(name).name)] = [json.loads(line) for line in lines]
        assert get_file_datetime(Path(name).name)[:2] == "20"
    return results, samples


def theirs(samples: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Let the harness evaluate and write."""
    before = Path.cwd()
    os.chdir(FOLDER)  # the task files name their data from there
    try:
        found = lm_eval.simple_evaluate(
            model=Repeats([row for rows in samples.values() for row in rows]),
            tasks=[f"m2m_{name}" for name in TASKS],
            task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
            log_samples=True,
            bootstrap_iters=2,  # errors of means are exact, the others are not compared
        )
    finally:
        os.chdir(before)
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = "model"
    said = found.pop("samples")
    tracker.save_results_aggregated(found, said)
    for name, rows in said.items():
        tracker.save_results_samples(name, rows)


def both(folder: Path) -> tuple[Any, Any]:
    """What m2m writes, and what the harness writes."""
    written(pico_gguf(folder / "pico.gguf"), folder / "ours")
    ours = read(folder / "ours")
    theirs(ours[1], folder / "theirs")
    return ours, read(folder / "theirs")


def test_the_files_are_those_of_the_harness(tmp_path: Path) -> None:
    (results, samples), (their_results, their_samples) = both(tmp_path)
    assert samples.keys() == their_samples.keys()
    for name, rows in their_samples.items():
        for ours, row in zip(samples[name], rows, strict=True):
            assert [*ours] == [*row], name
            assert ours == row, name
    for name, values in their_results["results"].items():
        ours = results["results"][name]
        assert ours.keys() == values.keys(), name
        for key, value in values.items():
            if "stderr" not in key or key.startswith(("acc", "exact_match")):
                assert ours[key] == pytest.approx(value, abs=1e-9), (name, key)
    for key in ("task_hashes", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert results[key] == their_results[key], key
    for name, config in their_results["configs"].items():
        ours = results["configs"][name]
        for key in config.keys() - {"fewshot_config", "metadata"}:
            assert ours[key] == config[key], (name, key)
    assert {"results", "groups"} & their_results.keys() <= results.keys()


def test_the_table_maker_reads_them(tmp_path: Path) -> None:
    written(pico_gguf(tmp_path / "pico.gguf"), tmp_path / "ours")
    results, _ = read(tmp_path / "ours")
    table = make_table(results)
    for words in ("likelihood", "strict", "loose", "exact_match", "acc_norm", "word_perplexity"):
        assert words in table
    assert "m2m_choices" in make_table(results, sort_results=True)


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _, (results, samples) = both(Path(folder))
    about = f"lm-eval {lm_eval.__version__}; by tests/peer/test_harness_files.py"
    kept = ("doc_hash", "prompt_hash", "target_hash", "target", "filter", "metrics")
    tasks = {
        name: {
            "results": [*results["results"][name]],
            "config": sorted(results["configs"][name]),
            "task_hash": results["task_hashes"][name],
            "fields": [*rows[0]],
            "rows": [{key: row[key] for key in kept} for row in rows[:3]],
            "arguments": rows[0]["arguments"],
        }
        for name, rows in samples.items()
    }
    text = json.dumps({"about": about, "tasks": tasks}, indent=1, ensure_ascii=False)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(record())
