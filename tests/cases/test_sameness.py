"""Kind: two texts are the same in one place and differ in another.

Distractors that exact match holds to be right, a solved example that is the question itself in
capitals, two choices of which nobody can tell the right one, sums that a data check calls equal.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from m2m.commands.data_check import check_data
from m2m.errors import InputError
from m2m.evaluate.overlap import answer_match
from m2m.evaluate.prompts import Prompter
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import contrasted, load_task
from m2m.formats.gguf import GGUFFile
from m2m.recipe import Target
from m2m.tokenizer import Formatter, Tokenizer
from tests.tiny import pico_gguf, write_jsonl

CITIES = ["Nairobi", "nairobi.", "NAIROBI", "Dodoma", "dodoma ", "Kampala", "Kigali", "kigali?"]


def test_no_distractor_is_held_to_be_right(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Capital {i}?", "answer": [city, "Dar es Salaam"] if city == "Dodoma" else city}
        for i, city in enumerate([*CITIES, "dar es salaam", "Lilongwe"])
    ]
    # Two rows that ask the same question answer it in two right ways.
    rows += [
        {"prompt": "A lake?", "answer": "Victoria"},
        {"prompt": "a lake", "answer": "Tanganyika"},
    ]
    task = load_task(write_jsonl(tmp_path / "t.jsonl", rows))
    lakes = ("Victoria", "Tanganyika")
    for seed, example in itertools.product(range(20), range(len(rows))):
        asked = contrasted(task, seed).examples[example]
        right = (*asked.references, *(lakes if "lake" in asked.prompt else ()))
        distractors = asked.choices[1:]
        assert len(distractors) == 3
        assert not any(answer_match(each, right) for each in distractors)
        for one, other in itertools.combinations(distractors, 2):
            assert not answer_match(one, [other])


def test_answers_that_are_all_the_same_or_all_right_are_refused(tmp_path: Path) -> None:
    same = [{"prompt": "a", "answer": "Ndiyo"}, {"prompt": "b", "answer": "ndiyo!"}]
    with pytest.raises(InputError, match="all answers are the same"):
        load_task(write_jsonl(tmp_path / "same.jsonl", same))
    right = [{"prompt": "Sema:", "answer": "ndiyo"}, {"prompt": "sema", "answer": "hapana"}]
    with pytest.raises(InputError, match=r"right\.jsonl:1: the file has no wrong answer"):
        contrasted(load_task(write_jsonl(tmp_path / "right.jsonl", right)))


def test_choices_that_are_one_text_are_refused_with_their_line(tmp_path: Path) -> None:
    rows = [
        {"question": "1 ? 2", "choices": ["<", ">"], "answer": 0},
        {"question": "?", "choices": ["Ndiyo", "hapana", "ndiyo."], "answer": 1},
    ]
    with pytest.raises(InputError, match=r"line 2: the choices 'Ndiyo' and 'ndiyo\.' are the same"):
        load_task(write_jsonl(tmp_path / "t.jsonl", rows))
    labels = Target("t", write_jsonl(tmp_path / "u.jsonl", rows), choices=("a", "b", "A"))
    with pytest.raises(InputError, match="the choices 'a' and 'A' are the same"):
        load_target(labels, "dev")


def test_a_solved_example_is_never_the_question_in_other_letters(tmp_path: Path) -> None:
    rows = [{"prompt": p, "answer": a} for p, a in zip("aAbc", "wxyz", strict=True)]
    test = [{"prompt": "C.", "answer": "z"}, {"prompt": "d", "answer": "w"}]
    target = Target(
        "t",
        write_jsonl(tmp_path / "dev.jsonl", rows),
        write_jsonl(tmp_path / "test.jsonl", test),
        shots=1,
    )
    task = load_target(target, "dev")
    assert [each.prompt for each in task.form.pool] == ["a", "A", "b"]
    pico = GGUFFile(pico_gguf(tmp_path / "pico.gguf"))
    prompter = Prompter(task.form, Formatter(Tokenizer.from_metadata(pico.value)))
    assert [each.prompt for each in prompter.shots(task.examples[0])] == ["b"]


def test_sums_and_signs_are_no_duplicates_and_no_leaks(tmp_path: Path) -> None:
    sums = [(f"{a} {sign} {b}", a, b, sign) for a in range(3, 9) for b in (1, 2) for sign in "+-"]
    rows = [
        {"prompt": f"Work out {text}", "completion": str(a + b if sign == "+" else a - b)}
        for text, a, b, sign in sums
    ]
    data = write_jsonl(tmp_path / "sums.jsonl", rows)
    asked = [{"prompt": "3 / 1", "answer": "3"}, {"prompt": "Work out -5 + 1", "answer": "-4"}]
    found = check_data([data], [load_task(write_jsonl(tmp_path / "t.jsonl", asked))])[0]
    assert (found.duplicates, found.contradictions, found.overlap) == (0, 0, 0)
