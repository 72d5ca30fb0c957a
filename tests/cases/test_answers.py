"""Kind: a number that names a choice, read otherwise than it was meant.

Labels that are numbers, places counted from 1, letters; the same rows as JSON and as CSV. The
independent reference is the table of the meaning that each file was written with.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m.cli.main import cli
from m2m.commands.data_check import check_data
from m2m.commands.eval import compare_models
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Target, load_recipe
from tests.pipeline.scenario import copied, make_scenario
from tests.tiny import pico_gguf, write_jsonl

WORDS = ("paka", "mbwa", "simba", "ng'ombe", "twiga")
# What a row's answer is when the choice at a place is meant.
WRITTEN: dict[str, Callable[[int, Sequence[str]], Any]] = {
    "text": lambda place, choices: choices[place],
    "letter": lambda place, choices: "ABCDE"[place],
    "index0": lambda place, choices: place,
    "index1": lambda place, choices: place + 1,
}


def rows(places: Sequence[int], answers: Sequence[Any], choices: Sequence[str] | None) -> list[Any]:
    listed = {} if choices is None else {"choices": list(choices)}
    return [
        {"question": f"swali {i}: {place}?", "answer": answer, **listed}
        for i, (place, answer) in enumerate(zip(places, answers, strict=True))
    ]


def as_csv(path: Path, made: list[Any]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(made)
    return path


def read(target: Target, part: Any = "dev") -> tuple[str, list[str]]:
    task = load_target(target, part)
    return task.answers, [each.answer for each in task.examples]


@pytest.mark.parametrize("reading", WRITTEN)
def test_every_way_to_name_a_choice_is_found_in_the_rows(tmp_path: Path, reading: str) -> None:
    places = [0, 4, 2, 1, 3, 0]
    answers = [WRITTEN[reading](place, WORDS) for place in places]
    meant = (reading, [WORDS[place] for place in places])
    made = rows(places, answers, WORDS)
    assert read(Target("t", write_jsonl(tmp_path / "t.jsonl", made))) == meant
    bare = rows(places, answers, None)
    as_json = Target("t", write_jsonl(tmp_path / "u.jsonl", bare), choices=WORDS)
    assert read(as_json) == meant
    assert read(Target("t", as_csv(tmp_path / "u.csv", bare), choices=WORDS)) == meant
    texts = rows(places, [f" {each} " for each in answers], None)
    assert read(Target("t", write_jsonl(tmp_path / "v.jsonl", texts), choices=WORDS)) == meant


@pytest.mark.parametrize(
    ("choices", "answers", "meant"),
    [
        (("1", "0"), [1, 0, 0, 1], "1001"),
        (("0", "1"), [1, 0, 0, 1], "1001"),
        (tuple("12345"), [1, 5, 3, 2], "1532"),
        (tuple("12345"), [1, 4, 3, 2], "1432"),  # 5 stars never occur
        (("-1", "0", "1"), [-1, 1, 0, -1], ["-1", "1", "0", "-1"]),
        (("true", "false"), [True, False, True], ["true", "false", "true"]),
        (("Ndiyo", "Hapana"), ["ndiyo", "HAPANA."], ["Ndiyo", "Hapana"]),
    ],
)
def test_labels_that_are_numbers_are_read_as_in_csv(
    tmp_path: Path, choices: tuple[str, ...], answers: list[Any], meant: Sequence[str]
) -> None:
    made = rows(range(len(answers)), answers, None)
    as_json = Target("t", write_jsonl(tmp_path / "t.jsonl", made), choices=choices)
    assert read(as_json) == ("text", list(meant))
    assert read(Target("t", as_csv(tmp_path / "t.csv", made), choices=choices)) == (
        "text",
        list(meant),
    )


def test_choices_of_different_numbers_each_count(tmp_path: Path) -> None:
    made = rows([0, 1], [2, 2], ["a", "b", "c"])
    made[1]["choices"] = ["d", "e"]  # 2 of 2: counted from 1
    assert read(Target("t", write_jsonl(tmp_path / "t.jsonl", made))) == ("index1", ["b", "e"])


@pytest.mark.parametrize(
    ("choices", "answers", "words", "named"),
    [
        (WORDS, [1, 2, 4, 3], "'1' is 'mbwa' as the place of a choice, counted from 0, and 'paka' "
         "as the place of a choice, counted from 1", ("index0", "index1")),
        (("1", "0"), [1, 0], "'1' is '1' as the text of a choice, and '0' as the place of a choice"
         ", counted from 0", ("text", "index0")),
        (("B", "A"), ["A", "B"], "'A' is 'A' as the text of a choice, and 'B' as the letter",
         ("text", "letter")),
        (("2", "1", "3"), ["1", "2"], "'2' is '2' as the text of a choice, and '3'",
         ("text", "index1")),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused_with_both(
    tmp_path: Path, choices: tuple[str, ...], answers: list[Any], words: str, named: tuple[str, str]
) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows(range(len(answers)), answers, choices))
    with pytest.raises(InputError) as caught:
        load_target(Target("t", path), "dev")
    assert words in caught.value.message.replace(str(path), "")
    for each in named:
        assert f'answers = "{each}"' in (caught.value.hint or "")
        chosen, found = read(Target("t", path, answers=each))
        assert chosen == each
        want = [list(choices).index(a) if each == "text" else "AB".find(a) if each == "letter"
                else int(a) - (each == "index1") for a in map(str, answers)]  # fmt: skip
        assert found == [choices[place] for place in want]


def test_one_reading_holds_for_all_files_of_a_target(tmp_path: Path) -> None:
    dev = write_jsonl(tmp_path / "dev.jsonl", rows([0, 1, 2], [1, 2, 3], WORDS))
    test = write_jsonl(tmp_path / "test.jsonl", rows([4, 3], [5, 4], WORDS))
    both = Target("t", dev, test)
    assert read(both) == ("index1", ["paka", "mbwa", "simba"])
    assert read(both, "test") == ("index1", ["twiga", "ng'ombe"])
    pool = write_jsonl(tmp_path / "pool.jsonl", rows([4, 0], [5, 1], WORDS))
    solved = load_target(Target("t", dev, shots=1, shots_from=pool), "dev")
    assert [each.answer for each in solved.form.pool] == ["twiga", "paka"]
    other = write_jsonl(tmp_path / "other.jsonl", rows([0], [0], WORDS))
    with pytest.raises(InputError, match=r'line 1: "answer" is 5, expected an index from 0 to 4'):
        load_target(Target("t", other, test), "test")


@pytest.mark.parametrize("answer", [None, True, 1.0, [1], {"a": 1}, "", "-1", "01", "5", 9])
def test_what_names_no_choice_is_refused_with_its_line(tmp_path: Path, answer: Any) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows([0, 1, 2], [0, 1, answer], WORDS))
    with pytest.raises(InputError, match=r'line 3: "answer" is .*, expected an index from 0 to 4'):
        load_target(Target("t", path), "dev")
    null = Target("t", path, answer="{answer}")
    if answer is None:
        with pytest.raises(InputError, match=r'"answer" is empty \(null\)'):
            load_target(null, "dev")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_is_read_as_it_was_meant_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    reading = data.draw(st.sampled_from(list(WRITTEN)))
    numbers = st.lists(st.integers(0, 6).map(str), min_size=2, max_size=4, unique=True)
    listed = data.draw(st.lists(st.just(WORDS) | numbers, min_size=1, max_size=6))
    places = [data.draw(st.integers(0, len(each) - 1)) for each in listed]
    made = [
        {"question": f"{i}", "choices": list(each), "answer": WRITTEN[reading](place, each)}
        for i, (place, each) in enumerate(zip(places, listed, strict=True))
    ]
    meant = [each[place] for place, each in zip(places, listed, strict=True)]
    path = write_jsonl(tmp_path / "t.jsonl", made)
    assert read(Target("t", path, answers=reading)) == (reading, meant)
    try:
        chosen, found = read(Target("t", path))
    except InputError as error:
        assert 'write answers = "' in (error.hint or "")
        return
    # Another meaning is possible only if the rows rule out the true one, which they never do.
    assert found == meant, chosen


@pytest.mark.slow
def test_every_command_says_how_answers_were_read(trained_run: Path, tmp_path: Path) -> None:
    recipe = copied(trained_run, tmp_path)
    said = 'each answer is the place of a choice, counted from 0 (answers = "index0")'
    dev = recipe.with_name("dev.jsonl")
    found = check_data([recipe.with_name("copy.jsonl")], [load_task(dev)])[-1]
    assert found.reading == found.as_json()["reading"] == said
    searched = Run(load_recipe(recipe), Silent()).search()
    assert f"copying: {said}" in searched.as_json()["notes"]
    model = str(pico_gguf(tmp_path / "m.gguf"))
    scored = compare_models([model], [dev], Target("t", dev)).results[0]
    assert scored.as_json()["answers"] == "index0"
    shown = CliRunner().invoke(cli, ["eval", model, str(dev), "--quiet"])
    assert f"dev.jsonl; {said}" in " ".join(shown.stdout.split())
    shown = CliRunner().invoke(cli, ["plan", str(recipe), "--quiet", "--json"])
    assert f"copying: {said}" in json.loads(shown.stdout)["readings"]


def test_a_reading_of_rows_without_choices_is_refused(tmp_path: Path) -> None:
    made = [{"prompt": each, "answer": each} for each in "ab"]
    target = Target("t", write_jsonl(tmp_path / "t.jsonl", made), answers="text")
    with pytest.raises(InputError, match="`answers` is for rows with choices"):
        load_target(target, "dev")


def test_a_recipe_that_can_be_read_in_two_ways_is_refused_once(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    for name, places in (("dev", (0, 1)), ("test", (2, 1))):
        made = rows(places, [each + 1 for each in places], WORDS)
        write_jsonl(tmp_path / f"{name}.jsonl", made)
    with pytest.raises(InputError, match=r"dev\.jsonl:1: the answer '1' is 'mbwa'"):
        read_inputs(load_recipe(recipe))
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[train]", 'answers = "index1"\n[train]'), encoding="utf-8")
    assert read_inputs(load_recipe(recipe)).dev["copying"].examples[0].answer == "paka"
