"""Labels that are one word to people and several to a model are never joined in silence."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from m2m.commands.data_check import check_data
from m2m.dataset.label_forms import alike_labels, labels_apart
from m2m.dataset.mapping import RowMapping
from m2m.dataset.rows import load_dataset
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import Dataset, Target, load_recipe
from tests.pipeline.scenario import make_scenario
from tests.tiny import write_jsonl

ONE = RowMapping(prompt="{text}", answer="{label}")
FORMS = ("Positive", "positive ", "Positive", "Negative", "POSITIVE", "Negative")


def labelled(path: Path, labels: tuple[str, ...] = FORMS, times: int = 10) -> Path:
    rows = [
        {"text": f"aago {place} {time}", "label": label}
        for time in range(times)
        for place, label in enumerate(labels)
    ]
    return write_jsonl(path, rows)


@pytest.mark.parametrize("read", [load_dataset, load_task])
def test_labels_in_two_forms_are_refused_with_the_line_that_joins_them(
    tmp_path: Path, read: object
) -> None:
    path = labelled(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="differ only in case or spaces") as caught:
        read(path, ONE)  # type: ignore[operator]
    assert "'Positive' (20) and 'positive ' (10) and 'POSITIVE' (10)" in caught.value.message
    line = (caught.value.hint or "").partition("write ")[2].partition(" in the recipe")[0]
    labels = tuple(tomllib.loads(line)["labels"].items())
    joined = dataclasses.replace(ONE, labels=labels)
    answers = [row.sides[1] for row in load_dataset(path, joined)]
    assert sorted({*answers}) == ["Negative", "Positive"]
    assert answers.count("Positive") == 40
    task = load_task(path, joined)
    assert task.kind == "labels" and {*task.examples[0].choices} == {"Negative", "Positive"}


def test_data_check_reports_them_as_refused(tmp_path: Path) -> None:
    path = labelled(tmp_path / "rows.jsonl")
    (checked,) = check_data([Dataset("rows", path, prompt="{text}", completion="{label}")])
    assert checked.refused
    assert "labels = {" in checked.problems[0].hint


def test_files_that_write_the_same_labels_differently_are_named(tmp_path: Path) -> None:
    train = labelled(tmp_path / "train.jsonl", ("Positive", "Negative"), 40)
    dev = labelled(tmp_path / "dev.jsonl", ("positive", "Negative"), 40)
    dataset = Dataset("train", train, prompt="{text}", completion="{label}")
    task = load_target(Target("t", dev, prompt="{text}", answer="{label}"), "dev")
    checked = check_data([dataset], [task])[0]
    (problem,) = [p for p in checked.problems if "another file" in p.message]
    assert "'Positive' and 'positive' in dev.jsonl" in problem.message


@pytest.mark.parametrize(
    "labels",
    [
        ("Rere", "Búburú"),  # other words
        ("ọkọ", "oko"),  # tone marks make words
        ("1", "2"),
        tuple(f"idahun {n}" for n in range(30)),  # not labels: too many
    ],
)
def test_labels_that_are_other_words_are_read(tmp_path: Path, labels: tuple[str, ...]) -> None:
    assert load_dataset(labelled(tmp_path / "rows.jsonl", labels), ONE)


def test_answers_of_single_questions_are_no_labels(tmp_path: Path) -> None:
    path = labelled(tmp_path / "rows.jsonl", ("Bẹẹni", "bẹẹni", "Rárá"), 1)
    assert len(load_dataset(path, ONE)) == 3


def test_groups_have_the_most_frequent_label_first() -> None:
    assert alike_labels({"a": 1, "A ": 5, "b": 2}) == [["A ", "a"]]
    assert labels_apart({"a": 1}, {"x": ["a"], "y": ["A", "b"]}) == "'a' and 'A' in y"


def test_a_run_warns_if_dataset_and_target_write_the_same_labels_differently(
    tmp_path: Path,
) -> None:
    recipe = load_recipe(make_scenario(tmp_path))
    train = labelled(tmp_path / "train.jsonl", ("Positive", "Negative"), 40)
    dev = labelled(tmp_path / "dev.jsonl", ("positive", "Negative"), 40)
    dataset = Dataset("mood", train, prompt="{text}", completion="{label}")
    target = Target("t", dev, prompt="{text}", answer="{label}")
    recipe = dataclasses.replace(recipe, datasets=(*recipe.datasets, dataset), targets=(target,))
    (warning,) = [c for c in read_inputs(recipe).warnings if "differ only in case" in c]
    assert "Labels of mood" in warning and "'Positive' and 'positive' in t (dev)" in warning
