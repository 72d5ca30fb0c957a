from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.evaluate.tasks import contrasted, load_task, requests
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiny import CHATML, pico_config, pico_metadata, pico_target, write_jsonl

CHOICES: dict[str, Any] = {"question": "2 + 2", "choices": ["3", "4"], "answer": 1}
ZERO = CHOICES | {"question": "2 + 1", "answer": 0}  # answers are counted from 0


@pytest.fixture
def formatter() -> Formatter:
    metadata = pico_metadata(pico_config())
    tokenizer = Tokenizer.from_metadata(lambda key: getattr(metadata.get(key), "value", None))
    return Formatter(tokenizer, ChatTemplate(CHATML, "<|im_start|>", "<|im_end|>"))


def test_the_three_kinds(tmp_path: Path) -> None:
    three = ZERO | {"choices": ["1", "3", "7"]}
    task = load_task(write_jsonl(tmp_path / "a.jsonl", [CHOICES | {"facet": "sums"}, three]))
    assert (task.kind, task.examples[0].gold, task.examples[0].facet) == ("choices", 1, "sums")
    assert task.examples[0].choices == ("3", "4")
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d", "lang": "sw"}]
    task = load_task(write_jsonl(tmp_path / "b.jsonl", rows))
    assert (task.kind, task.examples[1].choices, task.examples[1].line) == ("answer", ("d",), 2)
    assert [each.facet for each in task.examples] == [None, "sw"]
    task = load_task(write_jsonl(tmp_path / "c.jsonl", [{"text": "habari"}]))
    assert (task.kind, task.examples[0].choices) == ("text", ("habari",))
    (tmp_path / "d.csv").write_text("prompt,answer\nq,a\nr,b\n", encoding="utf-8")
    assert load_task(tmp_path / "d.csv").kind == "answer"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": 2}, '"answer" is 2, expected an index from 0 to 1'),
        ({"answer": True}, '"answer" is True'),
        ({"answer": "4"}, "\"answer\" is '4'"),
        ({"answer": None}, '"answer" is None'),
        ({"choices": ["3"]}, "expected a list of two texts or more"),
        ({"choices": "34"}, "expected a list of two texts or more"),
        ({"choices": ["3", " "]}, "expected non-empty texts"),
        ({"choices": ["3", 4]}, "expected non-empty texts"),
        ({"choices": ["3", "3"]}, "are the same text"),
        ({"question": ""}, "\"question\" is '', expected a text"),
    ],
)
def test_mistakes_have_file_line_and_what_was_expected(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [ZERO, CHOICES | change])
    with pytest.raises(InputError) as caught:
        load_task(path)
    assert str(path) in caught.value.message
    assert "line 2" in caught.value.message
    assert words in caught.value.message
    assert "index of the right one" in (caught.value.hint or "")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [CHOICES, {"text": "x"}, CHOICES | {"answer": 9}]
    with pytest.raises(InputError, match=r"2 problems\n.*line 2.*\n.*line 3"):
        load_task(write_jsonl(tmp_path / "t.jsonl", rows))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "has no rows"),
        ([{"input": "a", "output": "b"}], r"t\.jsonl:1: the columns input, output do not fit"),
        ([{"prompt": "a", "answer": "x"}] * 3, "all answers are the same"),
    ],
)
def test_files_that_are_no_targets(rows: list[dict[str, str]], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_task(write_jsonl(tmp_path / "t.jsonl", rows))


def test_the_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    path = pico_target(tmp_path / "t.jsonl", "copy", 3)
    first = load_task(path)
    assert load_task(path).fingerprint == first.fingerprint
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(CHOICES), encoding="utf-8")
    assert load_task(path).fingerprint != first.fingerprint


def test_distractors_are_seeded_other_answers_of_like_length(tmp_path: Path) -> None:
    answers = ["w" * n + letter for n in (1, 1, 1, 1, 1, 9, 9, 9, 9, 9) for letter in "abc"]
    rows = [{"prompt": str(i), "answer": a} for i, a in enumerate(answers)]
    task = load_task(write_jsonl(tmp_path / "t.jsonl", rows))
    drawn = contrasted(task, 5)
    assert drawn == contrasted(task, 5)
    assert drawn != contrasted(task, 6)
    for example in drawn.examples:
        assert example.gold == 0
        assert len(set(example.choices)) == 4
        assert example.choices[0] == answers[example.line - 1]
    lengths = [[len(c) for c in e.choices] for e in drawn.examples]
    near = sum(abs(other - own) == 0 for own, *others in lengths for other in others)
    assert near > len(lengths)  # of each length only three answers differ


def test_two_different_answers_are_enough(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "x"}, {"prompt": "b", "answer": "y"}]
    drawn = contrasted(load_task(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert [e.choices for e in drawn.examples] == [("x", "y"), ("y", "x")]
    plain = load_task(pico_target(tmp_path / "u.jsonl", "copy", 3))
    assert contrasted(plain) is plain


def test_requests_are_prompts_and_bare_answers(tmp_path: Path, formatter: Formatter) -> None:
    task = load_task(write_jsonl(tmp_path / "t.jsonl", [CHOICES, ZERO]))
    request, _ = requests(task, formatter)
    decode = formatter.tokenizer.decode
    assert decode(request.prompt).endswith("2 + 2<|im_end|>\n<|im_start|>assistant\n")
    assert [decode(c) for c in request.continuations] == ["3", "4"]
    (text,) = requests(
        load_task(write_jsonl(tmp_path / "u.jsonl", [{"text": "the sea"}])), formatter
    )
    assert len(text.prompt) == 1
    assert decode([*text.prompt, *text.continuations[0]]) == "the sea"
