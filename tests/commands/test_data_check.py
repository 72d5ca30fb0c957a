"""What `m2m data check` says about the example, and about files with planted faults."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.commands.bare import command_of
from m2m.commands.data_check import check_data, check_files, check_recipe
from m2m.dataset import load_dataset
from m2m.dataset.checked import Checked, short_names
from m2m.dataset.mapping import RowMapping
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.leaks import target_warnings
from m2m.pipeline.run import Run
from m2m.planning import plan as plan_module
from m2m.planning.plan import make_plan
from m2m.progress import Silent
from m2m.recipe import Dataset, Recipe, Target, load_recipe
from tests.pipeline.scenario import make_scenario
from tests.planning.test_plan import RATES
from tests.tiny import choice_rows, dataset_rows, write_jsonl

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "swahili"


class Heard(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def kinds(found: Checked) -> set[str]:
    return {problem.kind for problem in found.problems}


def check(path: Path, *targets: Path) -> Checked:
    return check_data([path], [load_task(each) for each in targets])[0]


@pytest.fixture(scope="module")
def example() -> dict[str, Checked]:
    files = sorted((EXAMPLE / "datasets").glob("*.jsonl"))
    targets = sorted((EXAMPLE / "target").glob("*.jsonl"))
    tasks = [load_task(path) for path in targets]
    return {each.file.stem: each for each in check_data(files, tasks)}


def test_the_missorted_dataset_is_told_by_its_contradictions(example: dict[str, Checked]) -> None:
    bad = example["sw_missorted"]
    assert {"sw_school", "sw_things"} <= bad.contradicting.keys()
    assert bad.contradicting["sw_school"] + bad.contradicting["sw_things"] > 0.9 * bad.rows
    for name in ("sw_dictionary", "ny_school", "ha_things", "en_definitions"):
        assert "contradicting" not in kinds(example[name])


def test_the_example_leaks_nothing(example: dict[str, Checked]) -> None:
    assert all(each.overlap == 0 and not each.refused for each in example.values())


def test_a_file_under_another_languages_name_is_told(tmp_path: Path) -> None:
    files = [EXAMPLE / "datasets" / f"{n}.jsonl" for n in ("sw_school", "sw_things", "ha_things")]
    wrong = tmp_path / "sw_more.jsonl"
    wrong.write_bytes(files[2].read_bytes())
    found = {each.file.stem: each for each in check_data([*files, wrong])}
    (problem,) = [p for p in found["sw_more"].problems if p.kind == "language"]
    assert "ha_things" in problem.message
    assert "language" not in kinds(found["sw_school"])
    assert found["sw_more"].shared["ha_things"] == found["sw_more"].rows


def test_planted_faults_are_counted_with_their_lines(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i} about word{i * 7}", "completion": f"answer {i}"}
            for i in range(40)]  # fmt: skip
    rows[5] = {"prompt": "QUESTION 4 about word28!", "completion": "answer 4"}
    rows[6] = {"prompt": "question 3 about word21", "completion": "quite another"}
    rows[7]["completion"] = unicodedata.normalize("NFD", "étés")
    rows[8]["completion"] = "Ã©tÃ©"
    rows[9] = {"prompt": "copied words", "completion": "copied words"}
    found = check(write_jsonl(tmp_path / "a.jsonl", rows))
    assert (found.rows, found.duplicates, found.contradictions) == (40, 1, 2)
    lines = {problem.kind: problem.lines for problem in found.problems if problem.lines}
    assert lines == {"not_nfc": (8,), "mojibake": (9,), "echo": (10,)}


def test_leaks_are_questions_texts_and_near_copies(tmp_path: Path) -> None:
    asked = choice_rows("copy", 12)
    target = write_jsonl(tmp_path / "dev.jsonl", asked)
    rows = dataset_rows("reverse", 30, seed=5)
    clean = check(write_jsonl(tmp_path / "clean.jsonl", rows), target)
    assert clean.overlap == 0
    rows[3] = {"prompt": asked[2]["question"], "completion": "anything"}
    found = check(write_jsonl(tmp_path / "leaky.jsonl", rows), target)
    assert found.overlap == 1
    assert [p.lines for p in found.problems if p.kind == "leak"] == [(4,)]


def test_what_cannot_be_read_is_a_problem_of_its_file_alone(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", dataset_rows("copy", 20))
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes('{"text": "été"}\n'.encode() + '{"text": "été"}\n'.encode("latin-1"))
    empty = write_jsonl(
        tmp_path / "empty.jsonl", [{"prompt": "a", "completion": ""}, *dataset_rows("copy", 3)]
    )
    found = check_data([good, broken, empty, tmp_path / "none.jsonl"])
    assert [each.refused for each in found] == [False, True, True, True]
    assert "line 2: has bytes that are not UTF-8" in found[1].problems[0].message
    assert "bad_rows" in found[1].problems[0].hint
    assert "line 1" in found[2].problems[0].message
    assert found[2].rows == 3


def test_a_recipe_is_checked_with_its_models_tokens(tmp_path: Path) -> None:
    recipe = load_recipe(make_scenario(tmp_path))
    found = check_recipe(recipe)
    first = found[0]
    assert first.rows == len(load_dataset(first.file)) == sum(first.lengths.values())
    assert first.tokens and first.cost and first.longest
    assert "tokenizer" in kinds(first)
    assert first.as_json()["tokens_per_word"] > 1


def test_the_judgement_of_a_vocabulary_follows_the_printed_number(tmp_path: Path) -> None:
    for first in check_recipe(load_recipe(make_scenario(tmp_path)))[:3]:
        for problem in (each for each in first.problems if each.kind == "tokenizer"):
            match = re.fullmatch(r"the (\w+) alone, .* (\S+) letters per token", problem.message)
            assert match
            side, number = match.groups()
            own = first.sides[side].characters_per_token
            assert float(number) == pytest.approx(own, abs=0.005)
            knows = "almost nothing" if own < 1.2 else "little"
            assert f"knows {knows} of this language (below 2.5: little" in problem.hint


def test_rows_that_the_run_would_refuse_are_told(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("rank = 4", "rank = 4\nmax_length = 12")
    recipe.write_text(text, encoding="utf-8")
    found = check_recipe(load_recipe(recipe))[:3]
    assert all("too_long" in kinds(each) and each.refused for each in found)


def test_a_recipe_is_refused_and_warned_of_as_the_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "calibrate", lambda *_: RATES)
    path = make_scenario(tmp_path)
    recipe = load_recipe(path)
    (target,) = recipe.targets

    def with_test(test: Path | None) -> Recipe:
        return replace(recipe, targets=(replace(target, test=test),))

    same = with_test(target.dev)
    for refuse in (check_recipe, read_inputs):
        with pytest.raises(InputError, match="every test question is also a dev question"):
            refuse(same)
    untested = with_test(None)
    (warning,) = target_warnings(read_inputs(untested))
    assert warning.startswith(f"No test questions for {target.name}, so the result will be unveri")
    said = [p.message for each in check_recipe(untested) for p in each.problems]
    assert warning in said
    assert not target_warnings(read_inputs(recipe))
    heard = Heard()
    make_plan(read_inputs(untested), heard)
    Run(untested, heard)
    assert heard.warnings.count(warning) == 2


def test_a_test_set_that_is_another_targets_dev_set_is_found(tmp_path: Path) -> None:
    recipe = load_recipe(make_scenario(tmp_path))
    (target,) = recipe.targets
    other = replace(target, name="other", dev=target.test, test=target.dev)
    both = replace(recipe, targets=(target, other))
    said = {p.message for each in check_recipe(both) for p in each.problems}
    assert {*target_warnings(read_inputs(both))} <= said
    assert sum("are also dev questions" in message for message in said) == 2


def test_leaks_at_which_a_run_stops_are_refused(tmp_path: Path) -> None:
    path = make_scenario(tmp_path)
    recipe = load_recipe(path)
    asked = load_target(recipe.targets[0], "dev").examples[0]
    with (path.parent / "copy.jsonl").open("a", encoding="utf-8") as file:
        row = {"prompt": asked.prompt, "completion": asked.answer}
        file.write(json.dumps(row) + "\n")
    first = check_recipe(recipe)[0]
    assert first.refused
    (leak,) = [p for p in first.problems if p.kind == "leak"]
    assert "`m2m run` stops at these rows" in leak.hint
    excluded = replace(recipe, search=replace(recipe.search, excluded=("copy",)))
    assert not check_recipe(excluded)[0].refused


def test_a_short_question_in_a_row_is_a_leak_only_with_its_answer(tmp_path: Path) -> None:
    asked = [{"question": "Ni nini hii?", "choices": ["kalamu", "meza"], "answer": 0},
             {"question": "Mji mkuu wa Kenya unaitwa nani?", "choices": ["Nairobi", "Mombasa"],
              "answer": 0}]  # fmt: skip
    target = write_jsonl(tmp_path / "dev.jsonl", asked)
    rows = [
        {"prompt": "Mtoto aliuliza: ni nini hii? Endelea.", "completion": "Alicheka."},
        {"prompt": "Picha: ni nini hii?", "completion": "Ni kalamu."},
        {"prompt": "Swali la leo. Mji mkuu wa Kenya unaitwa nani?", "completion": "Sijui."},
        {"prompt": "Ni nini hii?", "completion": "Sijui."},
    ]
    checked = check(write_jsonl(tmp_path / "a.jsonl", rows), target)
    assert [problem.lines for problem in checked.problems if problem.kind == "leak"] == [(2, 3, 4)]


@pytest.mark.parametrize("control", [False, True])
def test_a_control_is_not_compared_with_its_original(tmp_path: Path, control: bool) -> None:
    school = EXAMPLE / "datasets" / "sw_school.jsonl"
    rows = [json.loads(line) for line in school.read_text(encoding="utf-8").splitlines()]
    wrong = [
        {**row, "completion": other["completion"]}
        for row, other in zip(rows, rows[7:] + rows[:7], strict=True)
    ]
    first = Dataset("a", school)
    other = Dataset("b", write_jsonl(tmp_path / "b.jsonl", wrong), control=control)
    found = check_data([first, other])
    assert ["contradicting" in kinds(each) for each in found] == [not control] * 2, found


def test_of_a_large_file_the_first_rows_are_compared(tmp_path: Path) -> None:
    rows = [{"prompt": f"Swali namba {i} la leo?", "completion": f"jibu {i}"} for i in range(300)]
    jsonl = write_jsonl(tmp_path / "a.jsonl", [*rows, *rows[:90]])
    command = command_of(("m2m", "data", "check"), [jsonl])
    for first, count, same in ((0, 390, 90), (320, 320, 20), (390, 390, 90)):
        of_recipe = check_data([Dataset("a", jsonl)], first=first)
        for found in (check_files(command, first=first), of_recipe):
            assert (found[0].rows, found[0].duplicates) == (count, same)
            assert (f"only the first {count} rows were read" in found[0].reading) == (first == 320)
    picked = Dataset("a", jsonl, where=(("completion", ("jibu 89",)),))
    assert check_data([picked], first=100)[0].rows == 2


def test_dev_is_compared_with_test_and_each_with_itself(tmp_path: Path) -> None:
    """As in AfriSenti's Pidgin, in which 266 of 1,281 dev rows are also in test."""
    words = (
        "dey sweet belle well matter no be small wahala oga come chop rain road market pikin book"
    )
    rng = random.Random(5)
    rows = [{"prompt": " ".join(rng.choices(words.split(), k=12)), "answer": ["good", "bad"][i % 2]}
            for i in range(60)]  # fmt: skip
    nearly = {**rows[3], "prompt": f"{rows[3]['prompt']}!!"}
    far = {**rows[4], "prompt": f"{rows[4]['prompt']} o"}
    test = write_jsonl(tmp_path / "test.jsonl", [*rows[:40], rows[5], rows[6]])
    dev = write_jsonl(tmp_path / "dev.jsonl", [*rows[40:], nearly, far, rows[0]])
    choices = {"choices": ("good", "bad"), "prompt": "{prompt}", "answer": "{answer}"}
    tasks = [load_target(Target(path.stem, path, **choices), "dev") for path in (test, dev)]
    first, second = check_data([], tasks)
    (again,) = [problem for problem in first.problems if problem.kind == "duplicates"]
    assert (again.message, again.lines) == ("2 questions repeat an earlier one", (41, 42))
    (both,) = [problem for problem in second.problems if problem.kind == "dev_and_test"]
    assert both.message == "3 of 23 questions are also in test.jsonl (2 exactly, 1 nearly)"
    assert both.lines == (21, 22, 23)
    assert second.shared == {"test.jsonl": 3}
    assert second.labels == {"good": 12, "bad": 11}


def test_noise_labels_and_declared_languages_are_reported(tmp_path: Path) -> None:
    rows = [{"prompt": f"Habari ya mji namba {i}, @mtu{i} https://x.org/{i}",
             "completion": "nzuri"} for i in range(45)]  # fmt: skip
    rows += [{"prompt": f"Habari ya watu namba {i}, simu 0803 123 45{i}", "completion": "Mbaya"}
             for i in range(60, 70)]  # fmt: skip
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    (checked,) = check_data([Dataset("a", path, languages=("sw", "am"))])
    assert checked.noise == {"url": 45, "user": 45, "phone": 10}
    assert checked.labels == {"nzuri": 45, "Mbaya": 10}
    assert {"url", "user", "phone", "labels", "script"} <= kinds(checked)
    (script,) = [problem for problem in checked.problems if problem.kind == "script"]
    assert script.message == "`languages` has am, but no row has letters of am"


@pytest.mark.slow
def test_the_examples_recipe_has_no_new_alarms() -> None:
    recipe = load_recipe(EXAMPLE / "recipe.toml")
    tasks = [load_target(target, part) for target in recipe.targets for part in ("dev", "test")]
    kinds_found = {
        kind for checked in check_data(recipe.datasets, tasks) for kind in kinds(checked)
    }
    assert kinds_found == {"contradicting", "language"}


@pytest.mark.slow
def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    """As masakhane-news has them: yor/train.tsv, hau/train.tsv, ..."""
    paths = []
    for name, languages in (("sw_things", "swa"), ("ha_things", "hau"), ("ny_school", "nya")):
        (tmp_path / languages).mkdir()
        paths.append(tmp_path / languages / "train.jsonl")
        paths[-1].write_bytes((EXAMPLE / "datasets" / f"{name}.jsonl").read_bytes())
    (tmp_path / "more").mkdir()
    rows = paths[0].read_text(encoding="utf-8").splitlines()[:600]
    paths.append(tmp_path / "more" / "train.jsonl")
    paths[-1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    checked = check_data(paths)
    assert [entry.name for entry in checked] == [
        "swa/train",
        "hau/train",
        "nya/train",
        "more/train",
    ]
    assert checked[3].shared["swa/train"] == 600
    assert "shared" not in kinds(checked[1])
    declared = [Dataset(p.parent.name, p, languages=(c, "en"))
                for p, c in zip(paths, ("swa", "hau", "nya", "hau"), strict=True)]  # fmt: skip
    (problem,) = [p for p in check_data(declared)[3].problems if p.kind == "language"]
    assert "read like those of swa, not like the other en-hau files" in problem.message


def test_the_place_of_the_right_answer_matters_only_if_choices_are_shown(tmp_path: Path) -> None:
    hidden = [{"question": f"Swali la {i}?", "choices": [f"jibu {i}", f"kosa {i}"], "answer": 0}
              for i in range(40)]  # fmt: skip
    shown = [{**row, "question": f"{row['question']} A. {row['choices'][0]} B. {row['choices'][1]}"}
             for row in hidden]  # fmt: skip
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", rows)
             for name, rows in (("hidden", hidden), ("shown", shown))]  # fmt: skip
    tasks = [load_task(path, RowMapping(answers="index0")) for path in paths]
    first, second = (check_data([], [task])[0] for task in tasks)
    assert "one_place" not in kinds(first)
    assert "one_place" in kinds(second)


def test_names_are_short_and_differ() -> None:
    paths = [Path(p) for p in ("a/x.csv", "b/x.csv", "b/x.tsv", "b/y.csv", "b/y.csv")]
    assert short_names(paths) == ["a/x.csv", "b/x.csv", "x.tsv", "y.csv", "y.csv"]
    assert short_names(paths, ending=False) == ["a/x", "b/x.csv", "b/x.tsv", "y", "y"]


SCRIPTS = {
    "Vai": "ꕙꔤꖺꕌꖝꔧꗡꕉꔻꕩ",
    "N'Ko": "ߒߞߏߛߓߍߟߊߡߎ",
    "Adlam": "𞤀𞤣𞤤𞤢𞤥𞤆𞤵𞤤𞤢𞤪",
    "Ethiopic": "ሰላምአዲስአበባቤት",
    "Tifinagh": "ⴰⵣⵓⵍⴼⵍⵍⴰⵡⵏ",
    "Bamum": "ꚠꚡꚢꚣꚤꚥꚦꚧꚨꚩ",
    "Osmanya": "𐒀𐒁𐒂𐒃𐒄𐒅𐒆𐒇𐒈𐒉",
    "Mende": "𞠀𞠁𞠂𞠃𞠄𞠅𞠆𞠇𞠈𞠉",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_is_a_fault(tmp_path: Path, script: str) -> None:
    chance = random.Random(script)

    def words(count: int) -> str:
        return " ".join("".join(chance.choices(SCRIPTS[script], k=5)) for _ in range(count))

    rows = [{"prompt": f"{words(6)} ?", "completion": words(7)} for _ in range(220)]
    assert kinds(check(write_jsonl(tmp_path / "a.jsonl", rows))) == set()
