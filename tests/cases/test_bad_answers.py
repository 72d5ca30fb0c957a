"""Rows with a column that marks some answers as bad: m2m asks, in every command that reads them.

The kind: people invent their own marks, so a list of names that tools use is never complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.commands.given import NOTHING
from m2m.commands.init_lines import Failed, settings_that_work
from m2m.commands.init_rows import Unclear, dataset_entry, target_entry
from m2m.dataset.answers import READINGS
from m2m.dataset.mapping import RowMapping
from m2m.dataset.quality import Marked
from m2m.dataset.rows import load_dataset
from m2m.dataset.templates import word_key
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.recipe import Target
from tests.tiny import write_jsonl

# The column, its values (the good ones first), and how many of them are good.
MARKS: dict[str, tuple[str, list[Any], int]] = {
    "KTO in words": ("label", ["good", "bad"], 1),
    "1 and -1": ("label", [1, -1], 1),
    "a status": ("status", ["Approved", "Not approved"], 1),
    "a status with a third value": ("review_status", ["done", "rejected by A.", "pending"], 2),
    "DPO in rows": ("preference", ["chosen", "rejected"], 1),
    "verified": ("verified", [True, False], 1),
    "checked": ("is_checked", ["yes", "no"], 1),
    "flagged": ("flagged", ["False", "True"], 1),
    "stars": ("rating", [5, 1, 3], 1),
    "stars of a table with empty cells": ("stars", ["5.0", "4.0"], 1),
    "a scale in words": ("quality", ["high", "low"], 0),
    "another language's name": ("ubora", ["OK", "wrong"], 1),
}
# Columns that mark no answer as bad.
OTHERS: dict[str, tuple[str, list[Any]]] = {
    "all are good": ("label", ["good"]),
    "all have one rating": ("rating", [5]),
    "scores of a program": ("score", [0.913, 0.552, 0.871, 0.333, 0.25, 0.75]),
    "topics": ("topic", ["health", "sport"]),
    "a level": ("level", [1, 2]),
}


def rows(name: str, values: list[Any]) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Swali la {n}?", "completion": f"Jibu {n}", name: values[n % len(values)]}
        for n in range(12)
    ]


@pytest.mark.parametrize("mark", MARKS)
def test_m2m_asks_and_each_line_that_it_offers_settles_it(mark: str, tmp_path: Path) -> None:
    name, values, good = MARKS[mark]
    path = write_jsonl(tmp_path / "rows.jsonl", rows(name, values))
    with pytest.raises(Marked) as caught:
        load_dataset(path)
    assert all(f"{word_key(v)} (" in caught.value.message for v in values)
    counts = [len(load_dataset(path, RowMapping(where=(w,)))) for w in caught.value.choice]
    assert counts == [12 * good // len(values), 12] if good else counts[-1] == 12
    mapped = RowMapping(prompt="{prompt}", answer="{completion}")
    with pytest.raises(Marked):
        load_dataset(path, mapped)
    with pytest.raises(Marked):
        load_target(Target("t", path), "dev")


@pytest.mark.parametrize("other", OTHERS)
def test_other_columns_are_no_marks(other: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(*OTHERS[other]))
    assert len(load_dataset(path)) == 12


def test_a_class_of_the_answer_is_no_mark(tmp_path: Path) -> None:
    made = [{**row, "completion": row["label"]} for row in rows("label", ["good", "bad"])]
    assert len(load_dataset(write_jsonl(tmp_path / "rows.jsonl", made))) == 12


def test_init_offers_lines_that_work(tmp_path: Path) -> None:
    tasks = [
        {
            "id": n,
            "data": {"text": f"Habari ya {n}"},
            "meta": {"thumbs_up": n % 2 > 0},
            "annotations": [
                {
                    "result": [{"type": "choices", "value": {"choices": ["pos"]}}],
                }
            ],
        }
        for n in range(8)
    ]
    path = write_jsonl(tmp_path / "tasks.jsonl", tasks)
    with pytest.raises(Marked) as caught:
        dataset_entry((path,))
    found = settings_that_work(Failed((path,), caught.value, dataset_entry), NOTHING)
    assert [len(dataset_entry(files, given).rows) for files, given in found] == [4, 8]


def test_the_readings_that_init_offers_for_a_choice_all_fit(tmp_path: Path) -> None:
    """Digits as choices: "2" is a text and an index from 0, but never one from 1."""
    choices = [["3", "1", "0", "2"], ["2", "0", "3", "1"]]
    made = [
        {"question": f"Ngapi {n}?", "choices": choices[n % 2], "answer": str(n % 4)}
        for n in range(8)
    ]
    path = write_jsonl(tmp_path / "dev.jsonl", made)
    (question,) = target_entry((path,), ()).questions
    for reading in READINGS:
        fits = reading in ("text", "index0")
        assert (f'answers = "{reading}"' in question) == fits
        if fits:
            load_target(Target("t", path, answers=reading), "dev")


# Rows with right and wrong answers, and the mapping that `m2m init` writes or the lines it offers.
WRONG = ("rejected", "distractor", "reasoning", "from_name", "to_name", "was_cancelled", "subject")
SCIQ = {f"distractor{n}": f"si {n}" for n in (1, 2, 3)}
RIGHT: dict[str, tuple[dict[str, Any], str]] = {
    "Orca DPO": ({"system": "Jibu", "question": "q", "chosen": "y", "rejected": "n"}, "{chosen}"),
    "SciQ": ({"question": "q", **SCIQ, "correct_answer": "ndiyo"}, "{correct_answer}"),
    "reasoning": ({"question": "q", "reasoning": "r", "answer": "a"}, "{answer}"),
    "Global MMLU": ({"sample_id": "s", "subject": "b", "subject_category": "S", "question": "q",
                     "option_a": "w", "option_b": "x", "answer": "A", "time_sensitive": "[]",
                     "cultural_sensitivity_label": "-", "is_annotated": False}, "{answer}"),
    "HH": ({"chosen": "Human: a", "rejected": "Human: b"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_no_wrong_answer_is_read_or_offered(kind: str, tmp_path: Path) -> None:
    fields, answer = RIGHT[kind]
    made = [{**fields, "question": f"q {n}"} if len(fields) > 2 else fields for n in range(6)]
    path = write_jsonl(tmp_path / "rows.jsonl", made)
    try:
        mappings = [dataset_entry((path,)).mapping]
    except Unclear as error:
        mappings = [way.mapping for way in error.choice]
    assert mappings[0].answer == answer
    for mapping in mappings:
        if mapping.answer == f"{{reasoning}}\n{answer}":  # the steps, and where they lead
            continue
        read = " ".join((mapping.prompt, mapping.answer, mapping.text))
        assert not [word for word in WRONG if word in read]
    if kind == "SciQ":
        assert mappings[0].choices[-1] == "{correct_answer}"
        assert len(mappings[0].choices) == 4
    if kind == "Orca DPO":
        assert mappings[0].system == "{system?}"


def test_a_mapping_to_wrong_answers_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"chosen": "y", "rejected": "n"}])
    with pytest.raises(InputError, match="holds the wrong answers"):
        load_dataset(path, RowMapping(prompt="{chosen}", answer="{rejected}"))
