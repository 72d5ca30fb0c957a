"""Every row format becomes what it means, and wrong rows are named with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset import Row, load_dataset
from m2m.dataset import rows as rows_module
from m2m.dataset.mapping import RowMapping
from m2m.errors import InputError
from tests.tiny import write_jsonl

ASK = {"role": "user", "content": "ask"}
REPLY = {"role": "assistant", "content": "reply"}
SYSTEM = {"role": "system", "content": "be brief"}
TOOL = {"name": "clock"}


def load(tmp_path: Path, *rows: dict[str, Any]) -> list[Row]:
    return load_dataset(write_jsonl(tmp_path / "rows.jsonl", rows))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "ask", "completion": "reply"}, Row(1, messages=(ASK, REPLY))),
        ({"messages": [ASK, REPLY]}, Row(1, messages=(ASK, REPLY))),
        ({"messages": [SYSTEM, ASK, REPLY]}, Row(1, messages=(SYSTEM, ASK, REPLY))),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "ask"}]}, REPLY]},
            Row(1, messages=(ASK, REPLY)),
        ),
        (
            {"messages": [ASK, REPLY], "tools": [TOOL]},
            Row(1, messages=(ASK, REPLY), tools=(TOOL,)),
        ),
        ({"text": "free text"}, Row(1, text="free text")),
        (
            {
                "conversations": [
                    {"from": "human", "value": "ask"},
                    {"from": "gpt", "value": "reply"},
                ],
                "system": "be brief",
                "tools": json.dumps([TOOL]),
            },
            Row(1, messages=(SYSTEM, ASK, REPLY), tools=(TOOL,)),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "ask"},
                    {"from": "function_call", "value": "clock()"},
                    {"from": "observation", "value": "noon"},
                    {"from": "gpt", "value": "reply"},
                ]
            },
            Row(
                1,
                messages=(
                    ASK,
                    {"role": "assistant", "content": "clock()"},
                    {"role": "tool", "content": "noon"},
                    REPLY,
                ),
            ),
        ),
        (
            {"instruction": "ask", "input": "", "output": "reply"},
            Row(1, messages=(ASK, REPLY)),
        ),
        (
            {"instruction": "ask", "input": "this", "output": "reply", "history": [["q", "a"]]},
            Row(
                1,
                messages=(
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"},
                    {"role": "user", "content": "ask\nthis"},
                    REPLY,
                ),
            ),
        ),
        (
            {"segments": [{"label": False, "text": "Q "}, {"label": True, "text": "A"}]},
            Row(1, pieces=(("Q ", False), ("A", True))),
        ),
    ],
)
def test_a_row_is_read_as_its_format_means_it(
    tmp_path: Path, row: dict[str, Any], expected: Row
) -> None:
    assert load(tmp_path, row) == [expected]


def test_prompt_and_completion_win_over_text(tmp_path: Path) -> None:
    row = {"text": "### ask ### reply", "prompt": "ask", "completion": "reply"}
    assert load(tmp_path, row)[0].messages == (ASK, REPLY)


def test_other_files_hold_rows_too(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("prompt,completion\nask,reply\n", encoding="utf-8")
    text = tmp_path / "rows.txt"
    text.write_text("one\n\ntwo\n", encoding="utf-8")
    assert load_dataset(table) == [Row(2, messages=(ASK, REPLY))]
    assert load_dataset(text) == [Row(1, text="one"), Row(3, text="two")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "ask", "completion": ""}, '"completion" is empty'),
        ({"prompt": "ask", "completion": 3}, '"completion" must be text, found a number'),
        ({"messages": []}, '"messages" is empty'),
        ({"messages": "ask"}, '"messages" must be a list of objects, found text'),
        ({"messages": [ASK]}, "no assistant turn"),
        ({"messages": [ASK, {"role": "assistant", "content": " "}]}, "turn is empty"),
        ({"messages": [{"role": "cat", "content": "x"}]}, "message 1 has role 'cat'"),
        ({"messages": [{"role": "user"}, REPLY]}, "message 1: content must be text"),
        ({"messages": [{"role": "user", "content": [{"image": 1}]}, REPLY]}, "not text"),
        ({"conversations": [{"from": "cat", "value": "x"}]}, "turn 1 is \"from\" 'cat'"),
        ({"conversations": [{"from": "human", "value": None}]}, "must be text, found nothing"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, '"history" must be a list'),
        ({"segments": [{"text": "x"}]}, 'segment 1 needs "text"'),
        ({"segments": [{"text": "x", "label": False}]}, 'no segment with "label": true'),
        ({"messages": [ASK, REPLY], "tools": "{"}, '"tools" is text, but not JSON'),
        ({"question": "x"}, 'columns "question"'),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, row)
    assert words in caught.value.message
    assert "rows.jsonl" in caught.value.message
    assert "1" in caught.value.message


def test_all_wrong_rows_are_named_at_once(tmp_path: Path) -> None:
    good = {"prompt": "ask", "completion": "reply"}
    with pytest.raises(InputError) as caught:
        load(tmp_path, good, {"text": "x"}, good, {"prompt": " ", "completion": "a"})
    lines = caught.value.message.splitlines()
    assert lines[0].endswith("2 problems")
    assert lines[1].strip().startswith('- line 2: found keys "text", but the file began as')
    assert lines[2].strip() == '- line 4: "prompt" is empty'


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        load(tmp_path)


def test_more_faulty_rows_than_are_kept_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_KEPT", 3)
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": 1}] * 10)
    with pytest.raises(InputError, match="10 problems") as caught:
        load_dataset(path)
    assert 'lines 1, 2, 3: "completion" must be text' in caught.value.message
    assert "and 7 more" in caught.value.message


@pytest.mark.parametrize("word", ["#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"])
@pytest.mark.parametrize("side", ["prompt", "completion"])
def test_a_formula_that_failed_is_no_text(tmp_path: Path, word: str, side: str) -> None:
    rows = [f"Ìbéèrè {n},ìdáhùn {n}" for n in range(3)]
    bad = f"{word},a" if side == "prompt" else f"a,{word}"
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["prompt,completion", *rows, bad]), encoding="utf-8")
    with pytest.raises(InputError, match="for a formula that failed") as caught:
        load_dataset(path)
    assert "line 5" in caught.value.message
    mapping = RowMapping(prompt="{prompt}", answer="{completion}")
    with pytest.raises(InputError, match="for a formula that failed"):
        load_dataset(path, mapping)


@pytest.mark.parametrize(
    ("mapping", "field", "hint"),
    [
        (RowMapping("{Tambya}", "{Amsa}"), "'Tambya' of prompt", "`prompt`: did you mean Tambaya?"),
        (RowMapping("{tambaya} {Amsa?}", "{x}"), "'x' of completion", "`completion`: known are"),
        (RowMapping(text="{txet}"), "'txet' of text", "`text`: did you mean text?"),
        (RowMapping("{Tambaya}", "{Amsa}", system="{who}"), "'who' of system", "`system`: known"),
        (RowMapping("{Tambaya}", "{Amsa}", choices=("{Amso}", "{text}")), "'Amso' of choices",
         "`choices`: did you mean Amsa?"),
        (RowMapping(where=(("Amsaa", ("ruwa",)),)), "no row has Amsaa", "did you mean Amsa?"),
    ],
)  # fmt: skip
def test_a_field_that_no_row_has_is_a_fault_of_the_recipe(
    tmp_path: Path, mapping: RowMapping, field: str, hint: str
) -> None:
    rows = [{"Tambaya": "water?", "Amsa": "ruwa", "text": word} for word in ("", "x")]
    with pytest.raises(InputError) as error:
        load_dataset(write_jsonl(tmp_path / "rows.jsonl", rows), mapping)
    assert field in error.value.message
    assert hint in str(error.value.hint)


def test_a_field_that_some_rows_have_is_a_fault_of_the_others(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"a": "x"}, {"a": "x", "b": "y"}])
    with pytest.raises(InputError, match="line 1: no field 'b'"):
        load_dataset(file, RowMapping("{a}", "{b}"))
