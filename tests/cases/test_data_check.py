"""`m2m data check` calls data fine that is not, or wrong that is right."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.data_check import check_data
from m2m.dataset import rows as rows_module
from m2m.dataset.characters import letters_lost
from m2m.dataset.checked import Checked
from m2m.evaluate.tasks import load_task
from tests.tiny import choice_rows, dataset_rows, write_jsonl

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "swahili"


def kinds(found: Checked) -> set[str]:
    return {problem.kind for problem in found.problems}


def column(name: str, key: str) -> list[str]:
    """Different prompts (without their frame) or completions of an example's dataset."""
    lines = (EXAMPLE / "datasets" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [*dict.fromkeys(json.loads(line)[key].partition(": ")[2] for line in lines)]


def test_files_with_the_same_rows_are_a_problem(tmp_path: Path) -> None:
    rows = dataset_rows("copy", 120)
    one = write_jsonl(tmp_path / "one.jsonl", rows)
    two = write_jsonl(tmp_path / "two.jsonl", rows)
    part = write_jsonl(tmp_path / "part.jsonl", rows[:30] + dataset_rows("reverse", 90, seed=9))
    found = {each.file.stem: each for each in check_data([one, two])}
    (problem,) = [p for p in found["one"].problems if p.kind == "shared"]
    assert problem.message == "the same rows as two"
    assert "shared" not in kinds(found["two"])  # said once
    found = {each.file.stem: each for each in check_data([one, part])}
    messages = [p.message for p in found["one"].problems]
    assert "30 of its 120 rows (25%) are also in part" in messages


def test_few_rows_and_few_questions_are_said_with_a_number_to_aim_at(tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", dataset_rows("copy", 2))
    dev = write_jsonl(tmp_path / "dev.jsonl", choice_rows("reverse", 30))
    data, target = check_data([few], [load_task(dev)])
    assert [(p.message, p.hint) for p in data.problems] == [
        ("2 rows: too few to learn from", "aim at 200 rows or more")
    ]
    assert (target.format, target.rows) == ("target: choices", 30)
    assert [p.hint for p in target.problems] == ["aim at 100 or more"]


def test_what_was_checked_is_named(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", dataset_rows("copy", 120))
    said = CliRunner().invoke(cli, ["data", "check", str(good)]).stdout
    assert "No problems found (checked: encoding and characters, number of rows" in said
    assert "--target" in said


TEXTS = {
    "yo": ["Ẹ káàárọ̀ o, ṣé dáadáa ni?", "Mo fẹ́ jẹun", "Ọjọ́ dára, mo ń lọ sí ọjà"],
    "ha": ["Ɗalibi ya tafi gida", "Ƙofar tana buɗe", "ɓera ya gudu"],
    "ee": ["Ɖevi la le fefem", "Mele ŋdi", "Kɔsiɖa nyui"],
    "am": ["ሰላም ነህ ወይ", "ስምህ ማን ነው", "ደህና ነኝ አለ"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_letters_that_excel_lost_are_found(language: str) -> None:
    kept = TEXTS[language]
    lost = [text.encode("cp1252", "replace").decode("cp1252") for text in kept]  # as Excel does
    assert letters_lost(lost) == [0, 1, 2]
    assert letters_lost(kept) == []


def test_questions_of_normal_text_are_not_lost_letters() -> None:
    files = [*EXAMPLE.rglob("*.jsonl"), *EXAMPLE.rglob("*.md")]
    assert len(files) > 9
    for path in files:
        assert letters_lost(path.read_text(encoding="utf-8").splitlines()) == [], path
    assert letters_lost(["Habari?Mimi mzima", "see http://x.org/?q=a", "what??", "ok?"] * 3) == []


@pytest.mark.parametrize("order", ["two files", "one file", "one file, shuffled"])
def test_parallel_data_into_two_languages_does_not_contradict(tmp_path: Path, order: str) -> None:
    swahili, hausa = column("sw_things", "prompt")[:150], column("ha_things", "prompt")[:150]
    asked = [f"word{i} of number {i * 7}" for i in range(150)]
    one = [{"prompt": q, "completion": a} for q, a in zip(asked, swahili, strict=True)]
    two = [{"prompt": q, "completion": a} for q, a in zip(asked, hausa, strict=True)]
    if order == "two files":
        paths = [write_jsonl(tmp_path / "a.jsonl", one), write_jsonl(tmp_path / "b.jsonl", two)]
        found = check_data(paths)
        assert all("contradicting" not in kinds(each) for each in found)
        return
    both = one + two
    if "shuffled" in order:
        random.Random(0).shuffle(both)
    (each,) = check_data([write_jsonl(tmp_path / "a.jsonl", both)])
    assert "contradictions" not in kinds(each)
    assert "two_languages" in kinds(each)  # for the model it is still open which one is wanted


def test_answers_sorted_apart_and_turned_labels_contradict(tmp_path: Path) -> None:
    answers = column("sw_things", "prompt")[:150]
    labels = ["good", "bad"] * 75
    for right in (answers, labels):
        wrong = sorted(right) if right is answers else right[1:] + right[:1]
        rows = [
            [{"prompt": f"what is {i * 7}", "completion": a} for i, a in enumerate(each)]
            for each in (right, wrong)
        ]
        paths = [write_jsonl(tmp_path / f"{n}.jsonl", each) for n, each in enumerate(rows)]
        assert all("contradicting" in kinds(each) for each in check_data(paths))


def test_two_questions_about_the_same_texts_do_not_contradict(tmp_path: Path) -> None:
    texts = column("sw_school", "prompt")[:60]
    files = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [
                {"prompt": f"{ask}: {text}", "completion": words[i % 2]}
                for i, text in enumerate(texts)
            ],
        )
        for name, ask, words in (
            ("tone", "Hisia", ("nzuri", "mbaya")),
            ("topic", "Mada", ("afya", "soka")),
            ("wrong", "Hisia", ("mbaya", "nzuri")),
        )
    ]
    tone, topic, wrong = check_data(files)
    assert tone.contradicting == {"wrong": len(texts)}
    assert wrong.contradicting == {"tone": len(texts)}
    assert not topic.contradicting


def test_two_texts_are_a_small_target(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "a.jsonl", dataset_rows("copy", 120))
    texts = write_jsonl(tmp_path / "dev.jsonl", [{"text": "Habari"}, {"text": "Asante sana"}])
    assert kinds(check_data([data], [load_task(texts)])[1]) == {"few_questions"}


def test_bare_texts_ask_nothing_and_so_contradict_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, name in zip(paths, ("sw_things", "ha_things"), strict=True):
        path.write_text("\n".join(column(name, "prompt")[:120]), encoding="utf-8")
    for found in check_data(paths):
        assert (found.contradictions, found.contradicting) == (0, {})
        assert not kinds(found) & {"contradictions", "contradicting", "two_languages"}


@pytest.mark.slow
def test_a_machine_without_models_is_a_working_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path))
    found = CliRunner().invoke(cli, ["doctor"])
    assert "models" not in found.stderr
    assert re.search(r"Next +m2m models (add|known)", found.stdout)


def test_faulty_rows_beyond_the_kept_ones_are_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_KEPT", 3)
    good = [{"prompt": "a", "completion": "b"}]
    path = write_jsonl(tmp_path / "a.jsonl", good + [{"prompt": "a", "completion": ""}] * 10)
    (checked,) = check_data([path])
    messages = [problem.message for problem in checked.problems]
    assert any(message.startswith("3 rows") for message in messages)
    assert "7 rows more with faults" in messages
