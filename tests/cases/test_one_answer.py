"""A task whose right answer is always the same has nothing to compare it with, so nothing is 1.000.

`acc` of such a task file is whether the answer is the likeliest text, as in lambada.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.evaluate.metrics import COMPARING
from m2m.evaluate.targets import load_target, metric_of
from m2m.recipe import Target
from tests.tiny import pico_gguf

TASK = """\
task: one
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{prompt}}"
doc_to_target: " {{answer}}"
metric_list: [{metric: acc}, {metric: perplexity}]
"""


def task_file(folder: Path, *answers: str, same: bool = False) -> Path:
    rows = [
        {"prompt": f"copy {i * (not same)}", "answer": answer} for i, answer in enumerate(answers)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "one.yaml"
    path.write_text(TASK, encoding="utf-8")
    return path


@pytest.mark.parametrize(("answers", "same"), [("aa", False), ("abc", True)])
def test_eval_compares_nothing_with_itself(answers: str, same: bool, tmp_path: Path) -> None:
    """Where all answers are right for one question, the task file's own metrics remain."""
    path = task_file(tmp_path, *answers, same=same)
    line = ["eval", str(pico_gguf(tmp_path / "p.gguf")), str(path), "--json"]
    found = CliRunner().invoke(cli, line, catch_exceptions=False)
    (result,) = json.loads(found.stdout)["results"]
    assert not result["metrics"].keys() & {*COMPARING}
    assert {"bits_per_byte", "perplexity"} <= result["metrics"].keys()
    assert {"acc,none", "perplexity,none"} == result["harness"].keys()


def test_a_recipe_does_not_choose_by_it(tmp_path: Path) -> None:
    path = task_file(tmp_path, "a", "a", "A")
    task = load_target(target := Target("t", path), "dev")
    assert metric_of(target, task).name == "bits_per_byte"
    for name in ("accuracy", "contrast_bits", "ece"):
        with pytest.raises(InputError, match="there is no wrong one") as caught:
            metric_of(Target("t", path, metric=name), task)
        assert "bits_per_byte" in (caught.value.hint or "")


def test_two_answers_are_compared(tmp_path: Path) -> None:
    target = Target("t", task_file(tmp_path, "a", "b"))
    assert metric_of(target, load_target(target, "dev")).name == "contrast_bits"
