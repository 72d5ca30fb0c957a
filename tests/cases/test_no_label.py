"""Labels of -1, marks of good answers, titles, tables without names: asked, or read as meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.given import NOTHING
from m2m.commands.init_lines import Failed, settings_that_work
from m2m.commands.init_rows import Entry, dataset_entry, target_entry
from m2m.dataset.ask import as_options
from m2m.dataset.ways import Way
from m2m.errors import InputError
from tests.tiny import write_jsonl

WORDS = ["maji", "moto", "siku", "mtoto", "chakula", "shule", "gari", "nyota"]
Rows = Sequence[dict[str, Any]]


def made(tmp_path: Path, rows: Rows) -> Entry:
    return dataset_entry((write_jsonl(tmp_path / "a.jsonl", rows),))


def offered(path: Path) -> list[list[str]]:
    """Return the options of the lines that are offered for a file."""
    with pytest.raises(InputError) as caught:
        dataset_entry((path,))
    found = settings_that_work(Failed((path,), caught.value, dataset_entry), NOTHING)
    return [
        [*(["--header", "no"] if given.options.header == "no" else []),
         *as_options(Way(given.mapping))] for _, given in found
    ]  # fmt: skip


def pairs(labels: Sequence[int]) -> Rows:
    return [{"premise": f"p {w}", "hypothesis": f"h {w}", "label": labels[i % len(labels)]}
            for i, w in enumerate(WORDS)]  # fmt: skip


def copa(labels: Sequence[int]) -> Rows:
    return [{"premise": f"p {w}", "question": "cause", "choice1": f"a {w}", "choice2": f"b {w}",
             "label": labels[i % len(labels)]} for i, w in enumerate(WORDS)]  # fmt: skip


def texts(labels: Sequence[int]) -> Rows:
    return [{"text": w, "label": labels[i % len(labels)]} for i, w in enumerate(WORDS)]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [(pairs([0, 1, 2, -1]), ("0", "1", "2")), (copa([0, 1, 0, -1]), ("0", "1")),
     (pairs([0, 1, 1, -1]), ("0", "1")), (texts([0, 1, 2, -1]), ("0", "1", "2"))],
)  # fmt: skip
def test_minus_one_is_no_class(tmp_path: Path, rows: Rows, kept: tuple[str, ...]) -> None:
    entry = made(tmp_path, rows)
    assert entry.mapping.where == (("label", kept),)
    assert "-1" not in dict(entry.mapping.labels)
    assert "a.jsonl: label is -1 in 2 of 8 rows: they have no label and are left out" in entry.notes
    assert len(entry.rows) == 6
    asked = target_entry((tmp_path / "a.jsonl",), ())
    assert asked.task is not None and len(asked.task.examples) == 6


@pytest.mark.parametrize("rows", [pairs([-1]), copa([-1]), texts([-1])])
def test_a_file_without_any_label_is_refused(tmp_path: Path, rows: Rows) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    for read in (lambda: dataset_entry((path,)), lambda: target_entry((path,), ())):
        with pytest.raises(InputError, match="label is -1 in all rows: none has a label"):
            read()


def test_minus_one_may_be_the_class_of_negative_texts(tmp_path: Path) -> None:
    entry = made(tmp_path, texts([-1, 0, 1]))
    assert dict(entry.mapping.labels) == {"-1": "?-1", "0": "?0", "1": "?1"}
    assert "add --where label=0 --where label=1" in entry.questions[0]


def test_good_answers_are_offered_and_none_is_taken_in_silence(tmp_path: Path) -> None:
    marks: dict[str, tuple[Any, Any, str]] = {
        "selected": (True, False, "true"), "is_best": (1, 0, "1"), "pm_score": (9, 2, "9"),
        "weight": (1, 0, "1"),
    }  # fmt: skip
    for name, (good, bad, word) in marks.items():
        rows = [{"question": f"q {i // 2}", "answer": f"a {i}", name: (good, bad)[i % 2]}
                for i in range(8)]  # fmt: skip
        first = offered(write_jsonl(tmp_path / "a.jsonl", rows))[0]
        assert first[-2:] == ["--where", f"{name}={word}"]


def test_a_title_is_offered_with_its_question(tmp_path: Path) -> None:
    rows = [{"title": f"kichwa {w}", "question": f"ni {w}?", "answer": f"a {w}"} for w in WORDS]
    first, second, *_ = offered(write_jsonl(tmp_path / "a.jsonl", rows))
    assert first == ["--prompt", "{title}\\n{question}", "--completion", "{answer}"]
    assert second == ["--prompt", "{question}", "--completion", "{answer}"]


def test_a_title_without_a_body_is_the_question(tmp_path: Path) -> None:
    answers = [{"text": [f"a {w}"], "score": [1]} for w in WORDS]
    rows = [{"title": f"kwa nini {w}?", "selftext": "", "answers": said}
            for w, said in zip(WORDS, answers, strict=True)]  # fmt: skip
    entry = made(tmp_path, rows)
    assert entry.rows[0].sides == ("kwa nini maji?", "a maji")


def test_tables_without_names_get_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"swali la {w}?,a {w},b {w},c {w},{'ABC'[i % 3]}" for i, w in enumerate(WORDS)]
    path.write_text("\n".join(rows), encoding="utf-8")
    (line,) = offered(path)
    assert line == ["--header", "no", "--prompt", "{1}", "--completion", "{5}",
                    "--choices", "{2}", "--choices", "{3}", "--choices", "{4}"]  # fmt: skip
    numbers = tmp_path / "b.tsv"
    numbers.write_text("".join(f"{w} ngapi?\t{2 * i + 1}\n" for i, w in enumerate(WORDS)))
    assert offered(numbers)[0] == ["--header", "no", "--prompt", "{1}", "--completion", "{2}"]


def test_lists_without_names_say_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [["", "prompt", "completion"], *([i, f"sema {w} leo", w] for i, w in enumerate(WORDS))]
    path.write_text(str(rows).replace("'", '"'), encoding="utf-8")
    assert "only counts the rows: it is left out" in dataset_entry((path,)).notes[0]
    path.write_text(str(rows[1:]).replace("'", '"'), encoding="utf-8")
    assert offered(path)[0] == ["--prompt", "{2}", "--completion", "{3}"]


@pytest.mark.parametrize(
    ("row", "prompt", "right"),
    [
        ({"goal": "x", "sol1": "a", "sol2": "b", "label": 0}, "{goal}", "a"),
        ({"sentence": "x _ y", "option1": "a", "option2": "b", "answer": "1"}, "{sentence}", "a"),
        ({"ind": 1, "ctx_a": "x", "ctx_b": "y", "ctx": "x y", "endings": ["a", "b"], "label": "0",
          "activity_label": "z"}, "{ctx}", "a"),
        ({"inputs": "x", "targets": "a", "config": "c", "template": "t"}, "{inputs}", "a"),
        ({"context": "x a", "question": "y", "question_lang": "y", "question_translated": "z",
          "answers": {"text": ["a"], "answer_start": [2]},
          "answer_pivot": {"text": ["a"], "answer_start": [2]}}, "{context}\n\n{question}", "a"),
    ],
)  # fmt: skip
def test_public_kinds_are_read(
    tmp_path: Path, row: dict[str, Any], prompt: str, right: str
) -> None:
    other = dict(row) | {"label": 1} if "goal" in row else dict(row)
    other |= {"answer": "2"} if "option1" in row else {}
    other |= {"label": "1"} if "endings" in row else {}
    entry = made(tmp_path, [row, other, row, other])
    assert (entry.mapping.prompt, entry.rows[0].sides[1]) == (prompt, right)


def test_two_questions_and_whether_they_mean_the_same(tmp_path: Path) -> None:
    numbers = [(2 * i, 2 * i + 1, i % 2) for i in range(len(WORDS))]
    rows = [{"id": one, "qid1": one, "qid2": two, "question1": f"ni {w}?",
             "question2": f"je ni {w}?", "is_duplicate": same}
            for w, (one, two, same) in zip(WORDS, numbers, strict=True)]  # fmt: skip
    entry = made(tmp_path, rows)
    assert entry.mapping.prompt == "{question1}\n{question2}"
    assert dict(entry.mapping.labels) == {"0": "?0", "1": "?1"}


def test_rows_that_prodigy_rejects_or_ignores_are_left_out(tmp_path: Path) -> None:
    decided = ["accept", "reject", "accept", "ignore", "accept", "accept"]
    rows = [
        {"text": f"Habari namba {i} ya leo", "label": "MICHEZO", "_input_hash": 7 * i,
         "_task_hash": -3 * i, "answer": answer}
        for i, answer in enumerate(decided)
    ]  # fmt: skip
    entry = made(tmp_path, rows)
    assert [row.line for row in entry.rows] == [1, 3, 5, 6]
    assert "rows whose answer is not accept are left out: 2 of 6" in " ".join(entry.notes)
    plain = [{key: row[key] for key in ("text", "answer")} for row in rows]  # no file of Prodigy
    with pytest.raises(InputError):
        made(tmp_path, plain)


@pytest.mark.parametrize("right", ["abda", "BACA"])
@pytest.mark.parametrize(
    "names", ["swali,a,b,c,d,jibu", "Swali,Chaguo A,Chaguo B,Chaguo C,Chaguo D,Jibu sahihi"]
)
def test_choices_in_columns_get_one_line_with_the_right_answers(
    tmp_path: Path, names: str, right: str
) -> None:
    path = tmp_path / "a.csv"
    rows = [f"Nini {w}?,a{w},b{w},c{w},d{w},{right[n % 4]}" for n, w in enumerate(WORDS)]
    path.write_text("\n".join([names, *rows]), encoding="utf-8")
    first, *choices, last = names.split(",")
    options = [part for name in choices for part in ("--choices", f"{{{name}}}")]
    assert offered(path) == [["--prompt", f"{{{first}}}", "--completion", f"{{{last}}}", *options]]
    with pytest.raises(InputError) as caught:
        dataset_entry((path,))
    ((files, given),) = settings_that_work(Failed((path,), caught.value, dataset_entry), NOTHING)
    answers = [row.sides[1] for row in dataset_entry(files, given).rows]
    assert answers == [f"{right[n % 4].lower()}{w}" for n, w in enumerate(WORDS)]


def test_answers_of_questions_may_be_numbers_that_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(
        "".join(f"Ana {w} ngapi?\t{n}\n" for n, w in enumerate(WORDS, 5)), encoding="utf-8"
    )
    first, *_ = offered(path)
    assert first == ["--header", "no", "--prompt", "{1}", "--completion", "{2}"]
