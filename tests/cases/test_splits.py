"""A column that says train, dev or test: rows of several splits are never used together unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.commands.given import NOTHING
from m2m.commands.init_lines import Failed, settings_that_work
from m2m.commands.init_rows import dataset_entry, target_entry
from m2m.dataset.mapping import RowMapping
from m2m.dataset.rows import load_dataset
from m2m.dataset.splits import Split
from m2m.dataset.templates import word_key
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.recipe import load_recipe
from tests.tiny import write_jsonl

# The column, and its value in each row; the first is the one to train on, the last the test's.
SPLITS: dict[str, tuple[str, list[Any]]] = {
    "split": ("split", ["train", "dev", "test"]),
    "a capital": ("Split", ["Train", "Validation", "Test"]),
    "set": ("set", ["training", "testing"]),
    "subset": ("subset", ["train", "valid", "test"]),
    "a flag": ("is_test", [False, True]),
    "a flag in words": ("is_train", ["yes", "no"]),
    "any name": ("sehemu", ["train", "test"]),
    "within an object": ("meta", [{"split": "train"}, {"split": "test"}]),
}
OTHERS: dict[str, tuple[str, list[Any]]] = {
    "one split": ("split", ["train"]),
    "two names of one split": ("split", ["dev", "validation"]),
    "another word": ("split", ["train", "bus"]),
    "labels": ("kind", ["dev", "test"]),
    "folds": ("fold", [0, 1, 2]),
}


def rows(name: str, values: list[Any], text: bool) -> list[dict[str, Any]]:
    """Return twelve rows, texts or pairs."""
    return [
        {
            **({"text": f"Habari ya {n} ya leo"} if text else {"prompt": f"Na {n}?"}),
            **({} if text else {"completion": f"Jibu {n}"}),
            name: values[n % len(values)],
        }
        for n in range(12)
    ]


@pytest.mark.parametrize("text", [False, True], ids=["pairs", "texts"])
@pytest.mark.parametrize("kind", SPLITS)
def test_several_splits_are_a_question_whose_lines_settle_it(
    kind: str, text: bool, tmp_path: Path
) -> None:
    name, values = SPLITS[kind]
    path = write_jsonl(tmp_path / "d.jsonl", rows(name, values, text))
    with pytest.raises(Split) as caught:
        load_dataset(path)
    column, picked = caught.value.choice[0]
    assert column.split(".")[0] == name
    assert picked == (word_key(values[0]["split"] if name == "meta" else values[0]),)
    mapping = RowMapping(text="{text}" if text and name == "meta" else "")
    counts = [
        len(load_dataset(path, RowMapping(text=mapping.text, where=(where,))))
        for where in caught.value.choice
        if not text or name in ("split", "Split", "meta")  # others may be the answer to a text
    ]
    assert counts in ([12 // len(values), 12], [])


@pytest.mark.parametrize("kind", OTHERS)
def test_other_columns_are_no_question(kind: str, tmp_path: Path) -> None:
    name, values = OTHERS[kind]
    path = write_jsonl(tmp_path / "d.jsonl", rows(name, values, text=False))
    assert len(load_dataset(path)) == 12
    assert len(load_task(path).examples) == 12


def test_a_target_gets_the_lines_of_its_dev_and_test_rows(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "t.jsonl", rows("split", ["train", "validation", "test"], text=False)
    )
    with pytest.raises(Split) as caught:
        load_task(path)
    assert caught.value.choice == [
        ("split", ("validation",)),
        ("split", ("test",)),
        ("split", ("train", "validation", "test")),
    ]
    assert 'where = { split = "validation" }' in (caught.value.hint or "")
    for where, count in zip(caught.value.choice, (4, 4, 12), strict=True):
        assert len(load_task(path, RowMapping(where=(where,))).examples) == count
    with pytest.raises(Split):
        target_entry((path,), ())


def test_a_column_that_is_the_answer_is_no_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", rows("sehemu", ["train", "test"], text=True))
    named = RowMapping(prompt="{text}", answer="{sehemu}")
    assert len(load_dataset(path, named)) == 12


def test_a_split_far_below_in_a_sorted_file_is_found(tmp_path: Path) -> None:
    pairs = [
        {"prompt": f"{n}?", "completion": f"{n}", "split": "train" if n < 900 else "test"}
        for n in range(1000)
    ]
    with pytest.raises(Split, match=r"train \(900\), test \(100\)"):
        load_dataset(write_jsonl(tmp_path / "d.jsonl", pairs))


def test_init_offers_the_line_for_a_table_of_texts_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    lines = [
        f"Habari ya {n} ya leo,{'ab'[n % 2]},{'train' if n < 8 else 'test'}" for n in range(12)
    ]
    path.write_text("\n".join(["text,label,split", *lines]), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        dataset_entry((path,))
    failed = Failed((path,), caught.value, lambda files, given: dataset_entry(files, given))
    (_, first), *_ = settings_that_work(failed, NOTHING)
    assert first.mapping == RowMapping(where=(("split", ("train",)),))
    entry = dataset_entry((path,), first)
    assert entry.read is not None
    assert len(entry.read.rows) == 8


def test_one_file_with_both_parts_is_a_target_by_two_picks(tmp_path: Path) -> None:
    made = [
        {"question": f"{word} {n}?", "choices": [f"a{n}", f"b{n}"], "answer": n % 2, "set": word}
        for word in ("train", "dev", "test") for n in range(4)
    ]  # fmt: skip
    write_jsonl(tmp_path / "d.jsonl", made)
    path = tmp_path / "r.toml"
    path.write_text(
        '[base]\nmodel = "x"\n[[datasets]]\nname = "d"\npath = "d.jsonl"\n'
        'where = { set = "train" }\n'
        '[[targets]]\nname = "t"\ndev = "d.jsonl"\ntest = "d.jsonl"\nshots = 1\n'
        'where = { set = "dev" }\ntest_where = { set = "test" }\n',
        encoding="utf-8",
    )
    (target,) = load_recipe(path).targets
    for part in ("dev", "test"):
        task = load_target(target, part)
        assert [example.prompt for example in task.examples] == [f"{part} {n}?" for n in range(4)]
        assert {example.prompt[:3] for example in task.form.pool} == {"dev"}
    with pytest.raises(Split, match="belong to several splits") as caught:
        load_task(tmp_path / "d.jsonl")
    assert "test_where" in (caught.value.hint or "")
