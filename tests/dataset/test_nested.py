"""Rows inside of rows: nothing of a file is lost, and no other file is taken for one of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset.guess import guess
from m2m.dataset.mapping import RowMapping
from m2m.dataset.nested import unnested
from m2m.dataset.rows import load_dataset
from m2m.dataset.templates import fill
from m2m.errors import InputError
from m2m.formats.records import Record


def rows_of(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    records = [Record(row, number) for number, row in enumerate(rows, 1)]
    return [record.fields for record in unnested(Path("a.jsonl"), records)[0]]


def test_a_reply_of_a_tree_without_a_list_of_replies_is_kept() -> None:
    said = {"message_id": "b", "text": "Nzuri", "role": "assistant"}
    asked = {"message_id": "a", "text": "Habari?", "role": "prompter", "replies": [said]}
    assert [len(row["messages"]) for row in rows_of({"prompt": asked})] == [2]
    strange = {**asked, "replies": ["Nzuri"]}
    assert {"text": "Nzuri", "parent_id": "a"} in rows_of({"prompt": strange})


def test_answers_below_a_deleted_turn_are_left_out_in_any_order() -> None:
    turns = [
        {"message_id": n, "parent_id": n - 1 if n % 4 else None, "text": "t", "deleted": n == 5,
         "role": ("prompter", "assistant")[n % 2]}
        for n in range(12)
    ]  # fmt: skip
    for order in (turns, turns[::-1]):
        assert [len(row["messages"]) for row in rows_of(*order)] == [4, 4]


def test_numbered_columns_are_no_rows_next_to_another_question() -> None:
    row = {"Question": "Jina?", "Q1": "Nani?", "A1": "Juma", "Q2": "Wapi?", "A2": "Mjini"}
    assert rows_of(row) == [row]
    del row["Question"]
    assert [each["question"] for each in rows_of(row)] == ["Nani?", "Wapi?"]
    assert [each["question_idx"] for each in rows_of(row)] == [1, 2]  # for `where`


def test_texts_before_a_question_are_no_conversation() -> None:
    row = {"history": ["Habari?", "Nzuri"], "question": "Jina lako nani?", "answer": "Juma"}
    made = guess(Path("a.jsonl"), [Record(row, 1)], "dataset")
    assert made is None or not made.mapping.messages


def test_an_optional_list_has_its_form() -> None:
    template = "{a} {tags?:comma}"
    assert fill(template, {"a": "x", "tags": ["b", "c"]}) == "x b, c"
    assert fill(template, {"a": "x", "tags": '["b", "c"]'}) == "x b, c"
    assert fill(template, {"a": "x", "tags": None}).strip() == "x"


@pytest.mark.parametrize(
    "lines",
    [
        "Asha alirudi.\n\u2018Unatoka wapi?\u2019\n",
        "Jina?\nAsha.\n",
        "Mbili.\nMoja.\n\n",
        "1. Haraka haraka - hast hast\n2. Pole pole (slowly) - slow\n",
        "Asha: Habari?\nJuma: Nzuri.\n",
    ],
)
def test_a_story_that_looks_like_something_else_can_be_read(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(lines * 4, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    assert 'text = "{text}"' in (caught.value.hint or "")
    assert len(load_dataset(path, RowMapping(text="{text}"))) == 8


def test_rows_that_hold_no_others_are_not_all_looked_at() -> None:
    rows = Counted([Record({"prompt": "a", "completion": "b"}, n) for n in range(100)])
    assert unnested(Path("a.jsonl"), rows)[0] is rows
    assert rows.read < 20


class Counted(list[Record]):
    """Records that count how many of them are read in turn."""

    read = 0

    def __iter__(self) -> Iterator[Record]:
        for record in super().__iter__():
            self.read += 1
            yield record
