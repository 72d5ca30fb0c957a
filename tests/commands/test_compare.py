"""`m2m compare` on folders of runs that are written as a run writes them, without the trainings."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.commands.compare import compare
from m2m.errors import InputError
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.scores import Scores
from m2m.formats.journal import Journal
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval
from m2m.mix.trial import Trial
from m2m.mix.verdict import Verdict
from m2m.results.confirmation import Confirmation, Model, RowsSeen
from m2m.results.folder import CONFIRMED, RANKING, RECIPE, RunFolder
from tests.report import samples
from tests.report.test_markup import Reader

QUESTIONS = 40


def scores(right: Sequence[bool], size: int = 4, shift: float = 0.0) -> Scores:
    """Answers to questions with two choices, of which the first is right."""
    n = len(right)
    loglik = np.array([[-1.0, -2.0] if good else [-2.0, -1.0] for good in right]) - shift
    sizes = np.full((n, 2), float(size))
    return Scores("choices", loglik, sizes, sizes, np.zeros(n, np.int64))


def make_run(
    folder: Path,
    right: Sequence[bool],
    *,
    size: int = 4,
    shift: float = 0.0,
    test: str = "a" * 64,
    metric: str = "accuracy",
    **train: Any,
) -> Path:
    """A confirmed run whose winner is right on these questions, and whose base never is."""
    mixture = Mixture.uniform(["swahili"])
    target = {"name": "school", "dev": "d.jsonl", "test": "t.jsonl", "metric": metric}
    settings = {
        "recipe": str(folder.parent.parent / f"{folder.name}.toml"),
        "base": {"model": "pico"},
        "train": {"steps": 10, "seed": 0, **train},
        "datasets": [{"name": "swahili", "path": "s.jsonl", "notes": train.pop("notes", "")}],
        "targets": [target],
        "inputs": {"targets": {"school": {"dev": "b" * 64, "test": test}}},
    }
    settings["train"].pop("notes", None)
    files = RunFolder(folder)
    files.keep(RECIPE, settings)
    files.keep(RANKING, samples.ranking(("swahili", "other")).as_json())
    trials, models = [], []
    for made, answers in ((BASE, [False] * len(right)), (mixture, right)):
        own = scores(answers, size, shift)
        how = "finetuned" if made.datasets else "base"
        models.append(
            Model(
                "top 1" if made.datasets else "base",
                made,
                how,  # type: ignore[arg-type]
                measure_all(own),
                measure_all(own),
                seen={"swahili": RowsSeen(9, 9, 2.5)} if made.datasets else {},
                steps=settings["train"]["steps"] if made.datasets else None,
            )
        )
        trials.append(Trial(made, {"dev:school": own, "test:school": own}, {}, 1, 1.0))
    for trial in trials:
        Journal(files.finetune_scores).append({"schema": 2, "key": "k", **trial.as_json()})
    span = Interval(0.1, 0.0, 0.2)
    verdict = Verdict("clear", "Fine-tune on swahili.", (), "")
    confirmation = Confirmation(verdict, "school", metric, models, 1, [span, span])
    files.keep(CONFIRMED, confirmation.as_json())
    return folder


def answers(share: float, seed: int) -> list[bool]:
    return (np.random.default_rng(seed).random(QUESTIONS) < share).tolist()


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def test_runs_on_the_same_questions_are_compared_pair_by_pair(tmp_path: Path) -> None:
    one, other = answers(0.5, 1), answers(0.8, 2)
    found = compare([make_run(tmp_path / "one", one),
                     make_run(tmp_path / "other", other, steps=20)])  # fmt: skip
    (contest,) = found.contests
    first, second = contest.entries
    assert (first.ahead, first.wins) == (None, None)
    assert (first.trained, second.trained) == (["10 (2.5)"], ["20 (2.5)"])
    (steps,) = [column for column in found.tables[0].columns if column.head == "steps (passes)"]
    assert steps.key == "trained"
    assert second.ahead is not None
    assert second.wins is not None
    apart = np.array(other, float) - np.array(one, float)
    assert second.ahead.estimate == pytest.approx(apart.mean())
    half = 1.96 * apart.std() / QUESTIONS**0.5  # a paired difference of means
    ends = (apart.mean() - half, apart.mean() + half)
    assert (second.ahead.low, second.ahead.high) == pytest.approx(ends, abs=0.03)
    assert second.wins.estimate == pytest.approx((apart > 0).mean() + (apart == 0).mean() / 2)
    assert found.differences == {"train.steps": ["10", "20"]}
    assert found.warnings == []


@pytest.mark.parametrize("other", [{"test": "c" * 64}, {"metric": "accuracy_norm"}, {"size": 5}])
def test_other_questions_choices_or_metrics_are_never_compared(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    one = make_run(tmp_path / "one", answers(0.5, 1))
    found = compare([one, make_run(tmp_path / "other", answers(0.8, 2), steps=20, **other)])
    assert [len(contest.entries) for contest in found.contests] == [1, 1]
    assert [contest.entries[0].ahead for contest in found.contests] == [None, None]
    assert "are compared only within each set" in found.warnings[0]


def test_runs_that_differ_in_seeds_only_are_one_row(tmp_path: Path) -> None:
    rows = [answers(0.5, 1), answers(0.8, 2), answers(0.6, 3)]
    found = compare([make_run(tmp_path / f"seed{i}", row, seed=i) for i, row in enumerate(rows)])
    (entry,) = found.contests[0].entries
    assert (entry.name, entry.runs) == ("seed0 and 2 more seeds", 3)
    assert entry.score.estimate == pytest.approx(np.mean(rows))
    alone = compare([make_run(tmp_path / "x", rows[0]), make_run(tmp_path / "y", rows[0], seed=9)])
    same = alone.contests[0].entries[0].score
    assert entry.score.high - entry.score.low > same.high - same.low  # seeds add their own error


def test_runs_that_differ_in_seeds_and_threads_are_one_row(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"seed{i}", answers(0.5, i), seed=i) for i in (0, 1)]
    for run, threads in zip(runs, (2, 8), strict=True):
        data = json.loads((run / RECIPE).read_text(encoding="utf-8"))
        data["limits"] = {"threads": threads}
        (run / RECIPE).write_text(json.dumps(data), encoding="utf-8")
    found = compare(runs)
    assert [entry.runs for entry in found.contests[0].entries] == [2]
    assert found.differences["limits.threads"] == ["2", "8"]


@pytest.mark.parametrize("threads", [2, 8])
def test_a_copy_of_a_run_is_no_seed_more(tmp_path: Path, threads: int) -> None:
    runs = [make_run(tmp_path / f"seed{i}", answers(0.5, i), seed=i) for i in (0, 1)]
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    data = json.loads((copy / RECIPE).read_text(encoding="utf-8"))
    data["limits"] = {"threads": threads}
    (copy / RECIPE).write_text(json.dumps(data), encoding="utf-8")
    found = compare([*runs, copy])
    (entry,) = found.contests[0].entries
    assert (entry.name, entry.runs) == ("seed0 and 1 more seed", 2)
    assert entry.score == compare(runs).contests[0].entries[0].score
    assert found.warnings == [
        "copy is not compared: it has the settings and the seeds of seed0, and would count twice"
    ]


def test_a_run_that_never_began_is_left_out_and_named(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), answers(0.5, i), steps=i + 1) for i in (0, 1)]
    failed = tmp_path / "failed"
    failed.mkdir()
    (failed / "lock").touch()
    assert "is not the folder of a run" in m2m("compare", *runs, failed).stderr
    (failed / "run.log").touch()
    found = m2m("compare", runs[0], failed, runs[1])
    assert found.exit_code == 0
    assert f"{failed} is not compared: its run never began" in found.stderr
    assert compare([*runs, failed]).runs == ["0", "1"]
    assert m2m("compare", failed, failed / ".." / "none").exit_code == 1
    (failed / RECIPE).write_text("{", encoding="utf-8")
    assert m2m("compare", *runs, failed).exit_code == 1


def test_a_difference_that_nobody_sees_is_a_draw(tmp_path: Path) -> None:
    one, other = (
        make_run(
            tmp_path / f"r{i}", answers(0.5, 1), shift=i * 1e-5, metric="bits_per_byte", steps=i + 1
        )
        for i in range(2)
    )
    (contest,) = compare([one, other]).contests
    assert contest.entries[1].wins == Interval(0.5, 0.5, 0.5)


def test_few_questions_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), [True, False, i > 0], steps=i + 1) for i in range(2)]
    (contest,) = compare(runs).contests
    assert contest.entries[1].ahead is None
    assert "too few questions to compare" in contest.caption


def test_a_run_without_its_answers_is_left_out_and_named(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, answers(0.5, 1), steps=len(name)) for name in ("a", "bb")]
    RunFolder(runs[1]).finetune_scores.unlink()
    found = compare(runs)
    assert [entry.name for entry in found.contests[0].entries] == ["a"]
    assert "bb is not compared: confirm.jsonl does not hold the answers" in found.warnings[0]
    (runs[1] / CONFIRMED).unlink()
    assert any("nothing is confirmed yet" in line for line in compare(runs).warnings)


def test_mistakes_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", answers(0.5, 1))
    with pytest.raises(InputError, match="given twice"):
        compare([run, tmp_path / "." / "a"])
    assert m2m("compare", run).exit_code == 2
    assert "is not the folder of a run" in m2m("compare", run, tmp_path / "none").stderr
    data = json.loads((run / RECIPE).read_text(encoding="utf-8"))
    data["targets"][0]["metric"] = "beauty"
    (run / RECIPE).write_text(json.dumps(data), encoding="utf-8")
    found = m2m("compare", run, make_run(tmp_path / "b", answers(0.5, 1)))
    assert "a is not compared: its metric beauty is none of m2m's" in found.stderr
    data["targets"][0]["metric"] = 3
    (run / RECIPE).write_text(json.dumps(data), encoding="utf-8")
    assert "metric is 3, expected a string" in m2m("compare", run, tmp_path / "b").stderr


def test_every_medium_has_the_tables_and_no_strangers_markup(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one", answers(0.5, 1))]
    tame = make_run(tmp_path / "two", answers(0.8, 2), notes="x", steps=20)
    evil = make_run(tmp_path / "three", answers(0.8, 2), notes=samples.EVIL, steps=20)
    pages = []
    for other in (tame, evil):
        found = m2m("compare", *runs, other, "--out", tmp_path / other.name / "out")
        assert found.exit_code == 0
        assert "ahead (95 %)" in found.stdout
        assert "\x1b" not in found.stdout
        pages.append(Reader((tmp_path / other.name / "out" / "compare.html").read_text("utf-8")))
    assert pages[0].elements == pages[1].elements
    out = tmp_path / "three" / "out"
    rows = list(csv.DictReader((out / "compare-1.csv").read_text("utf-8").splitlines()))
    assert [row["run"] for row in rows] == ["one", "three"]
    assert float(rows[1]["ahead"]) == pytest.approx(
        np.mean(answers(0.8, 2)) - np.mean(answers(0.5, 1))
    )
    assert (out / "compare-1.md").read_text("utf-8").count("\n") == 4
    tex = (out / "compare-1.tex").read_text("utf-8")
    assert r"\begin{tabular}{lrllrrrrl}" in tex
    assert tex.count(r" \\") == 3
