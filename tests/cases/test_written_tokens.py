"""Special tokens that stand in rows as text: double ends, templates rendered twice, other models'.

Reported for other trainers as answers that never end, or end with "</s>" on the screen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.commands.data_check import check_data
from m2m.dataset import encode, load_dataset
from m2m.errors import InputError
from m2m.tokenizer import Formatter
from tests.templates import formatter_of
from tests.tiny import CHATML, write_jsonl

RENDERED = "<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\nreply<|im_end|>\n"


def loaded(path: Path, row: dict[str, str], formatter: Formatter | None = None) -> None:
    encode(load_dataset(write_jsonl(path, [row])), formatter or formatter_of(CHATML), 512, path)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "ask", "completion": "reply<|im_end|>"},
        {"prompt": RENDERED, "completion": "reply"},
        {"text": "once upon a time<|im_end|>"},
    ],
)
def test_a_control_token_in_a_row_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, str]
) -> None:
    with pytest.raises(InputError, match=r"line 1: the text has the control token <\|im_"):
        loaded(tmp_path / "rows.jsonl", row)
    with pytest.raises(InputError, match="control token"):
        plain = Formatter(formatter_of(CHATML).tokenizer)
        loaded(tmp_path / "rows.jsonl", row, plain)


def test_segments_keep_their_tokens(tmp_path: Path) -> None:
    row = {"segments": [{"text": RENDERED[:-17], "label": False}, {"text": "reply", "label": True}]}
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    formatter = formatter_of(CHATML)
    (sample,) = encode(load_dataset(path), formatter, 512, path)
    assert sample.ids[0] == formatter.tokenizer.tokens.index("<|im_start|>")


def test_the_end_token_of_another_model_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"ask {i}", "completion": f"reply {i}</s>"} for i in range(3)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    (found,) = check_data([path], formatter=formatter_of(CHATML))
    (problem,) = [each for each in found.problems if each.kind == "end_written"]
    assert "3 rows with the end token of a model" in problem.message
    assert problem.lines == (1, 2, 3)


def test_numbers_are_no_language(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i} + {i} =", "completion": str(2 * i)} for i in range(1000, 1200)]
    path = write_jsonl(tmp_path / "sums.jsonl", rows)
    (found,) = check_data([path], formatter=formatter_of(CHATML))
    assert "tokenizer" not in {each.kind for each in found.problems}


def test_bare_texts_contradict_nothing(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "texts.jsonl", [{"text": f"story {i}"} for i in range(9)])
    (found,) = check_data([path])
    assert "contradictions" not in {each.kind for each in found.problems}
