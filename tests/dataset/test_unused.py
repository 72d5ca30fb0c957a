"""Columns with words are a part of the prompt, or are named with a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.dataset.guess import guess
from m2m.dataset.mapping import RowMapping
from m2m.dataset.unused import unused_columns, unused_words
from m2m.dataset.ways import ways
from m2m.formats.records import Record


def records(*fields: dict[str, Any]) -> list[Record]:
    return [Record(each, line) for line, each in enumerate(fields, 1)]


def eli5(number: int) -> dict[str, Any]:
    texts = [f"Light scatters {number}.", f"Because of air {number}."]
    answers = {"a_id": ["x", "y"], "text": texts, "score": [5, 2]}
    return {"q_id": f"a{number}", "title": f"Why is the sky blue {number}?",
            "selftext": "A child." * (number % 2),
            "subreddit": "explainlikeimfive", "answers": answers}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "prompt", "completion"),
    [
        (records(*map(eli5, range(9))), "{title}\n{selftext?}", "{answers.text.0}"),
        (
            records(*({"title": f"Peel {i}?", "body": f"A knife {i}.", "answer": f"So {i}."}
                      for i in range(9))),
            "{title}\n{body?}",
            "{answer}",
        ),
        (
            records(*({"id": i, "topic": i % 3, "question_title": f"Dogs {i}?",
                       "question_content": f"It barks {i}", "best_answer": f"Food {i}."}
                      for i in range(9))),
            "{question_title}\n{question_content?}",
            "{best_answer}",
        ),
    ],
)  # fmt: skip
def test_the_title_of_a_question_is_a_part_of_the_prompt(
    rows: list[Record], prompt: str, completion: str
) -> None:
    made = guess(Path("rows.jsonl"), rows, "dataset")

    assert made is not None
    assert (made.mapping.prompt, made.mapping.answer) == (prompt, completion)


def test_a_column_that_the_model_does_not_see_is_named_with_a_value() -> None:
    rows = records(*({"title": f"About sorting {i}", "question": f"How {i}?", "answer": f"So {i}."}
                     for i in range(9)))  # fmt: skip
    mapping = RowMapping(prompt="{question}", answer="{answer}")
    texts = [f"{row.fields['question']} {row.fields['answer']}" for row in rows]

    names = unused_columns(rows, mapping, texts)

    assert unused_words(names, rows) == (
        "the model does not see the column title (such as 'About sorting 0')"
    )


def test_a_long_value_is_cut() -> None:
    words = unused_words(["title"], records({"title": "word " * 50}))

    assert words.endswith("...')")
    assert len(words) < 120


def test_ids_and_authors_of_answers_are_no_way_to_read_a_file() -> None:
    rows = records(*({"qid": i, "question": f"How to sort {i}?", "answers": [
        {"answer_id": 1, "author": "a", "text": f"So {i}"}]} for i in range(9)))  # fmt: skip

    offered = [way.mapping for way in ways(Path("rows.jsonl"), rows, "dataset")]

    assert offered[0] == RowMapping(prompt="{question}", answer="{answers.0.text}")
    assert not any("author" in mapping.answer for mapping in offered)
