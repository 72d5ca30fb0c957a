"""Kind: rows that were trained on, or chosen by, say nothing when they are asked on test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.pipeline.leaks import find_leaks, shared, shared_warnings
from m2m.pipeline.run import Run
from m2m.planning import hours as hours_module
from m2m.planning.calibration import Rates
from m2m.progress import Progress, Silent
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario
from tests.planning.test_plan import RATES
from tests.tiny import write_jsonl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_scenario(tmp_path)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def leak(recipe: Path, dataset: str = "copy", part: str = "dev") -> None:
    """Put two questions of a target into a dataset: one in capitals; one answered in a sentence."""
    path = recipe.parent / f"{dataset}.jsonl"
    one, two = rows(recipe.parent / f"{part}.jsonl")[:2]
    more = [
        {"prompt": f"{one['question']} ?".upper(), "completion": "x"},
        {
            "prompt": f"Tell me: {two['question']}, please",
            "completion": two["choices"][two["answer"]],
        },
    ]
    write_jsonl(path, [*rows(path), *more])


def m2m(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


@pytest.mark.parametrize("command", ["run", "train", "search", "confirm", "export", "validate"])
@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_leak_stops_every_command_before_it_trains(recipe: Path, command: str, part: str) -> None:
    leak(recipe, part=part)
    found = m2m(command, recipe, "--quiet")
    assert found.exit_code == 1
    assert "2 rows of copy (lines 33, 34)" in found.stderr
    assert "--allow-leaks" in found.stderr
    assert f"m2m data clean {recipe} --out" in found.stderr
    assert not (load_recipe(recipe).folder / "adapters").exists()


def test_with_hours_a_leak_stops_a_run_before_anything_is_timed(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leak(recipe)
    timed: list[object] = []

    def calibrate(inputs: Inputs, progress: Progress) -> Rates:
        timed.append(inputs)
        return RATES

    loaded = load_recipe(recipe)
    monkeypatch.setattr(hours_module, "calibrate", calibrate)
    with pytest.raises(InputError, match="also dev or test questions"):
        Run(loaded, Silent(), hours=hours_module.Within(loaded, 100.0))
    assert not timed
    Run(loaded, Silent(), hours=hours_module.Within(loaded, 100.0), allow_leaks=True)
    assert timed


def test_a_plan_shows_the_leaks_that_stop_the_run(recipe: Path) -> None:
    leak(recipe)
    found = m2m("plan", recipe, "--json")
    assert found.exit_code == 0
    warnings = json.loads(found.stdout)["warnings"]
    assert "2 rows of copy (lines 33, 34) are also dev or test questions" in warnings[0]
    assert "`m2m run` stops" in warnings[1]
    for warning in warnings:
        assert f"Warning: {warning}" in found.stderr


def test_a_leak_in_rows_that_all_experts_replay_is_found(recipe: Path) -> None:
    leak(recipe, "upper")
    text = recipe.read_text(encoding="utf-8").replace(
        "steps = 12", 'steps = 12\nreplay = 0.2\nreplay_from = "upper.jsonl"'
    )
    text = text.replace('[[datasets]]\nname = "upper"\npath = "upper.jsonl"\n', "")
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="2 rows of the replayed rows"):
        Run(load_recipe(recipe), Silent()).train()


def test_a_leak_may_be_allowed_and_an_excluded_dataset_may_leak(recipe: Path) -> None:
    leak(recipe)
    assert len(Run(load_recipe(recipe), Silent(), allow_leaks=True).train()) == 3
    text = recipe.read_text(encoding="utf-8").replace("[search]", '[search]\nexcluded = ["copy"]')
    recipe.write_text(text, encoding="utf-8")
    assert len(Run(load_recipe(recipe), Silent()).train()) == 2


def test_what_was_found_is_kept_until_a_file_changes(recipe: Path) -> None:
    inputs = read_inputs(load_recipe(recipe))
    assert find_leaks(inputs) == []
    kept = inputs.files.leaks.read_bytes()
    leak(recipe)
    inputs = read_inputs(load_recipe(recipe))
    (found,) = find_leaks(inputs)
    assert (found.dataset, found.rows, found.lines) == ("copy", 2, (33, 34))
    assert inputs.files.leaks.read_bytes() != kept
    assert find_leaks(inputs) == [found]


@pytest.mark.slow
def test_the_recorded_example_is_not_stopped(tmp_path: Path) -> None:
    pytest.importorskip("m2m")
    recipe = load_recipe(ROOT / "examples" / "swahili" / "recipe.toml")
    if not any((ROOT / "models").glob("*/m2m-model.json")):
        pytest.skip("the starter model is not here")
    inputs = read_inputs(recipe)
    elsewhere = dataclasses.replace(inputs.recipe, path=tmp_path / "recipe.toml")
    assert find_leaks(dataclasses.replace(inputs, recipe=elsewhere)) == []
    assert shared(inputs) == {}


def as_test(recipe: Path, test: list[dict[str, object]]) -> Path:
    write_jsonl(recipe.parent / "test.jsonl", test)
    return recipe


def shouted(each: dict[str, object]) -> dict[str, object]:
    return {**each, "question": f"  {each['question']}!".upper()}


@pytest.mark.parametrize(
    "change",
    [
        list,
        lambda dev: dev[::-1],
        lambda dev: dev[:9],
        lambda dev: [*dev, *dev],
        lambda dev: [shouted(each) for each in dev],
    ],
    ids=["equal", "other order", "a part", "twice", "other letters"],
)
def test_a_test_set_without_a_new_question_is_refused(recipe: Path, change) -> None:  # type: ignore[no-untyped-def]
    as_test(recipe, change(rows(recipe.parent / "dev.jsonl")))
    found = m2m("run", recipe)
    assert found.exit_code == 1
    assert "every test question is also a dev question" in found.stderr
    assert "leave `test` out" in found.stderr


def test_shared_questions_are_counted_and_said(recipe: Path) -> None:
    new, old = rows(recipe.parent / "test.jsonl"), rows(recipe.parent / "dev.jsonl")
    inputs = read_inputs(load_recipe(as_test(recipe, [*new, *map(shouted, old[:3])])))
    assert shared(inputs) == {"copying": 3}
    (said,) = shared_warnings(inputs)
    assert said.startswith("3 of 19 test questions of copying are also dev questions")
    # Another answer to the same words is another question.
    other = [{**each, "answer": (int(str(each["answer"])) + 1) % 4} for each in old[:3]]
    assert shared(read_inputs(load_recipe(as_test(recipe, [*new, *other])))) == {}


TRANSLATION = [
    {"prompt": "Translate to Swahili: good morning", "answer": "habari za asubuhi"},
    {"prompt": "Translate to Swahili: water", "answer": "maji"},
    {"prompt": "Translate to Swahili: the big school", "answer": "shule kubwa"},
    {"prompt": "Translate to Chewa: a small tree", "answer": "mtengo waung'ono"},
]
HAUSA = [("good morning", "ina kwana"), ("water", "ruwa"), ("a small tree", "karamar bishiya")]


def found_in(
    recipe: Path, rows: list[dict[str, object]], target: list[dict[str, str]]
) -> list[int]:
    """The lines of a dataset's rows that are leaks of a target."""
    write_jsonl(recipe.parent / "copy.jsonl", rows)
    write_jsonl(recipe.parent / "dev.jsonl", target)
    text = recipe.read_text("utf-8").replace('test = "test.jsonl"\n', "")
    recipe.write_text(text, encoding="utf-8")
    leaks = find_leaks(read_inputs(load_recipe(recipe)))
    return [line for each in leaks for line in each.lines]


def test_the_same_words_may_ask_for_another_language(recipe: Path) -> None:
    """Word lists are translated into many languages; only the target's answers are a leak."""
    other = [{"prompt": f"Translate to Hausa: {q}", "completion": a} for q, a in HAUSA]
    story: dict[str, object] = {"prompt": "Tell a story.", "completion": "Good morning, he said."}
    same: dict[str, object] = {
        "prompt": "Swahili for good morning?",
        "completion": "Habari za asubuhi!",
    }
    asked: dict[str, object] = {"prompt": "translate to swahili: WATER", "completion": "eau"}
    assert found_in(recipe, [*other, story, same, asked], TRANSLATION) == [5, 6]


def test_what_most_questions_begin_with_hides_no_leak(recipe: Path) -> None:
    """Half of the questions begin alike; the others share only a part of that."""
    target = [{"prompt": f"Question: copy {word}", "answer": word} for word in ("ab", "cd", "ef")]
    target += [{"prompt": "Question: which city is the capital?", "answer": "Lilongwe"}]
    rows: list[dict[str, object]] = [
        {"prompt": "Which city is the capital?", "completion": "Lilongwe."},
        {"prompt": "Which river is the longest?", "completion": "Lilongwe."},
    ]
    assert found_in(recipe, rows, target) == [1]
