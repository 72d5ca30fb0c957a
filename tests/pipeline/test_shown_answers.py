"""The answers that a report shows are those that the models gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import load_task
from m2m.pipeline.confirm import answer_of
from m2m.results.answers import Answers


def test_they_are_the_answers_that_the_exported_model_gives(
    finished_run: Path, tmp_path: Path
) -> None:
    folder = finished_run.parent
    stored = json.loads((folder / "m2m-runs/recipe/confirm.json").read_text(encoding="utf-8"))
    answers = Answers.from_json(stored["answers"])
    exported = (folder / "m2m-runs/recipe/export").glob("*.gguf")
    (gguf,) = (path for path in exported if "lora" not in path.name.lower())
    log = tmp_path / "log.jsonl"
    line = ["eval", str(gguf), str(folder / "test.jsonl"), "--log-samples", str(log), "--json"]
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 0, done.output
    rows = [json.loads(row) for row in log.read_text(encoding="utf-8").splitlines()]
    assert answers.asked == len(rows)
    assert len(answers.rows) == 5
    for shown in answers.rows:
        (row,) = (row for row in rows if row["prompt"] == shown.question)
        assert shown.right == row["choices"][row["answer"]]
        assert shown.winner == row["choices"][row["chosen"]]
        assert shown.winner_right == (row["chosen"] == row["answer"])
        assert shown.base in row["choices"]


def test_a_written_answer_is_shown_as_it_was_written(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "answer": "Ndiyo"}\n{"prompt": "b", "answer": "La"}\n')
    one = np.ones((2, 1))
    scores = Scores(
        "answer", one, one, one, np.zeros(2, np.int64),
        predictions=("ndiyo.", "sijui " * 200), references=(("Ndiyo",), ("La",)),
    )  # fmt: skip
    task = load_task(rows)
    assert answer_of(task, scores, 0) == ("ndiyo.", True)
    text, right = answer_of(task, scores, 1)
    assert not right
    assert text.endswith(" ...")
    assert len(text) < 700
